"""What the command line's settings of glibc's malloc gain: `python benchmarks/allocator.py`.

A forward pass of the digits U-Net and a step of its training, batch 128, on one thread, with and without
`scoresde.cli.allocator.keep_freed_memory`: processes of their own in turn, and in each the median of processor time.
Reported are the ratios of pairs, the page faults and the largest memory in use. Results go to benchmarks/results/.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from record import save
from training_step import timed, trainer_step

from scoresde.cli.allocator import keep_freed_memory
from scoresde.nets import UNet

EVENT, BATCH = (1, 8, 8), 128
Row = dict[str, float]


def measure(keep: bool, times: int) -> Row:
    """Of this process: milliseconds of a forward pass and of a training step, faults of each, and its memory in MiB."""
    if keep:
        assert keep_freed_memory(), "needs glibc, and no MALLOC_* variables"
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, x, c = UNet(EVENT), torch.randn(BATCH, *EVENT), torch.randn(BATCH)
    step, row = trainer_step(net, torch.randn(2000, *EVENT), BATCH), Row()
    for name in ("forward", "training step"):
        taken, faults = [], []
        for k in range(times + 5):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            with torch.set_grad_enabled(name != "forward"):
                taken.append(timed(lambda k=k: step(k) if torch.is_grad_enabled() else net(x, c)))  # type: ignore[misc]
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        row[f"{name}, ms"] = 1e3 * statistics.median(taken[5:])
        row[f"{name}, faults"] = statistics.median(faults[5:])
    return {**row, "largest memory, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=6, help="pairs of processes")
    parser.add_argument("--times", type=int, default=60, help="passes and steps in each")
    parser.add_argument("--only", choices=("with", "without"), help="measure this process and print JSON")
    parser.add_argument("--out", type=Path, help="file of the result")
    a = parser.parse_args()
    if a.only:
        print(json.dumps(measure(a.only == "with", a.times)))
        return
    found: dict[str, list[Row]] = {"without": [], "with": []}
    for _ in range(a.pairs):
        for name, rows in found.items():
            words = [sys.executable, __file__, "--only", name, "--times", str(a.times)]
            rows.append(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
    table = {}
    print(f"{'':22} without     with   ratio   lowest  highest")
    for key in found["with"][0]:
        plain, kept = ([row[key] for row in found[name]] for name in ("without", "with"))
        ratios = [k / max(p, 1) for p, k in zip(plain, kept, strict=True)]
        figures = [statistics.median(of) for of in (plain, kept, ratios)]
        table[key] = [*figures, min(ratios), max(ratios)]
        print(f"{key:22}" + "{:8.2f} {:8.2f} {:7.3f}  {:7.3f}  {:7.3f}".format(*table[key]))
    print(f"written to {save('allocator', {'pairs': a.pairs, 'times': a.times, 'rows': table}, a.out)}")


if __name__ == "__main__":
    main()
