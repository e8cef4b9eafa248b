"""Quality against evaluations and against seconds: intervals, floors, and lines that differ without colour too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from scoresde.figures.style import INK, both, plain, wrapped
from scoresde.results.metric import Quantity
from scoresde.results.rows import Row, Rows, finite_means

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette without its yellow, which is lost on white, and five darker ones; markers say the same again,
# and dashes which samplers draw noise
_COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00"),
    *("#882255", "#7A7A00", "#332288", "#8C564B", "#7F7F7F"),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h")
_LOOK: dict[str, Any] = {"lw": 1.3, "ms": 4.5, "capsize": 2.5, "elinewidth": 0.9}
_BAND = "#E4E4E4"
_MOST = 4
_FAR = 8  # times the median of a budget, beyond which values are named at the edge and do not stretch the axis
_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
_AXES = {
    "nfe": "network evaluations per sample",
    "seconds": "seconds for {n:,} samples, of the fastest seed, in rising order",
}


def panels(results: Rows) -> list[Quantity]:
    """The quantities that are drawn: those by which samplers are ranked, then others that have a direction."""
    good = [q for q in results.measured if q.direction and q.brief] or results.measured
    return sorted(good, key=lambda q: q not in results.ranking)[:_MOST]


def quality(results: Rows, horizontal: str, stem: Path) -> list[Path]:
    """Draw every quantity against `nfe` or `seconds` as stem.png and stem.svg; nothing if no row succeeded."""
    shown = panels(results)
    if not (shown and results.succeeded):
        return []
    words = 0.05 * len(results.families(results.succeeded))  # the legend below, in rows of four
    figure, axes = wrapped(len(shown), 2, 5.4, 4.0, margins=(0.0, 0.5 + words), dpi=110)
    lines: dict[str, Any] = {}
    for ax, quantity in zip(axes, shown, strict=True):
        lines |= _panel(ax, results, quantity, horizontal)
    figure.legend(lines.values(), lines.keys(), loc="outside lower left", ncols=4, frameon=False, fontsize=9)
    return both(figure, stem, results.title)


def _panel(ax: Axes, results: Rows, quantity: Quantity, horizontal: str) -> dict[str, Any]:
    """Draw a panel; returns its lines by their labels, which have the same look in all panels."""
    key, floor, lines = quantity.key, results.floor(quantity.key), {}
    families, limit = results.families(results.succeeded), _limit(results, quantity)
    for i, (label, rows) in enumerate(families.items()):
        if own := sorted((r for r in rows if math.isfinite(r.interval(key).mean)), key=lambda r: r.nfe):
            shift = 1.012 ** (i - len(families) / 2)  # side by side where intervals would cover each other
            places = [shift * place for place in _places(own, horizontal)]
            lines[label] = _line(ax, i, own, key, places)
            for x, row in zip(places, own, strict=True):
                if row.interval(key).mean > limit:
                    _outside(ax, x, row.interval(key).mean, _COLOURS[i % len(_COLOURS)])
    ax.set_xscale("log")
    if floor is not None:
        around = 0.0 if math.isnan(floor.half) else floor.half
        ax.axhspan(floor.mean - around, floor.mean + around, color=_BAND, zorder=0, linewidth=0)
        lines["real data (floor)"] = ax.axhline(floor.mean, color="#8A8A8A", lw=0.9, ls=":", zorder=0.5)
    if quantity.direction != "higher":
        values = [min(v, limit) for v in finite_means(results.succeeded, key)]
        _scale(ax, values, math.inf if floor is None else floor.mean)
    if horizontal == "nfe":
        _ticks(ax, results.succeeded)
    ax.set_xlabel(_AXES[horizontal].format(n=results.n), color=INK, fontsize=9)
    ax.set_title(quantity.title + " (higher is better)" * (quantity.sign < 0), fontsize=10, color=INK, loc="left")
    plain(ax)
    return lines


def _limit(results: Rows, quantity: Quantity) -> float:
    """Beyond which a value is of another scale than most of its budget; infinite where higher is better."""
    medians = [median(finite_means(own, quantity.key) or [0]) for own in results.blocks(results.succeeded).values()]
    return math.inf if quantity.direction == "higher" or max(medians) <= 0 else _FAR * max(medians)


def _outside(ax: Axes, x: float, value: float, color: str) -> None:
    """Name a value above the upper end of the axis."""
    place: dict[str, Any] = {"xycoords": ax.get_xaxis_transform(), "ha": "left", "va": "top", "bbox": _PAPER}
    ax.annotate(f" \u2191 {value:.3g}", (x, 1.0), fontsize=8, color=color, annotation_clip=False, **place)


def _places(rows: Sequence[Row], horizontal: str) -> Sequence[float]:
    """Where rows of rising evaluations stand: their seconds are made to rise too, whatever the noise of the clock."""
    if horizontal == "nfe":
        return [row.nfe for row in rows]
    seconds = np.array([min(row.seconds, default=math.nan) for row in rows])
    rising: list[float] = (np.maximum.accumulate(seconds) + np.minimum.accumulate(seconds[::-1])[::-1]).tolist()
    return [value / 2 for value in rising]


def _line(ax: Axes, i: int, rows: Sequence[Row], key: str, x: Sequence[float]) -> Any:
    y, half = (np.array(v) for v in zip(*(row.interval(key) for row in rows), strict=True))
    look = {"color": _COLOURS[i % len(_COLOURS)], "marker": _MARKERS[i % len(_MARKERS)], **_LOOK}
    look |= {"mfc": "white"} if i // len(_COLOURS) % 2 else {}
    return ax.errorbar(x, y, np.nan_to_num(half), ls=(0, (4, 2)) if rows[0].stochastic else "-", **look)


def _scale(ax: Axes, values: Sequence[float], floor: float) -> None:
    """Logarithmic, with a linear piece around zero if there are values there."""
    top, least = max(values, default=0.0), min([*values, floor])
    if top <= 0:
        return
    if least > 0:
        ax.set_yscale("log")
        ax.set_ylim(least / 1.6, top * 1.5)
        return
    positive = min(v for v in values if v > 0)
    threshold = 10.0 ** math.ceil(math.log10(max(top * 1e-5, positive, -least)))
    ax.set_yscale("symlog", linthresh=threshold)
    ax.set_ylim(-1.2 * threshold if least < 0 else -0.1 * threshold, top * 1.5)


def _ticks(ax: Axes, rows: Sequence[Row]) -> None:
    """The budgets under the axis, and other numbers of evaluations as far as they do not touch."""
    kept: list[int] = []
    for value in [*sorted({r.budget for r in rows if r.budget}), *sorted({round(r.nfe) for r in rows if r.nfe > 0})]:
        if all(max(value / k, k / value) >= 1.18 for k in kept):
            kept.append(value)
    ax.set_xticks(kept, [str(v) for v in kept])
    ax.set_xticks([], minor=True)
