"""What `tune` gains if starts may move while their endpoints stay: `python benchmarks/soft_target.py`.

Endpoint errors of grids and coefficients tuned with a radius over those without, on starts that no tuning has seen:
geometric means over problems with exact scores, see families.py, with 95 % intervals over resampled starts.
"""

import argparse
from pathlib import Path

import torch
from families import FAMILIES, cells, exact_model
from ratios import Cell, log_ratios, means, resamples, show, worst
from record import save
from torch import Tensor

from scoresde import tune
from scoresde.tuning.pilot import Pilot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--ranges", type=int, default=2, help="ranges of noise of a family, of seven")
    parser.add_argument("--budgets", type=int, nargs="*", default=[5])
    parser.add_argument("--radii", type=float, nargs="*", default=[0.001, 0.003, 0.01])
    parser.add_argument("--seed", type=int, default=0, help="of the members")
    parser.add_argument("--n", type=int, default=1000, help="starts that judge")
    parser.add_argument("--out", type=Path, help="file of the result")
    a = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[float, dict[Cell, Tensor]] = {radius: {} for radius in a.radii}
    for family, path in cells(a.families, a.ranges, a.seed):
        model = exact_model(family, a.seed, path)
        judge = Pilot.of(model, None, 77, range(a.n), 200)
        for steps in a.budgets:
            apart = {}
            for radius in (0.0, *a.radii):
                tuned = tune(model, steps=steps, radius=radius)
                apart[radius] = judge.distances(tuned.times, tuned.coefficients)
            for radius, ratios in found.items():
                same = apart[0.0].expand(3, -1)
                ratios[Cell(family, path, steps)] = log_ratios(apart[radius], same, resamples(a.n))
    tables = {f"radius {radius:g}": means(ratios) for radius, ratios in found.items()}
    for name, table in tables.items():
        show(name, {"all": table["all"]})
    largest = {f"radius {radius:g}": worst(ratios) for radius, ratios in found.items()}
    print(f"largest ratio, cell, cells above 1.1 and 2.5: {largest}")
    print(f"written to {save('soft_target', {'n': a.n, 'means': tables, 'worst': largest}, a.out)}")


if __name__ == "__main__":
    main()
