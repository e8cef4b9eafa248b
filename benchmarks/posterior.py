"""How far posterior samples are from the exact posterior: `python benchmarks/posterior.py --problem mixture_8d`.

Random Gaussian mixtures (`scoresde.comparison.problems.Mixture`, seeds 0, 1, ...) under random orthonormal projections,
with one observation each, so that the posterior is a mixture in closed form. The distance is the sliced Wasserstein
distance of n samples to n exact ones, in floors: the geometric mean of four distances between exact samples. Rows are
methods at about 100 network calls, on exact scores of the VP path, and those of other libraries, see
benchmarks/posterior_peers.py. Means are geometric, over problems, with 95 % intervals by Student's t on logarithms.

Each row is written to results/posterior-PROBLEM.json when it is done, in place of an earlier one; `--only twisted`
measures the rows whose names begin so. Docstrings and docs/posterior.md quote that file, and the tests hold them to it:
`--tables` prints what stands in the page.
"""

import argparse
import itertools
import math
from datetime import date
from pathlib import Path
from typing import Any

import torch
from posterior_figures import TABLES, Figures, cell, comparison
from posterior_peers import azula_rows, deepinv_rows
from posterior_problems import NOISES, OTHERS, SDE, SIZES, Problem, Row, Setting, settings
from torch import Tensor

from scoresde import ExactModel, Posterior

CHECK = ("mixture_8d", 0, NOISES[0], 200)  # what the tests measure again: problem, seed, sigma_y and n


def ours(setting: Setting) -> Row:
    """A method of ours."""

    def draw(problem: Problem, n: int) -> tuple[Tensor, float, float]:
        prior, method = ExactModel(problem.data, SDE), setting.of_n(n)
        asked = Posterior(prior, problem.observation, problem.y, method) if method else ExactModel(problem.exact, SDE)
        found = setting.sampler.sample(asked, n=n, batch_size=n, dtype=torch.float64)
        return found.x, found.nfe, found.products

    return draw


def own_rows() -> dict[str, Row]:
    return {name: ours(setting) for name, setting in settings().items()}


def measured(name: str, row: Row, problems: dict[float, list[Problem]], n: int) -> dict[str, Any]:
    """A row of the figures."""
    floors: dict[str, list[float]] = {}
    for sigma, several in problems.items():
        drawn = [row(problem, n) for problem in several]
        distances = [problem.distance(x) for problem, (x, *_) in zip(several, drawn, strict=True)]
        floors[f"{sigma:g}"] = [float(f"{value:.5g}") for value in cell(distances)]
        calls, products = drawn[0][1:]
    spent = {"calls": calls, "products": None if math.isnan(products) else products}
    return {"name": name, "date": f"{date.today()}", **spent, "floors": floors}


def checked(row: Row) -> float:
    """The distance in floors on the problem of `CHECK`."""
    name, seed, sigma, n = CHECK
    problem = Problem(name, seed, sigma, n)
    return problem.distance(row(problem, n)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", choices=SIZES | OTHERS, default="mixture_8d")
    parser.add_argument("--problems", type=int, default=5, help="random mixtures, with one observation each")
    parser.add_argument("--n", type=int, default=2000, help="samples")
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose names begin so")
    parser.add_argument("--skip", nargs="+", default=[], help="rows that are left out")
    parser.add_argument("--tables", action="store_true", help="print the tables of docs/posterior.md")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.tables:
        for table in TABLES:
            print("\n".join([*table(), ""]))
        print(comparison())
        return
    torch.set_num_threads(1)
    figures, seeds = Figures(asked.problem, asked.out), range(asked.problems)
    figures.check(asked.n, asked.problems)
    problems = {sigma: [Problem(asked.problem, seed, sigma, asked.n) for seed in seeds] for sigma in NOISES}
    print(f"{asked.problem}, {asked.problems} problems, n = {asked.n}: distance in floors at sigma_y = {NOISES}")
    own = own_rows()
    for name, draw in itertools.chain(own.items(), azula_rows(), deepinv_rows()):
        if not name.startswith(tuple(asked.only)) or name in asked.skip:
            continue
        row = measured(name, draw, problems, asked.n)
        if asked.problem == CHECK[0] and name in own:
            row["check"] = float(f"{checked(draw):.8g}")
        figures.put(asked.n, asked.problems, row)
        cells = "   ".join(map(str, figures.cells(name)))
        print(f"{name:28s} {row['calls']:4.0f} calls {row['products'] or 0:5.0f} products   {cells}", flush=True)
    print(f"written to {figures.file}")


if __name__ == "__main__":
    main()
