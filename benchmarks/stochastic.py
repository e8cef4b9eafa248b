"""Laws drawn by the stochastic solvers beside those of diffusers: `python benchmarks/stochastic.py`.

Problems with exact scores, see exact_problems.py, on VP, VE and EDM, at 5 to 100 evaluations. What is measured is the
sliced Wasserstein distance to as many draws from the data, and beside it the floor: that of two draws from the data.
Every solver has its best grid and every peer its best setting in a cell; the last lines are geometric means over cells
of a distance over that of the best peer, and over the floor. Distances carry the interval of independent seeds.

What a grid does for each rule, with members and paths of families.py; the grid `default` is that of the rule:

    python benchmarks/stochastic.py --by-grid --no-peers --solvers ancestral euler_maruyama reverse_diffusion \
        --grids lambda noise_share default --problems "modes 2-D" "Gaussians 64-D" blobs rings \
        --paths vp ve edm cosine rectified --budgets 10 20 35
"""

import argparse
import itertools
import statistics
from pathlib import Path
from typing import Any

import peers
import torch
from exact_problems import PATHS, anisotropic, narrow_modes
from families import FAMILIES, RANGES, exact_model, moments
from record import save
from solvers import option
from torch import Tensor

from scoresde import SDE, ExactModel, GaussianMixture
from scoresde.comparison.budget import Candidate, fitting
from scoresde.metrics.sliced import sliced_wasserstein
from scoresde.noise import Noise

BUDGETS = (5, 8, 10, 12, 20, 35, 50, 100)
GRIDS = ("lambda", "karras", "noise_share")
SOLVERS = (
    "sde_dpmpp_2m",
    "sde_dpmpp_3m",
    "sa_solver",
    "seeds_2",
    "seeds_3",
    "ancestral",
    "reverse_diffusion",
    "euler_maruyama",
    "heun_churn",
    "auto",
)
Row = dict[str, Any]


PROBLEMS = {"modes 2-D": narrow_modes, "Gaussians 64-D": anisotropic}


def problem(name: str) -> GaussianMixture:
    """One of PROBLEMS, or the member of seed 0 of a family."""
    return PROBLEMS[name]() if name in PROBLEMS else exact_model(name, 0, "vp").data  # type: ignore[return-value]


def exact(law: GaussianMixture, sde: SDE) -> ExactModel:
    """The exact model, which knows the standard deviation of the data."""
    model = ExactModel(law, sde)
    model.sigma_data = moments(law)[1]
    return model


def drawn_by_ours(law: GaussianMixture, sde: SDE, name: str, grid: str, budget: int, n: int, seed: int) -> Tensor:
    solver = option("solver", name)
    if name == "auto":
        solver = solver.with_eta(1.0)
    candidate = Candidate(name, solver, None if name == "auto" or grid == "default" else option("grid", grid))
    model = exact(law, sde)
    sampler = candidate.sampler(fitting(candidate, budget, model, law.event_shape))
    return sampler.sample(model, law.event_shape, n, seed=seed, batch_size=n, dtype=torch.float64).x


def rows_of(law: GaussianMixture, kind: str, given: argparse.Namespace) -> list[Row]:
    """Every solver, grid and peer at every budget on one path; the distances of all seeds."""
    n, seeds, projections, budgets = given.n, given.seeds, given.projections, given.budgets
    real = [law.sample(n, 1000 + s) for s in range(seeds + 1)]
    floor = [sliced_wasserstein(real[s], real[s + 1], projections) for s in range(seeds)]
    rows: list[Row] = [{"who": "floor", "solver": "floor", "budget": b, "distances": floor} for b in budgets]
    for name, grid, budget in itertools.product(given.solvers, given.grids, budgets):
        if name == "auto" and grid != given.grids[0]:
            continue  # it chooses its own
        try:
            found = [drawn_by_ours(law, RANGES[kind], name, grid, budget, n, s) for s in range(seeds)]
        except ValueError:
            continue  # too few evaluations for this solver, or samples that are not finite
        apart = [sliced_wasserstein(x, y, projections) for x, y in zip(found, real, strict=False)]
        rows.append({"who": "ours", "solver": name, "grid": grid, "budget": budget, "distances": apart})
    others = peers.stochastic(RANGES[kind]) if given.peers else {}
    for (name, peer), budget in itertools.product(others.items(), budgets):
        torch.manual_seed(0)
        try:
            found = [
                peer(law, Noise(s).normal("start", 0, (n, *law.event_shape)).double(), budget).x for s in range(seeds)
            ]
        except (ValueError, IndexError, RuntimeError):
            continue
        if all(bool(torch.isfinite(x).all()) for x in found):
            apart = [sliced_wasserstein(x, y, projections) for x, y in zip(found, real, strict=False)]
            rows.append({"who": "peers", "solver": name, "budget": budget, "distances": apart})
    return rows


