"""Tables of errors over those of the best peer: geometric means over cells, with intervals over resampled starts."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

METRICS = ("median", "p95", "rms")
RESAMPLED = 400


class Cell(NamedTuple):
    family: str
    path: str
    budget: int


Means = dict[str, dict[str, list[float]]]


def metrics(apart: Tensor) -> Tensor:
    """Median, 95th percentile and root mean square of distances (..., n), as (3, ...); inf if one is not finite."""
    found = torch.stack((apart.median(-1).values, apart.quantile(0.95, -1), apart.square().mean(-1).sqrt()))
    return torch.where(apart.isfinite().all(-1), found, math.inf)


def resamples(n: int) -> Tensor:
    """Rows (1 + R, n) of n starts: all of them, then resamples."""
    drawn = torch.randint(n, (RESAMPLED, n), generator=torch.Generator().manual_seed(1))
    return torch.cat((torch.arange(n)[None], drawn))


def log_ratios(mine: Tensor, best: Tensor, rows: Tensor) -> Tensor:
    """log of each metric of distances (n,) over that of its best peer (3, n), for each of the rows (R, n): (R, 3)."""
    theirs = metrics(best[:, rows]).diagonal().T
    return torch.log(metrics(mine[rows]) / theirs).T


def means(found: dict[Cell, Tensor]) -> Means:
    """Geometric means over cells, with intervals: of all, without the unknown scale, by budget, path and family."""
    groups: dict[str, Callable[[Cell], bool]] = {
        "all": lambda cell: True,
        "without unnormalised": lambda cell: cell.family != "unnormalised",
    }
    for place in (2, 1, 0):
        for shared in dict.fromkeys(cell[place] for cell in found):
            groups[str(shared)] = lambda cell, place=place, shared=shared: cell[place] == shared
    table: Means = {}
    for name, belongs in groups.items():
        if group := [value for cell, value in found.items() if belongs(cell)]:
            value = torch.stack(group).mean(0).exp()  # (1 + R, 3), the first not resampled
            ends = value[1:].quantile(torch.tensor([0.025, 0.975], dtype=value.dtype), 0)
            rows = torch.stack((value[0], *ends), 1)
            table[name] = {m: [round(v, 3) for v in row] for m, row in zip(METRICS, rows.tolist(), strict=True)}
    return table


def show(name: str, table: Means) -> None:
    print(f"\n{name:24}" + "".join(f"{m:>22}" for m in METRICS))
    for group, row in table.items():
        print(f"{group:24}" + "".join("{:8.2f} ({:.2f} to {:.2f})".format(*row[m]).rjust(22) for m in METRICS))


def worst(found: dict[Cell, Tensor]) -> dict[str, list[object]]:
    """The largest ratio of each metric, its cell, and the numbers of cells above 1.1 and above 2.5."""
    table = {}
    for i, metric in enumerate(METRICS):
        each = {cell: math.exp(float(value[0, i])) for cell, value in found.items()}
        cell = max(each, key=each.__getitem__)
        table[metric] = [round(each[cell], 2), *cell, *(sum(r > bar for r in each.values()) for bar in (1.1, 2.5))]
    return table


def rise(medians: Sequence[float], first: int) -> tuple[float, int]:
    """The largest ratio of a median error to the smallest with fewer steps, and its number of steps."""
    errors = torch.tensor(medians, dtype=torch.float64).clamp(min=1e-8)  # the exact endpoints are no better
    ratios = errors[1:] / errors.cummin(0).values[:-1]
    return round(float(ratios.max()), 3), first + 1 + int(ratios.argmax())
