"""Endpoint errors of the deterministic solvers beside those of other libraries: `python benchmarks/solvers.py`.

Problems with exact scores, in float64: a plane with 8 unequal narrow modes, 10 anisotropic Gaussians in 64 dimensions,
and the digits as a finite data set (up to 10 evaluations; beyond, good solvers are exact); VP, VE and EDM; 5 to 100
evaluations. An endpoint is compared with the exact solution at noise zero from the same start. A cell is one problem,
SDE and budget; in it every solver has its best grid, and every peer (diffusers, and azula where it is installed) its
best setting. The last lines are geometric means over cells of an error over that of the best peer. Bars: the best of
ours 1.0, `auto` 1.3, with --tune and for 5 to 35 evaluations 0.4 (median and 95th percentile; RMS 1.0).
"""

import argparse
import itertools
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import peers
import torch
import yaml
from exact_problems import PATHS, anisotropic, digits, narrow_modes
from record import save
from torch import Tensor

from scoresde import SDE, ExactModel, GaussianMixture
from scoresde.build import build
from scoresde.comparison.budget import Candidate, fitting
from scoresde.comparison.reference import Distribution, endpoints
from scoresde.noise import Noise
from scoresde.tuning import tune

CONF = Path(__file__).parents[1] / "conf"
BUDGETS = (5, 10, 15, 20, 35, 50, 100)
GRIDS = ("lambda", "karras", "noise_share", "time")


class References:
    """Exact endpoints, remembered by start."""

    def __init__(self, law: Distribution, z: Tensor) -> None:
        self.law, self.z, self._known = law, z, dict[tuple[float, float], Tensor]()

    def distances(self, x: Tensor, scale: float, r: float) -> Tensor:
        """Of endpoints x from y = scale z at r, (n,)."""
        key = (round(scale, 9), round(r, 9))
        if key not in self._known:
            self._known[key] = endpoints(self.law, scale * self.z, r, 1e-9)
        apart: Tensor = (x - self._known[key]).norm(dim=1)
        return apart

    def error(self, x: Tensor, scale: float, r: float) -> dict[str, float]:
        """Of endpoints x from y = scale z at r."""
        apart = self.distances(x, scale, r)
        if not bool(torch.isfinite(apart).all()):
            return {"median": math.inf, "rms": math.inf, "p95": math.inf}
        return {
            "median": float(apart.median()),
            "rms": float(apart.square().mean().sqrt()),
            "p95": float(apart.quantile(0.95)),
        }


def option(group: str, name: str) -> Any:
    return build(yaml.safe_load((CONF / group / f"{name}.yaml").read_text()))


def ours(
    law: Distribution, references: References, sde: SDE, names: list[str], budgets: list[int]
) -> list[dict[str, Any]]:
    """Rows of all solvers, grids and budgets on one path."""
    model, rows, level = ExactModel(law if isinstance(law, GaussianMixture) else law.points, sde), [], sde.at(sde.T)
    for name, grid, budget in itertools.product(names, GRIDS, budgets):
        solver = option("solver", name)
        if name == "auto" and grid != GRIDS[0]:
            continue  # it chooses its own
        candidate = Candidate(name, solver, None if name == "auto" else option("grid", grid))
        try:
            steps = fitting(candidate, budget, model, law.event_shape)
        except ValueError:
            continue  # too few evaluations for this solver
        *_, (_, x) = candidate.sampler(steps).path(model, references.z * sde.prior_std, Noise(0))
        error = references.error(x, sde.prior_std / level.alpha, level.sigma / level.alpha)
        rows.append({"solver": name, "grid": grid, "budget": budget, **error})
    return rows


