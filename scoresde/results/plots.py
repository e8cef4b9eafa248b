"""Quality against evaluations and against seconds: intervals, floors, and lines that differ without colour too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scoresde.results.metric import Quantity
from scoresde.results.row import Row
from scoresde.results.rows import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette without its yellow, which is lost on white; markers and dashes say the same again
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_LOOK: dict[str, Any] = {"lw": 1.3, "ms": 4.5, "capsize": 2.5, "elinewidth": 0.9}
_INK, _FAINT, _BAND = "#333333", "#C4C4C4", "#E4E4E4"
_MOST = 4
_AXES = {"nfe": "network evaluations per sample", "seconds": "seconds for {n:,} samples, of the fastest seed"}


def panels(results: Rows) -> list[Quantity]:
    """The quantities that are drawn: those by which samplers are ranked, then others that have a direction."""
    good = [q for q in results.measured if q.direction and q.brief] or results.measured
    return sorted(good, key=lambda q: q not in results.ranking)[:_MOST]


def quality(results: Rows, horizontal: str, stem: Path) -> list[Path]:
    """Draw every quantity against `nfe` or `seconds` as stem.png and stem.svg; nothing if no row succeeded."""
    shown = panels(results)
    if not shown:
        return []
    import matplotlib
    from matplotlib.figure import Figure

    across = min(2, len(shown))
    down = math.ceil(len(shown) / across)
    with matplotlib.rc_context({"svg.hashsalt": "scoresde", "svg.fonttype": "path"}):
        size = (across * 5.4 + 2.2, down * 4.0 + 0.4)
        figure = Figure(figsize=size, dpi=110, layout="constrained", facecolor="white")
        axes = figure.subplots(down, across, squeeze=False).ravel()
        drawn = [_panel(ax, results, q, horizontal) for ax, q in zip(axes, shown, strict=False)]
        lines = {label: line for panel in drawn for label, line in panel}
        for ax in axes[len(shown) :]:
            ax.set_visible(False)
        figure.suptitle(results.title, fontsize=12, color=_INK)
        figure.legend(lines.values(), lines.keys(), loc="outside right center", frameon=False, fontsize=9)
        files = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
        for file in files:
            figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else {})
            figure.set_layout_engine("none")  # it is the same for the next file, and half of the time
    return files


def _panel(ax: Axes, results: Rows, quantity: Quantity, horizontal: str) -> list[tuple[str, Any]]:
    """Draw a panel; returns its lines with their labels, which have the same look in all panels."""
    key, floor, lines = quantity.key, results.floor(quantity.key), []
    families = results.families(results.succeeded)
    for i, (label, rows) in enumerate(families.items()):
        if own := sorted((r for r in rows if math.isfinite(r.interval(key).mean)), key=lambda r: r.nfe):
            shift = 1.012 ** (i - len(families) / 2)  # side by side where intervals would cover each other
            lines.append((label, _line(ax, i, own, key, [shift * _place(r, horizontal) for r in own])))
    ax.set_xscale("log")
    if floor is not None:
        around = 0.0 if math.isnan(floor.half) else floor.half
        ax.axhspan(floor.mean - around, floor.mean + around, color=_BAND, zorder=0, linewidth=0)
        lines.append(("real data (floor)", ax.axhline(floor.mean, color="#8A8A8A", lw=0.9, ls=":", zorder=0.5)))
    if quantity.direction != "higher":
        means = [row.interval(key).mean for row in results.succeeded]
        _scale(ax, [m for m in means if math.isfinite(m)], math.inf if floor is None else floor.mean)
    if horizontal == "nfe":
        _ticks(ax, results.succeeded)
    ax.set_xlabel(_AXES[horizontal].format(n=results.n), color=_INK, fontsize=9)
    ax.set_title(quantity.title + " (higher is better)" * (quantity.sign < 0), fontsize=10, color=_INK, loc="left")
    ax.tick_params(labelsize=8, colors=_INK, which="both", length=3)
    ax.spines[:].set_color(_FAINT)
    ax.spines[["top", "right"]].set_visible(False)
    return lines


def _place(row: Row, horizontal: str) -> float:
    return row.nfe if horizontal == "nfe" else min(row.seconds, default=math.nan)


def _line(ax: Axes, i: int, rows: Sequence[Row], key: str, x: Sequence[float]) -> Any:
    y, half = (np.array(v) for v in zip(*(row.interval(key) for row in rows), strict=True))
    look = {"color": _COLOURS[i % len(_COLOURS)], "marker": _MARKERS[i % len(_MARKERS)], **_LOOK}
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
    for value in [*sorted({r.budget for r in rows if r.budget}), *sorted({round(r.nfe) for r in rows})]:
        if all(max(value / k, k / value) >= 1.18 for k in kept):
            kept.append(value)
    ax.set_xticks(kept, [str(v) for v in kept])
    ax.set_xticks([], minor=True)
