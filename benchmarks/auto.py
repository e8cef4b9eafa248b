"""Endpoint errors of `Auto` over those of the best peer setting of each cell: `python benchmarks/auto.py`.

A cell is a member of a family of problems with exact scores, a range of noise, see families.py, and a number of
evaluations; its best peer setting is found in hindsight for each metric, among all of peers.py that spend no more.
An endpoint is compared with the exact solution at noise zero from the same start, in float64. The table has geometric
means over cells of the ratio, with 95 % intervals over resampled starts (the best settings stay). The candidates and
the grid of `Auto` were chosen on the members of seed 0, so the default is seed 1. Also: how much worse a step more can
be, and the errors on trained runs (--run), against their own ODE solved finely and the best of 28 fixed settings.
"""

import argparse
import itertools
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import peers
import torch
from families import FAMILIES, cells, exact_model
from record import save
from solvers import References
from torch import Tensor

from scoresde import Auto, ExactModel, GaussianMixture, Sampler, grid, load, solver
from scoresde.noise import Noise

BUDGETS = (5, 8, 10, 15, 20, 35, 50)
METRICS = ("median", "p95", "rms")
OURS = {
    "auto": Sampler(Auto()),
    "dpmpp_2m karras": Sampler(solver("dpmpp_2m"), grid("karras")),
    "unipc_3 lambda": Sampler(solver("unipc_3"), grid("lambda")),
    "velocity_3 noise_share": Sampler(solver("velocity_3"), grid("noise_share")),
}
FIXED = ("dpmpp_2m", "dpmpp_3m", "unipc_3", "velocity_2", "velocity_3", "deis", "ipndm")
GRIDS = ("lambda", "karras", "noise_share", "time")
RESAMPLED = 400
_ROUNDING = 1e-8  # the exact endpoints are no better


def metrics(apart: Tensor) -> Tensor:
    """Median, 95th percentile and root mean square of distances (..., n), as (3, ...); inf if one is not finite."""
    found = torch.stack((apart.median(-1).values, apart.quantile(0.95, -1), apart.square().mean(-1).sqrt()))
    return torch.where(apart.isfinite().all(-1), found, math.inf)


def best_peers(model: ExactModel, references: References, budgets: Iterable[int]) -> dict[str, list[list[Any]]]:
    """For each budget the best peer setting by each metric, [name, distances (n,)]."""
    pool, found = peers.deterministic(model.sde), {}
    for budget in budgets:
        apart: dict[str, Tensor] = {}
        for name, peer in pool.items():
            try:
                drawn = peer(references.law, references.z, budget)
            except (ValueError, IndexError, RuntimeError):
                continue  # it has no such number of steps
            if drawn.calls <= budget:
                apart[name] = references.distances(drawn.x, drawn.scale, drawn.ratio)
        winners = metrics(torch.stack(list(apart.values()))).argmin(1).tolist()
        found[str(budget)] = [[list(apart)[i], list(apart.values())[i].tolist()] for i in winners]
    return found


class Peers:
    """The best peer settings, kept in a file."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.known = json.loads(file.read_text()) if file and file.exists() else {}

    def __call__(self, key: str, model: ExactModel, references: References, budgets: Sequence[int]) -> Any:
        mine = self.known.setdefault(key, {})
        if missing := [b for b in budgets if str(b) not in mine]:
            mine.update(best_peers(model, references, missing))
            if self.file:
                self.file.write_text(json.dumps(self.known))
        return mine


def distances(model: ExactModel, references: References, sampler: Sampler, steps: int) -> Tensor:
    """Of the endpoints of one of our samplers, (n,)."""
    sde, level = model.sde, model.sde.at(model.sde.t_start)
    sampler = Sampler(sampler.solver, sampler.grid, steps)
    *_, (_, x) = sampler.path(model, references.z * sde.prior_std, Noise(0))
    return references.distances(x, sde.prior_std / level.alpha, level.sigma / level.alpha)


def log_ratios(mine: Tensor, best: Tensor, rows: Tensor) -> Tensor:
    """log of each metric of distances (n,) over that of its best peer, (3, n), for each resample (R, n): (R, 3)."""
    theirs = metrics(best[:, rows]).diagonal().T
    return torch.log(metrics(mine[rows]) / theirs).T


def rising(model: ExactModel, references: References, steps: range) -> tuple[float, int]:
    """The largest ratio of a median error to the smallest with fewer steps, and its number of steps."""
    errors = torch.stack([distances(model, references, OURS["auto"], n).median() for n in steps]).clamp(min=_ROUNDING)
    ratios = errors[1:] / errors.cummin(0).values[:-1]
    return round(float(ratios.max()), 3), steps[1 + int(ratios.argmax())]


def learned(run: str, n: int, budgets: Sequence[int]) -> dict[str, Any]:
    """Median distances of a trained run's samples to its own ODE solved finely, from the same noise."""
    model = load(run).model
    fine = [Sampler(solver("rk4"), grid(g), steps=150).sample(model, n=n).x for g in ("lambda", "noise_share")]

    def median(sampler: Sampler) -> float:
        return float((sampler.sample(model, n=n).x - fine[0]).flatten(1).norm(dim=1).median())

    rows = []
    for steps in budgets:
        fixed = {}
        for name, where in itertools.product(FIXED, GRIDS):
            try:
                fixed[f"{name} {where}"] = median(Sampler(solver(name), grid(where), steps))
            except ValueError:
                continue  # samples that are not finite
        best = min(fixed, key=lambda name: fixed[name])
        row = {"budget": steps, "auto": median(Sampler(Auto(), steps=steps)), "best": best, "of best": fixed[best]}
        rows.append(row)
        print(f"{Path(run).name} {steps:3}: auto {row['auto']:.2g}, {best} {fixed[best]:.2g}", flush=True)
    accuracy = float((fine[0] - fine[1]).flatten(1).norm(dim=1).median())
    return {"run": Path(run).name, "apart": accuracy, "rows": rows}