def theirs(law: Distribution, references: References, sde: SDE, budgets: list[int]) -> list[dict[str, Any]]:
    """Rows of all peers and budgets on one path."""
    rows: list[dict[str, Any]] = []
    for (name, peer), budget in itertools.product(peers.deterministic(sde).items(), budgets):
        try:
            drawn = peer(law, references.z, budget)
        except (ValueError, IndexError, RuntimeError) as error:
            rows.append({"solver": name, "budget": budget, "error": str(error)})
            continue
        if drawn.calls <= budget + 1:
            rows.append({"solver": name, "budget": budget, **references.error(drawn.x, drawn.scale, drawn.ratio)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=128, help="start points")
    parser.add_argument("--solvers", nargs="*", help="names of conf/solver; all deterministic ones unless given")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--tune", type=int, default=0, help="iterations of tuning grids, and as many of coefficients")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = arguments.solvers or deterministic()
    results: list[dict[str, Any]] = []
    problems: dict[str, Distribution] = {
        "modes 2-D": narrow_modes(),
        "Gaussians 64-D": anisotropic(),
        "digits": digits(),
    }
    for problem, law in problems.items():
        budgets = [b for b in BUDGETS if problem != "digits" or b <= 10]
        z = Noise(5).normal("start", 0, (arguments.n, *law.event_shape), dtype=torch.float64)
        references = References(law, z)
        for kind, sde in PATHS.items():
            with torch.no_grad():
                found = [{"who": "ours", **r} for r in ours(law, references, sde, names, budgets)]
                if not arguments.no_peers:
                    found += [{"who": "peers", **r} for r in theirs(law, references, sde, budgets)]
            if arguments.tune:
                found += tuned(law, references, sde, budgets, arguments.tune)
            results += [{"problem": problem, "sde": kind, **r} for r in found]
            report(results[-len(found) :], f"{problem}, {kind}")
    means = summary(results)
    print(f"written to {save('solvers', {'n': arguments.n, 'geometric_means': means, 'rows': results})}")


def deterministic() -> list[str]:
    """Solvers of conf/ that take one or more evaluations a step on a grid and need no noise."""
    names = sorted({p.stem for p in (CONF / "solver").glob("*.yaml")} - {"custom"})
    stochastic_or_adaptive = (
        "adaptive",
        "sde_",
        "seeds",
        "sa_",
        "heun_churn",
        "restart",
        "scipy",
        "torchdiffeq",
        "tuned",
    )
    return [
        n
        for n in names
        if not n.startswith((*stochastic_or_adaptive, "ancestral", "euler_maruyama", "reverse_diffusion"))
    ]


def best(rows: list[dict[str, Any]], who: str, budget: int, figure: str = "median") -> dict[str, Any] | None:
    found = [r for r in rows if r["who"] == who and r["budget"] == budget and math.isfinite(r.get(figure, math.inf))]
    return min(found, key=lambda r: float(r[figure])) if found else None


def report(rows: list[dict[str, Any]], title: str) -> None:
    print(title)
    for budget in BUDGETS:
        for who in ("ours", "tuned", "peers"):
            row = best(rows, who, budget)
            if row:
                print(f"  {budget:4} {who:6} {row['median']:.2e}  {row['solver']} {row.get('grid', '')}", flush=True)


def tuned(
    law: Distribution, references: References, sde: SDE, budgets: list[int], iterations: int
) -> list[dict[str, Any]]:
    """Rows of tuned grids and coefficients on one path; the starts of the tuning are others."""
    model, level, rows = ExactModel(law if isinstance(law, GaussianMixture) else law.points, sde), sde.at(sde.T), []
    for budget in (b for b in budgets if b <= 35):
        found = tune(model, law.event_shape, budget, iterations=iterations, seed=77)
        with torch.no_grad():
            *_, (_, x) = found.sampler.path(model, references.z * sde.prior_std, Noise(0))
        error = references.error(x, sde.prior_std / level.alpha, level.sigma / level.alpha)
        rows.append({"who": "tuned", "solver": "tuned", "budget": budget, "cost": found.evaluations, **error})
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Geometric means over cells of ours over the best of all peers, and over the best of diffusers."""
    cells, found = defaultdict(list), {}
    for row in rows:
        cells[row["problem"], row["sde"], row["budget"]].append(row)
    for pool, name, figure in itertools.product(
        ("peers", "diffusers"), ("ours", "auto", "tuned"), ("median", "p95", "rms")
    ):
        ratios = []
        for (_, _, budget), cell in cells.items():
            mine = [r for r in cell if r["solver"] == name] if name == "auto" else [best(cell, name, budget, figure)]
            others = [r for r in cell if pool == "peers" or r["solver"].startswith("diffusers")]
            theirs = best(others, "peers", budget, figure)
            # most endpoints of a finite law are exact to rounding: there only the RMS says something
            if mine and mine[0] and theirs and min(mine[0][figure], theirs[figure]) > 1e-6:
                ratios.append(math.log(mine[0][figure] / theirs[figure]))
        if ratios:
            mean = math.exp(sum(ratios) / len(ratios))
            found[f"{name} {figure} over {pool}"] = mean
            print(f"{name:6} {figure:6} geometric mean over {len(ratios)} cells: {mean:.3f} of the best of {pool}")
    return found


if __name__ == "__main__":
    main()