def best(rows: list[Row], who: str, budget: int) -> Row | None:
    found = [r for r in rows if r["who"] == who and r["budget"] == budget]
    return min(found, key=lambda r: statistics.mean(r["distances"])) if found else None


def report(rows: list[Row], title: str) -> None:
    print(title)
    for budget in sorted({r["budget"] for r in rows}):
        for who in ("ours", "auto", "peers", "floor"):
            of = [{**r, "who": "auto"} for r in rows if r["solver"] == "auto"] if who == "auto" else rows
            row = best(of, who, budget)
            if row:
                mean, spread = statistics.mean(row["distances"]), statistics.stdev(row["distances"])
                print(
                    f"  {budget:4} {who:6} {mean:.4f} +- {spread:.4f}  {row['solver']} {row.get('grid', '')}",
                    flush=True,
                )


def summary(rows: list[Row]) -> None:
    cells = sorted({(r["problem"], r["sde"], r["budget"]) for r in rows})
    for who, other in (("ours", "peers"), ("auto", "peers"), ("ours", "floor"), ("auto", "floor"), ("peers", "floor")):
        ratios = []
        for problem, sde, budget in cells:
            cell = [r for r in rows if (r["problem"], r["sde"]) == (problem, sde)]
            auto = [r for r in cell if r["solver"] == "auto"]
            mine = best(auto, "ours", budget) if who == "auto" else best(cell, who, budget)
            theirs = best(cell, other, budget)
            if mine and theirs:
                ratios.append(statistics.mean(mine["distances"]) / statistics.mean(theirs["distances"]))
        if ratios:
            mean = statistics.geometric_mean(ratios)
            print(f"{who:6} over {other:6} geometric mean over {len(ratios)} cells: {mean:.3f}")


def by_grid(rows: list[Row], paths: list[str]) -> None:
    """Distances of each rule on each grid over the floor at all budgets: geometric means over problems."""
    floors = {r["problem"]: statistics.mean(r["distances"]) for r in rows if r["who"] == "floor"}
    ours = [r for r in rows if r["who"] == "ours"]
    print(f"\n{'rule':20}{'grid':14}" + "".join(f"{path:>20}" for path in ("all", *paths)))
    for name, grid in dict.fromkeys((r["solver"], r["grid"]) for r in ours):
        cells = []
        for path in ("all", *paths):
            found: dict[int, list[float]] = {}
            for r in ours:
                if (r["solver"], r["grid"]) == (name, grid) and path in ("all", r["sde"]):
                    ratio = statistics.mean(r["distances"]) / floors[r["problem"]]
                    found.setdefault(r["budget"], []).append(ratio)
            cells.append(" / ".join(f"{statistics.geometric_mean(of):.2g}" for of in found.values()))
        print(f"{name:20}{grid:14}" + "".join(f"{cell:>20}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=2000, help="samples of a seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--projections", type=int, default=200)
    parser.add_argument("--budgets", type=int, nargs="*", default=list(BUDGETS))
    parser.add_argument("--solvers", nargs="*", default=list(SOLVERS))
    parser.add_argument("--grids", nargs="*", default=list(GRIDS), help="or default, that of each solver")
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS), choices=[*PROBLEMS, *FAMILIES])
    parser.add_argument("--paths", nargs="*", default=list(PATHS), choices=list(RANGES))
    parser.add_argument("--by-grid", action="store_true", help="a table by solver and grid")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, help="file of the result")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name in arguments.problems:
        law = problem(name)
        for kind in arguments.paths:
            with torch.no_grad():
                found = rows_of(law, kind, arguments)
            rows += [{"problem": name, "sde": kind, **r} for r in found]
            report(found, f"{name}, {kind}")
    print(f"written to {save('stochastic', {'n': arguments.n, 'rows': rows}, arguments.out)}")
    summary(rows)
    if arguments.by_grid:
        by_grid(rows, arguments.paths)


if __name__ == "__main__":
    main()
