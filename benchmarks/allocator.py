"""What the command line's settings of glibc's malloc gain: `python benchmarks/allocator.py`.

A forward pass of the default U-Net or a step of its training, for digits and small images, on one thread, with and
without `scoresde.cli.allocator.keep_freed_memory`, in turn, each in a process of its own: medians of processor time,
page faults, the largest memory in use, and the ratios of pairs. Results go to benchmarks/results/.
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
from record import save
from training_step import timed, trainer_step

from scoresde.cli.allocator import keep_freed_memory
from scoresde.nets import UNet

CASES = {"digits": ((1, 8, 8), 128), "images": ((3, 32, 32), 16)}  # events and batch sizes
Row = dict[str, float]


def measure(keep: bool, case: str, name: str, times: int) -> Row:
    """Of this process: milliseconds and page faults of a pass or step, and its largest memory."""
    if keep:
        assert keep_freed_memory(), "needs glibc, and no MALLOC_* variables"
    torch.set_num_threads(1)
    torch.manual_seed(0)
    event, batch = CASES[case]
    net, x, c = UNet(event), torch.randn(batch, *event), torch.randn(batch)
    step, taken, faults = trainer_step(net, torch.randn(2000, *event), batch), [], []
    for k in range(times + 5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        with torch.set_grad_enabled(name != "forward"):
            taken.append(timed(partial(net, x, c) if name == "forward" else partial(step, k)))
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ms": 1e3 * statistics.median(taken[5:]), "faults": statistics.median(faults[5:]), "MiB": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=6, help="pairs of processes")
    parser.add_argument("--times", type=int, default=40, help="passes or steps in each")
    parser.add_argument("--only", nargs=3, help="print the row of this process: with or without, case, forward or step")
    parser.add_argument("--out", type=Path, help="file of the result")
    a = parser.parse_args()
    if a.only:
        keep, case, name = a.only
        print(json.dumps(measure(keep == "with", case, name, a.times)))
        return
    table = {}
    print(f"{'':24} without     with   ratio   lowest  highest")
    for case, name in itertools.product(CASES, ("forward", "step")):
        found: dict[str, list[Row]] = {"without": [], "with": []}
        for _, keep in itertools.product(range(a.pairs), found):
            words = [sys.executable, __file__, "--times", str(a.times), "--only", keep, case, name]
            found[keep].append(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
        for unit in found["with"][0]:
            plain, kept = ([row[unit] for row in found[keep]] for keep in found)
            ratios = [k / max(p, 1) for p, k in zip(plain, kept, strict=True)]
            values = [*map(statistics.median, (plain, kept, ratios)), min(ratios), max(ratios)]
            table[what := f"{case}, {name}, {unit}"] = values
            print(f"{what:24}" + "{:8.2f} {:8.2f} {:7.3f}  {:7.3f}  {:7.3f}".format(*values))
    print(f"written to {save('allocator', {'pairs': a.pairs, 'times': a.times, 'rows': table}, a.out)}")


if __name__ == "__main__":
    main()
