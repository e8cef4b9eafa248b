"""How far methods of posterior sampling end from exact posteriors of several modes, and whether they are calibrated.

    python benchmarks/inverse.py inverse_modes --n 1000 --seeds 8
    python benchmarks/inverse.py inverse_mixture --ranks --n 99 --seeds 200

The problems are those of conf/problem, the methods those of benchmarks/posterior.py at the same calls. Each seed has a
truth and a y. Without --ranks: the sliced Wasserstein distance of n samples to the exact posterior, over that of exact
draws to each other (both as the mean of eight pairs), geometric mean over seeds with a 95 % interval, and the share of
modes that have samples. With --ranks: the share of values of the truth within the central 50 and 90 % of n samples, and
the p-value of a test that ranks of its first value are uniform. Rows are written to results/posterior-PROBLEM.json and
results/posterior-PROBLEM-ranks.json when they are done.
"""

import argparse
import sys
from collections.abc import Iterable
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import torch
from posterior_figures import Figures, cell
from posterior_problems import SDE, Setting, settings
from scipy import stats
from torch import Tensor

from scoresde.comparison import Inverse
from scoresde.metrics import sliced_wasserstein
from scoresde.named import named
from scoresde.results.interval import student
from scoresde.sampling import Samples

PAIRS = 8  # of clouds, for a distance


def drawn(problem: Inverse, own: Setting, n: int, seed: int) -> Samples:
    model = problem.asked(problem.model(SDE, "cpu"), own.of_n(n), seed)
    return own.sampler.sample(model, n=n, seed=seed, batch_size=n, dtype=torch.float64)


@cache
def references(problem: Inverse, n: int, seed: int) -> tuple[list[Tensor], float]:
    """Exact draws, and the sum of their distances to others."""
    exact = problem.posterior(seed)
    clouds = [exact.sample(n, 1000 * seed + k) for k in range(2 * PAIRS)]
    pairs = zip(clouds[:PAIRS], clouds[PAIRS:], strict=True)
    return clouds[:PAIRS], sum(sliced_wasserstein(*pair) for pair in pairs)


def distances(problem: Inverse, own: Setting, n: int, seeds: int) -> dict[str, Any]:
    """The distance in floors, the share of modes that were found and what it cost."""
    floors, modes = [], []
    for seed in range(seeds):
        clouds, floor = references(problem, n, seed)
        found = drawn(problem, own, n, seed)
        floors.append(sum(sliced_wasserstein(found.x, cloud) for cloud in clouds) / floor)
        measured = problem.measured(found, seed, None, problem.real(n, [seed])[0])
        modes += [value.value for key, value in measured.items() if key == "modes_found"]
        progress(seed, seeds)
    share = round(sum(modes) / seeds, 4) if modes else None
    return {"calls": found.nfe, "products": found.products, "floors": rounded(cell(floors)), "modes": share}


def calibration(problem: Inverse, own: Setting | None, n: int, seeds: int) -> dict[str, Any]:
    """Coverage by central intervals, and the p-value of uniform ranks; of exact draws without a setting."""
    ranks = []
    for seed in range(seeds):
        x = drawn(problem, own, n, seed).x if own else problem.posterior(seed).sample(n, 1000 * seed)
        truth = problem.seen(seed)[0]
        ranks.append((x < truth).double().mean(0).flatten())
        progress(seed, seeds)
    below = torch.stack(ranks)
    inside = [student(((below - 0.5).abs() <= p / 200).double().mean(1).tolist()) for p in (50, 90)]
    counts = torch.histc(below[:, 0], 10, 0, 1)  # of one value, since those of an item depend on each other
    p_value = float(f"{stats.chisquare(counts).pvalue:.3g}")
    return {"covered": [rounded(one) for one in inside], "p": p_value}


def rounded(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def progress(done: int, of: int) -> None:
    print(f"\r{done + 1} of {of}\r", end="", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem")
    parser.add_argument("--ranks", action="store_true")
    parser.add_argument("--only", nargs="+", default=[""], help="methods whose names begin so")
    parser.add_argument("--skip", nargs="+", default=[], help="methods that are left out")
    parser.add_argument("--n", type=int, default=1000, help="samples of each seed")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    problem, measure = named("problem", asked.problem), calibration if asked.ranks else distances
    rows: dict[str, Any] = {"exact draws": None, **settings()} if asked.ranks else settings()
    figures = Figures(asked.problem + ("-ranks" if asked.ranks else ""), asked.out)
    figures.check(asked.n, asked.seeds)
    for name, own in rows.items():
        if name.startswith(tuple(asked.only)) and name not in asked.skip:
            row = {"name": name, "date": f"{date.today()}", **measure(problem, own, asked.n, asked.seeds)}
            figures.put(asked.n, asked.seeds, row)
            print(name, {key: value for key, value in row.items() if key not in ("name", "date")}, flush=True)
    print(f"written to {figures.file}")


if __name__ == "__main__":
    main()
