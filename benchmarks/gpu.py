"""One call on a machine with a GPU: `python benchmarks/gpu.py` takes at most 7.5 minutes.

    matmul      measured peaks: what the rest is held against
    checks      the device against the CPU: samples of an exact score, a U-Net and its gradient, random numbers
    training    images per second: fp32, TF32, bf16, compiled or not, channels_last or not; memory; share of the peak
    sampling    seconds per 1,000 images for several solvers, and what their loops cost beside the network
    peers       the same network driven by torchdiffeq and diffusers, where they are installed

Needs torch, numpy and scipy; torchdiffeq and diffusers are looked for. A row that cannot be measured says why. Results
go to benchmarks/results/ or to --out, after every row. Exit code 1 if a check does not hold.
`--device cpu --quick` runs everything in a tiny size, to see that it runs.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scoresde need not be installed

from gpu_checks import checks
from gpu_report import Report
from gpu_sampling import peers, sampling
from gpu_training import matmuls, networks, training

SECTIONS = {  # each with its share of the time that is left when it begins
    "matmul": (matmuls, 0.1),
    "checks": (checks, 0.2),
    "training": (training, 0.65),
    "sampling": (sampling, 0.7),
    "peers": (peers, 1.0),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--seconds", type=float, default=450.0, help="for all sections together")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections to run")
    parser.add_argument("--networks", nargs="+", default=[], help="train these only, such as UNet NCSNpp")
    parser.add_argument("--out", type=Path, help="file for the results")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; give --device cpu --quick")
    report = Report(device, arguments.quick, arguments.seconds, arguments.out)
    known = networks(report.event, report.quick)
    if unknown := set(arguments.networks) - known.keys():
        parser.error(f"no network {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in arguments.only:
        section, share = SECTIONS[name]
        report.begin(name, share if name != arguments.only[-1] else 1.0)
        section(report, *([arguments.networks] if name == "training" else []))
    failed = [row["name"] for row in report.rows if row.get("passed") is False]
    failed += [row["name"] for row in report.rows if row["section"] == "checks" and "error" in row]
    print(f"\nwritten to {report.write()}")
    if failed:
        print(f"checks that do not hold: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
