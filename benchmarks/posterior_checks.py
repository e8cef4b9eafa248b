"""Does the kernel Stein discrepancy rank posterior samplers without a truth? `python benchmarks/posterior_checks.py`.

The problems and methods of benchmarks/posterior.py, 8-D mixtures on exact scores: of each method its distance to the
exact posterior in floors, its discrepancy at t_min with its p-value, the share of its samples that are distinct, and
for each problem Spearman's correlation of the first two over methods. `equal modes` are draws of the exact posterior
with equal weights for its modes. Distances are geometric means, discrepancies and shares means over problems, with 95 %
intervals by Student's t.

`--calibration 200` instead: of the first mixture 200 items are observed, and each is ranked among 100 samples of each
method given its y, see `scoresde.checks.Calibration`.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from posterior import ours
from posterior_problems import NOISES, SDE, Problem, Row, settings
from record import save
from scipy.stats import spearmanr
from torch import Tensor

from scoresde import ExactModel, GaussianMixture, Sampler
from scoresde import solver as solver_named
from scoresde.checks import Calibration, Target
from scoresde.comparison.problems import Mixture
from scoresde.data import Dataset, Transform
from scoresde.metrics.stein import stein_test
from scoresde.observation import Projection
from scoresde.posterior import Method, Twisted
from scoresde.results import student

_LEVEL = 0.05


def exact(problem: Problem, n: int) -> tuple[Tensor, float, float]:
    return problem.exact.sample(n, seed=7), 0.0, 0.0


def equal_modes(problem: Problem, n: int) -> tuple[Tensor, float, float]:
    own = problem.exact
    covariances = (own.axes * own.variances[:, None]) @ own.axes.mT
    return GaussianMixture(torch.ones_like(own.weights), own.means, covariances).sample(n, seed=7), 0.0, 0.0


def prior(problem: Problem, n: int) -> tuple[Tensor, float, float]:
    found = Sampler(solver_named("ancestral"), steps=100).sample(
        ExactModel(problem.data, SDE), n=n, batch_size=n, dtype=torch.float64
    )
    return found.x, found.nfe, 0.0


ROWS: dict[str, Row] = {
    "exact draws": exact,
    "equal modes": equal_modes,
    **{
        name: ours(settings()[name])
        for name in ("population", "pigdm, sigma_data=0.25", "dps, zeta=1", "mmps", "pigdm")
    },
    "prior": prior,
}


def asked_of(name: str) -> tuple[Method, Sampler]:
    """A method, with the sampler that it has in benchmarks/posterior.py."""
    if name == "twisted":
        return Twisted(1000, 100), Sampler(solver_named("ancestral"), steps=100)
    of_n, sampler = settings()["dps, zeta=1" if name == "dps" else name]
    method = of_n(100)
    assert method is not None
    return method, sampler


def calibrated(names: list[str], n: int) -> list[dict[str, Any]]:
    """Print a line for each method and level of noise."""
    prior, rows = Mixture(8, 6, 0), list[dict[str, Any]]()
    draws = [prior.distribution.sample(n, seed).float() for seed in (1, 2)]
    data = Dataset(draws[0], draws[1], Transform("points", (8,)))
    model = ExactModel(prior.distribution, SDE)
    for sigma in NOISES:
        seen = Projection((8,), rows=3, seed=0, sigma_y=sigma)
        for name in names:
            method, sampler = asked_of(name)
            found = Calibration(seen, method, sampler, n, 100, batch_size=10)(model, data, None)
            shown = (f"{key} {one.value:.3g}" + (f" +- {one.half:.3f}" if one.half == one.half else "")
                     for key, one in found.items())  # fmt: skip
            print(f"sigma_y {sigma}  {name:12}", *shown, sep="  ", flush=True)
            rows.append({"sigma_y": sigma, "name": name, **found})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=5)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--at", type=float, help="time of the noise; t_min by default")
    parser.add_argument("--calibration", type=int, metavar="ITEMS")
    parser.add_argument("--methods", nargs="+", default=["twisted", "population", "mmps", "pigdm", "dps"])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.calibration:
        found_rows = calibrated(asked.methods, asked.calibration)
        save("posterior_calibration", {"items": asked.calibration, "rows": found_rows}, asked.out)
        return
    at, rows = asked.at or SDE.t_min, list[dict[str, Any]]()
    for sigma in NOISES:
        found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in ROWS}
        orders: list[float] = []
        for seed in range(asked.problems):
            problem = Problem("mixture_8d", seed, sigma, asked.n)
            target = Target(ExactModel(problem.data, SDE), problem.observation, problem.y)
            for name, draw in ROWS.items():
                x = draw(problem, asked.n)[0]
                stein, p = stein_test(*target(x, at, seed), seed=seed)
                distinct = len(x.unique(dim=0)) / len(x)
                found[name].append((math.log(problem.distance(x)), stein.value, p, distinct))
            both = [[own[-1][k] for own in found.values()] for k in (0, 1)]
            orders.append(float(spearmanr(*both).statistic))
        print(f"sigma_y = {sigma}: rank correlation of discrepancy and distance {student(orders)}", flush=True)
        for name, own in found.items():
            logs, values, ps, distinct = (list(column) for column in zip(*own, strict=True))
            mean, half = student(logs)
            floors = tuple(math.exp(mean + k * half) for k in (0, -1, 1))
            few = sum(p < _LEVEL for p in ps)
            row = {"floors": floors, "stein": student(values), "p": ps, "distinct": student(distinct)}
            shown = f"{floors[0]:6.2f} ({floors[1]:.2f} to {floors[2]:.2f})  {row['stein']!s:24} {row['distinct']!s:15}"
            print(f"{name:24} {shown} p < {_LEVEL}: {few} of {len(ps)}  ", *(f"{p:.3f}" for p in ps), flush=True)
            rows.append({"sigma_y": sigma, "name": name, **row})
    save("posterior_checks", {"problems": asked.problems, "n": asked.n, "at": at, "rows": rows}, asked.out)


if __name__ == "__main__":
    main()
