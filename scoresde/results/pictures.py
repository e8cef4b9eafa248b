"""Samples side by side: a row for each sampler, in each column the same noise, or in the plane a cloud a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from scoresde.results.row import Results, Row

_COLUMNS = 12
_INK, _FAINT = "#333333", "#C4C4C4"
_SAMPLES, _EXACT = "#0072B2", "#D98200"


def pictures(results: Results, folder: Path) -> list[Path]:
    """Write the pictures that suit the data and return their files; none for tables and series."""
    transform = results.transform
    rows = [row for row in results.ordered() if row.shown is not None and row.error is None]
    if transform is None or not rows:
        return []
    if transform.kind == "image":
        budgets = sorted({row.budget for row in rows if row.budget is not None})
        groups: dict[str, list[Row]] = {f"{b}": [r for r in rows if r.budget == b] for b in budgets}
        groups["adaptive"] = [r for r in rows if r.budget is None]
        return [_images(results, own, folder / f"samples-{k}.png", k) for k, own in groups.items() if own]
    if math.prod(transform.event_shape) == 2:
        return [_clouds(results, rows, folder / "samples.png")]
    return []


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, facecolor="white")


def _images(results: Results, rows: Sequence[Row], path: Path, budget: str) -> Path:
    """One line of images for each sampler, under those of the exact endpoints."""
    transform = results.transform
    assert transform is not None
    lines: list[tuple[str, Tensor]] = [(f"exact endpoint{_of(results, k)}", x) for k, x in results.endpoints.items()]
    lines += [(results.label(row), row.shown) for row in rows if row.shown is not None]
    high = transform.high if transform.high is not None else 1.0
    low = transform.low if transform.low is not None else 0.0
    left, top, cell = 2.3, 0.42, 0.62
    width, height = left + _COLUMNS * cell + 0.1, top + len(lines) * cell + 0.1
    figure = _figure(width, height)
    for i, (label, x) in enumerate(lines):
        bottom = height - top - (i + 1) * cell
        figure.text(
            (left - 0.12) / width, (bottom + cell / 2) / height, label, ha="right", va="center", fontsize=9, color=_INK
        )
        for k, image in enumerate(transform.finish(x[:_COLUMNS].nan_to_num())):
            box = ((left + k * cell) / width, bottom / height, 0.95 * cell / width, 0.95 * cell / height)
            ax = figure.add_axes(box)
            pixels = np.moveaxis(image if len(image) == 3 else image[:1].repeat(3, axis=0), 0, -1)
            ax.imshow(((pixels - low) / (high - low)).clip(0, 1), interpolation="nearest")
            ax.set_axis_off()
    what = "solvers that choose their own steps" if budget == "adaptive" else f"{budget} evaluations"
    figure.text(
        left / width, 1 - 0.2 / height, f"{what}; the same noise in each column", va="center", fontsize=10, color=_INK
    )
    figure.savefig(path)
    return path


def _of(results: Results, setting: str) -> str:
    return "" if len(results.settings) < 2 else f", {setting}"


def _clouds(results: Results, rows: Sequence[Row], path: Path) -> Path:
    """A panel for each sampler (rows) and budget (columns), on the axes of the exact endpoints or of the best cloud."""
    transform = results.transform
    assert transform is not None
    names = list(dict.fromkeys((row.family, row.setting) for row in rows))
    columns = sorted({row.budget for row in rows if row.budget is not None})
    across = max(len(columns), max(sum((r.family, r.setting) == n for r in rows) for n in names))
    exact = next(iter(results.endpoints.values()), None)
    best = exact if exact is not None else rows[-1].shown
    assert best is not None
    ruler = transform.finish(best)
    limits = [(v.min() - 0.1 * np.ptp(v), v.max() + 0.1 * np.ptp(v)) for v in ruler.T]
    size, left, top = 1.55, 2.1, 0.42
    width, height = left + across * size + 0.1, top + len(names) * size + 0.1
    figure = _figure(width, height)
    for i, name in enumerate(names):
        own = [row for row in rows if (row.family, row.setting) == name]
        bottom = height - top - (i + 1) * size
        label = results.label(own[0]) if own[0].tolerance is None else own[0].family + _of(results, own[0].setting)
        figure.text(
            (left - 0.15) / width, (bottom + size / 2) / height, label, ha="right", va="center", fontsize=9, color=_INK
        )
        for k, row in enumerate(own):
            assert row.shown is not None
            column = columns.index(row.budget) if row.budget in columns else k
            box = ((left + column * size) / width, bottom / height, 0.94 * size / width, 0.9 * size / height)
            ax = figure.add_axes(box)
            if exact is not None:
                ax.scatter(*ruler.T, s=2, color=_EXACT, alpha=0.5, linewidths=0)
            ax.scatter(*transform.finish(row.shown[: len(ruler)]).T, s=2, color=_SAMPLES, alpha=0.6, linewidths=0)
            ax.set(xlim=limits[0], ylim=limits[1], xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set_color(_FAINT)
            note = f"tolerance {row.tolerance:g}" if row.tolerance is not None else f"NFE {row.nfe:.0f}"
            ax.text(0.03, 0.97, note, transform=ax.transAxes, fontsize=7, va="top", color=_INK)
    what = "samples (blue) over exact endpoints of the same noise (orange)" if exact is not None else "samples"
    figure.text(left / width, 1 - 0.22 / height, what, va="center", fontsize=10, color=_INK)
    figure.savefig(path)
    return path
