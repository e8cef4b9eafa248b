"""Endpoint errors of `Auto` over those of the best peer setting of each cell: `python benchmarks/auto.py`.

A cell is a member of a family of problems with exact scores, a range of noise, see families.py, and a number of
evaluations; its best peer setting is found in hindsight for each metric, among all of peers.py that spend no more.
An endpoint is compared with the exact solution at noise zero from the same start, in float64. The table has geometric
means over cells of the ratio, with 95 % intervals over resampled starts (the best settings stay).

The candidates and the grid of `Auto` were chosen on the members of seed 0, so the default is seed 1. `auto, left out`
takes for each family the setting, of those in settings.py, that is best on the members of seed 0 of all other
families. Also: how much worse a step more can be on each problem, and the errors on trained runs (--run), against
their own ODE solved finely, beside the best of 28 fixed settings of ours and the best peer.

    python benchmarks/auto.py --ranges 7 --jobs 16 --cache pieces.jsonl    # goes on where it was cut off
"""

import argparse
import hashlib
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import peers
import torch
from families import FAMILIES, cells, exact_model
from journal import Known, Pieces, finish, read
from ratios import Cell, log_ratios, means, metrics, resamples, rise, show, worst
from record import save
from settings import SETTINGS
from solvers import References
from torch import Tensor
from trained import Make, fixed, learned

import scoresde
from scoresde import Auto, ExactModel, GaussianMixture, Sampler, tune
from scoresde.model import Model
from scoresde.noise import Noise
from scoresde.sampling import PilotGrid

BUDGETS = (5, 8, 10, 15, 20, 35, 50)
TUNED = (5, 8, 10)


def from_pilot(model: Model, steps: int) -> Sampler:
    return Sampler(Auto(), PilotGrid(), steps).suited(model)


def tuned(model: Model, steps: int) -> Sampler:
    return tune(model, steps=steps).sampler


OURS: dict[str, Make] = {
    "auto": lambda model, steps: Sampler(Auto(), steps=steps),
    "auto, grid from a pilot": from_pilot,
    "dpmpp_2m karras": fixed("dpmpp_2m", "karras"),
    "unipc_3 lambda": fixed("unipc_3", "lambda"),
    "velocity_3 noise_share": fixed("velocity_3", "noise_share"),
}
OTHERS = {name: (lambda model, steps, other=other: other.sampler(model, steps)) for name, other in SETTINGS.items()}
MAKE = {**OURS, **OTHERS, "tuned": tuned}


def fingerprint() -> str:
    """Of the code that draws and tunes: what it computed once is not that of another version."""
    files = (f for part in ("sampling", "tuning") for f in sorted((Path(scoresde.__file__).parent / part).glob("*.py")))
    return hashlib.sha1(b"".join(f.read_bytes() for f in files)).hexdigest()[:8]


CODE = fingerprint()