def table(found: dict[tuple[str, str, int], Tensor]) -> dict[str, dict[str, list[float]]]:
    """Geometric means over cells, with intervals: of all, without the unknown scale, by budget, by family."""
    groups = {"all": list(found), "without unnormalised": [cell for cell in found if cell[0] != "unnormalised"]}
    for place in (2, 0):
        for shared in dict.fromkeys(cell[place] for cell in found):
            groups[str(shared)] = [cell for cell in found if cell[place] == shared]
    means = {}
    for name, group in groups.items():
        if group:
            value = torch.stack([found[cell] for cell in group]).mean(0).exp()  # (1 + R, 3), the first not resampled
            ends = value[1:].quantile(torch.tensor([0.025, 0.975], dtype=value.dtype), 0)
            rows = torch.stack((value[0], *ends), 1)
            means[name] = {m: [round(v, 3) for v in row] for m, row in zip(METRICS, rows.tolist(), strict=True)}
    return means


def show(name: str, means: dict[str, dict[str, list[float]]]) -> None:
    print(f"\n{name:24}" + "".join(f"{m:>22}" for m in METRICS))
    for group, row in means.items():
        print(f"{group:24}" + "".join("{:8.2f} ({:.2f} to {:.2f})".format(*row[m]).rjust(22) for m in METRICS))


def problems(arguments: argparse.Namespace) -> dict[str, Any]:
    """All cells, the tables over them, and the largest ratio between numbers of steps."""
    known, rows, steps = Peers(arguments.cache), list[dict[str, Any]](), list[list[Any]]()
    starts = torch.randint(arguments.n, (RESAMPLED, arguments.n), generator=torch.Generator().manual_seed(1))
    starts = torch.cat((torch.arange(arguments.n)[None], starts))
    ratios: dict[str, dict[tuple[str, str, int], Tensor]] = {name: {} for name in OURS}
    for family, path in cells(arguments.families, arguments.ranges, arguments.seed):
        model = exact_model(family, arguments.seed, path)
        law = model.data
        assert isinstance(law, GaussianMixture)
        z = torch.randn(arguments.n, *law.event_shape, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
        references = References(law, z)
        key = f"{family} {arguments.seed} {path} {arguments.n}"
        best = known(key, model, references, arguments.budgets)
        for budget in arguments.budgets:
            theirs = torch.tensor([apart for _, apart in best[str(budget)]], dtype=torch.float64)
            names = [name for name, _ in best[str(budget)]]
            row = {"cell": [family, path, budget], "peers": names, "of peers": compact(metrics(theirs).diagonal())}
            for name, sampler in OURS.items():
                mine = distances(model, references, sampler, budget)
                ratios[name][family, path, budget] = log_ratios(mine, theirs, starts)
                row[name] = compact(metrics(mine))
            rows.append(row)
        if arguments.steps and family not in [cell[0] for cell in steps]:
            steps.append([family, path, *rising(model, references, range(arguments.steps[0], arguments.steps[1] + 1))])
        print(f"{family} on {path}", flush=True)
    means = {name: table(found) for name, found in ratios.items()}
    worst = {}
    for i, metric in enumerate(METRICS):
        cell = max(ratios["auto"], key=lambda c: float(ratios["auto"][c][0, i]))
        worst[metric] = [round(math.exp(float(ratios["auto"][cell][0, i])), 2), *cell]
    for name, found in means.items():
        show(name, found)
    print(f"\nworst cells of auto: {worst}\nlargest ratio to fewer steps: {steps}")
    return {"means": means, "worst": worst, "steps": steps, "cells": rows}


def compact(values: Tensor) -> list[float]:
    return [float(f"{v:.3g}") for v in values.tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--ranges", type=int, default=3, help="ranges of noise of a family, of seven")
    parser.add_argument("--budgets", type=int, nargs="*", default=list(BUDGETS))
    parser.add_argument("--seed", type=int, default=1, help="of the members")
    parser.add_argument("--n", type=int, default=64, help="start points")
    parser.add_argument("--steps", type=int, nargs=2, default=[3, 60], help="least and most steps of the last test")
    parser.add_argument("--cache", type=Path, help="a file that keeps the best peers")
    parser.add_argument("--run", nargs="*", default=[], help="folders of trained runs")
    parser.add_argument("--out", type=Path, help="file of the result")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        found = {"seed": arguments.seed, "n": arguments.n, **problems(arguments)}
        found["runs"] = [learned(run, arguments.n, arguments.budgets) for run in arguments.run]
    print(f"written to {save('auto', found, arguments.out)}")


if __name__ == "__main__":
    main()