def problem(family: str, path: str, seed: int, n: int) -> tuple[ExactModel, References]:
    """A member of a family, and its exact endpoints from n starts."""
    model = exact_model(family, seed, path)
    law = model.data
    assert isinstance(law, GaussianMixture)
    z = torch.randn(n, *law.event_shape, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    return model, References(law, z)


def best_peers(model: ExactModel, references: References, budget: int) -> list[list[Any]]:
    """The best peer setting by each metric, [name, distances (n,)]."""
    apart: dict[str, Tensor] = {}
    for name, peer in peers.deterministic(model.sde).items():
        try:
            drawn = peer(references.law, references.z, budget)
        except (ValueError, IndexError, RuntimeError):
            continue  # it has no such number of steps
        if drawn.calls <= budget:
            apart[name] = references.distances(drawn.x, drawn.scale, drawn.ratio)
    winners = metrics(torch.stack(list(apart.values()))).argmin(1).tolist()
    return [[list(apart)[i], rounded(list(apart.values())[i])] for i in winners]


def rounded(values: Tensor) -> list[float]:
    return [float(f"{v:.4g}") for v in values.tolist()]


def distances(model: ExactModel, references: References, make: Make, steps: int) -> Tensor:
    """Of the endpoints of one of our samplers, (n,)."""
    sde, level = model.sde, model.sde.at(model.sde.t_start)
    *_, (_, x) = make(model, steps).path(model, references.z * sde.prior_std, Noise(0))
    return references.distances(x, sde.prior_std / level.alpha, level.sigma / level.alpha)


def key(kind: str, *place: Any) -> str:
    return " ".join(map(str, (kind, *place)))


@torch.no_grad()
def work(known: Known, kind: str, family: str, path: str, seed: int, n: int, *what: Any) -> Pieces:
    """The pieces of a task that are not known yet."""
    place = family, path, seed, n
    if kind == "peers":
        wanted = {key(kind, *place, budget): partial(best_peers, budget=budget) for budget in what}
    elif kind == "steps":
        first, last = what
        wanted = {key(kind, CODE, *place, first, last): partial(by_steps, steps=range(first, last + 1))}
    else:
        wanted = dict(_ours(kind, place, *what))
    if any(name not in known for name in wanted):
        model, references = problem(family, path, seed, n)
        for name, compute in wanted.items():
            if name not in known:
                yield name, compute(model, references)


def _ours(kind: str, place: Sequence[Any], names: Sequence[str], budgets: Sequence[int]) -> Iterator[tuple[str, Any]]:
    """Distances of our samplers; of `other` settings only the metrics."""
    for name, budget in product(names, budgets):

        def compute(model: ExactModel, references: References, name: str = name, budget: int = budget) -> list[float]:
            apart = distances(model, references, MAKE[name], budget)
            return rounded(metrics(apart) if kind == "other" else apart)

        yield key(kind, CODE, *place, name, budget), compute


def by_steps(model: ExactModel, references: References, steps: range) -> list[float]:
    """Median errors of `Auto` by the number of steps."""
    return rounded(torch.stack([distances(model, references, MAKE["auto"], n).median() for n in steps]))


def left_out(known: Known, a: argparse.Namespace) -> dict[str, str]:
    """For each family the setting with the smallest errors on the members of seed 0 of all other families."""
    logs: dict[str, dict[str, Tensor]] = {}
    for family, path in cells(a.families, a.ranges, 0):
        place = (CODE, family, path, 0, a.n)
        found = {name: [known.get(key("other", *place, name, b)) for b in a.budgets] for name in SETTINGS}
        if all(None not in errors for errors in found.values()):
            errors = torch.tensor([found[name] for name in SETTINGS], dtype=torch.float64)  # (settings, budgets, 3)
            each = logs.setdefault(family, {name: torch.zeros(()) for name in SETTINGS})
            for name, row in zip(SETTINGS, errors.clamp(min=1e-8).log().mean((1, 2)), strict=True):
                each[name] = each[name] + row
    chosen = {}
    for family in a.families:
        others = [logs[f] for f in logs if f != family]
        if others:
            chosen[family] = min(SETTINGS, key=lambda name: float(sum(each[name] for each in others)))
    return chosen


def compute(a: argparse.Namespace, file: Path) -> None:
    """Fill the file: the peers of the first three ranges come first, then ours, then the peers of the others."""
    until = time.monotonic() + a.limit
    here = [(family, path, a.seed, a.n) for family, path in cells(a.families, a.ranges, a.seed)]
    early = set(cells(a.families, min(a.ranges, 3), a.seed))
    size = {place[:2]: -math.prod(exact_model(place[0], a.seed, place[1]).data.means.shape) for place in here}
    places = sorted(here, key=lambda place: (place[:2] not in early, size[place[:2]]))
    theirs = [("peers", *place, *a.budgets) for place in places]
    names = [name for name in OURS if name in MAKE]
    ours: list[tuple[Any, ...]] = [("ours", *place, names, a.budgets) for place in places]
    if a.steps:
        ours += [("steps", *place, *a.steps) for place in places]
    if a.settings:
        ours += [("other", f, p, 0, a.n, list(SETTINGS), a.budgets) for f, p in cells(a.families, a.ranges, 0)]
    if not finish(work, theirs[: len(early)] + ours, file, a.jobs, until):
        return
    chosen = left_out(read(file), a) if a.settings else {}
    last: list[tuple[Any, ...]] = []
    last += [("ours", *place, [chosen[place[0]]], a.budgets) for place in places if place[0] in chosen]
    last += theirs[len(early) :]
    if a.tuned:
        last += [("ours", *place, ["tuned"], TUNED) for place in places]
    finish(work, last, file, a.jobs, until)


def problems(a: argparse.Namespace, known: Known) -> dict[str, Any]:
    """The tables over all cells that are known."""
    chosen, rows, starts = left_out(known, a), list[dict[str, Any]](), resamples(a.n)
    ratios: dict[str, dict[Cell, Tensor]] = {name: {} for name in (*OURS, "auto, left out", "tuned")}
    for (family, path), budget in product(cells(a.families, a.ranges, a.seed), a.budgets):
        place = (family, path, a.seed, a.n)
        if (best := known.get(key("peers", *place, budget))) is None:
            continue
        theirs = torch.tensor([apart for _, apart in best], dtype=torch.float64)
        row = {"cell": [family, path, budget], "peers": [name for name, _ in best]}
        row["of peers"] = compact(metrics(theirs).diagonal())
        for name in ratios:
            own = chosen.get(family) if name == "auto, left out" else name
            if (apart := known.get(key("ours", CODE, *place, own, budget))) is not None:
                mine = torch.tensor(apart, dtype=torch.float64)
                ratios[name][Cell(family, path, budget)] = log_ratios(mine, theirs, starts)
                row[name] = compact(metrics(mine))
        rows.append(row)
    ratios = {name: found for name, found in ratios.items() if found}
    tables = {name: means(found) for name, found in ratios.items()}
    for name, table in tables.items():
        show(name, table)
    found = {"means": tables, "worst": {n: worst(r) for n, r in ratios.items() if n.startswith(("auto", "tuned"))}}
    print(f"\nlargest ratio, cell, cells above 1.1 and 2.5: {found['worst']}\nsettings left out: {chosen}")
    return {**found, "left out": chosen, "steps": risen(a, known), "cells": rows}


def risen(a: argparse.Namespace, known: Known) -> list[list[Any]]:
    """For each problem the largest ratio of a median error to the smallest with fewer steps."""
    rows: list[list[Any]] = []
    for family, path in cells(a.families, a.ranges, a.seed) if a.steps else ():
        medians = known.get(key("steps", CODE, family, path, a.seed, a.n, *a.steps))
        if medians is not None:
            rows.append([family, path, *rise(medians, a.steps[0])])
    rows.sort(key=lambda row: -row[2])
    print(f"largest ratio to fewer steps above 1.15 on {sum(r[2] > 1.15 for r in rows)} of {len(rows)}: {rows[:5]}")
    return rows


def compact(values: Tensor) -> list[float]:
    return [float(f"{v:.3g}") for v in values.tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--ranges", type=int, default=3, help="ranges of noise of a family, of seven")
    parser.add_argument("--budgets", type=int, nargs="*", default=list(BUDGETS))
    parser.add_argument("--seed", type=int, default=1, help="of the members")
    parser.add_argument("--n", type=int, default=64, help="start points")
    parser.add_argument("--steps", type=int, nargs="*", default=[3, 60], help="least and most of the monotone test")
    parser.add_argument("--settings", action="store_true", help="choose the setting of a family on all others")
    parser.add_argument("--tuned", action="store_true", help="tune at 5, 8 and 10 evaluations too")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--limit", type=float, default=1e6, help="seconds, after which the tables are of what is there")
    parser.add_argument("--cache", type=Path, help="a file that keeps every piece, so that a run can go on")
    parser.add_argument("--run", nargs="*", default=[], help="folders of trained runs")
    parser.add_argument("--out", type=Path, help="file of the result")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        file = arguments.cache or Path(folder) / "pieces.jsonl"
        compute(arguments, file)
        found = {"seed": arguments.seed, "n": arguments.n, **problems(arguments, read(file))}
        found["runs"] = [learned(run, arguments.n, arguments.budgets, OURS) for run in arguments.run]
    print(f"written to {save('auto', found, arguments.out)}")


if __name__ == "__main__":
    main()
