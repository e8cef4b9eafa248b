"""Quality against evaluations and against seconds: intervals, labels at the line ends, readable without colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scoresde.results.metric import Quantity
from scoresde.results.row import Results, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette without its yellow, which is lost on white; markers and dashes say the same again
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_INK, _FAINT, _BAND = "#333333", "#C4C4C4", "#E4E4E4"
_MOST = 4
_APART = 0.052  # between two labels, in heights of a panel
_AXES = {"nfe": "network evaluations per sample", "seconds": "seconds for {n:,} samples, of the fastest seed"}


def lines(results: Results) -> dict[tuple[str, str], list[Row]]:
    """The rows of each line of a plot: a family of samplers in a setting, from few evaluations to many."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in results.succeeded:
        found.setdefault((row.family, row.setting), []).append(row)
    return {k: sorted(rows, key=lambda r: r.nfe) for k, rows in found.items()}


def panels(results: Results) -> list[Quantity]:
    """The quantities that are drawn: those by which samplers are ranked, then others that have a direction."""
    good = [q for q in results.measured if q.direction and q.brief] or results.measured
    return sorted(good, key=lambda q: q not in results.ranking)[:_MOST]


def quality(results: Results, horizontal: str, stem: Path) -> list[Path]:
    """Draw every quantity against `nfe` or `seconds` as stem.png and stem.svg; nothing if no row succeeded."""
    shown = panels(results)
    if not shown:
        return []
    import matplotlib
    from matplotlib.figure import Figure

    across = min(2, len(shown))
    down = math.ceil(len(shown) / across)
    with matplotlib.rc_context({"svg.hashsalt": "scoresde", "svg.fonttype": "path"}):
        size = (across * 6.6, down * 4.1 + 0.4)
        figure = Figure(figsize=size, dpi=110, layout="constrained", facecolor="white")
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for ax, name in zip(axes, shown, strict=False):
            _panel(ax, results, name, horizontal)
        for ax in axes[len(shown) :]:
            ax.set_visible(False)
        figure.suptitle(results.title, fontsize=12, color=_INK)
        files = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
        for file in files:
            metadata = {"Date": None} if file.suffix == ".svg" else {}
            figure.savefig(file, metadata=metadata)
            figure.set_layout_engine("none")  # it is the same for the next file, and half of the time
    return files


@dataclass
class _Line:
    """One line of a panel: a family of samplers in a setting."""

    label: str
    rows: list[Row]
    colour: str
    marker: str
    shift: float  # of the horizontal places, so that intervals do not cover each other

    def draw(self, ax: Axes, key: str, horizontal: str) -> tuple[float, float, str, str]:
        """Draw it and return where it ends, with its label and colour."""
        x = [self.shift * (row.nfe if horizontal == "nfe" else min(row.seconds)) for row in self.rows]
        y, half = (np.array(v) for v in zip(*(row.interval(key) for row in self.rows), strict=True))
        style = (0, (4, 2)) if self.rows[0].stochastic else "-"
        look: dict[str, Any] = {"lw": 1.3, "ms": 4.5, "capsize": 2.5, "elinewidth": 0.9}
        ax.errorbar(x, y, np.nan_to_num(half), color=self.colour, marker=self.marker, ls=style, **look)
        return x[-1], float(y[-1]), self.label, self.colour


def _lines(results: Results, key: str, horizontal: str) -> list[_Line]:
    """The lines of a panel; colours and markers are the same in all panels."""
    drawn, found = lines(results), []
    for i, ((family, setting), rows) in enumerate(drawn.items()):
        rows = [r for r in rows if math.isfinite(r.interval(key).mean) and (horizontal == "nfe" or r.seconds)]
        label = family if len(results.settings) < 2 else f"{family}, {setting}"
        look = _COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)], 1.012 ** (i - len(drawn) / 2)
        found += [_Line(label, rows, *look)] if rows else []
    return found


def _panel(ax: Axes, results: Results, quantity: Quantity, horizontal: str) -> None:
    drawn, floor = _lines(results, quantity.key, horizontal), results.floor(quantity.key)
    ends = [line.draw(ax, quantity.key, horizontal) for line in drawn]
    rows = [row for line in drawn for row in line.rows]
    if floor is not None:
        around = 0.0 if math.isnan(floor.half) else floor.half
        ax.axhspan(floor.mean - around, floor.mean + around, color=_BAND, zorder=0, linewidth=0)
        ax.axhline(floor.mean, color="#8A8A8A", lw=0.9, ls=":", zorder=0.5)
    if quantity.direction != "higher":
        _scale(ax, [row.interval(quantity.key).mean for row in rows], None if floor is None else floor.mean)
    ax.set_xscale("log")
    if horizontal == "nfe":
        _ticks(ax, sorted({r.budget for r in rows if r.budget is not None}), sorted({round(r.nfe) for r in rows}))
    _dress(ax, _AXES[horizontal].format(n=results.n), quantity)
    _labels(ax, ends, None if floor is None else floor.mean)


def _dress(ax: Axes, horizontal: str, quantity: Quantity) -> None:
    """Titles, and axes without a box."""
    ax.set_xlabel(horizontal, color=_INK, fontsize=9)
    better = " (higher is better)" if quantity.direction == "higher" else ""
    ax.set_title(quantity.title + better, fontsize=10, color=_INK, loc="left")
    ax.tick_params(labelsize=8, colors=_INK, which="both", length=3)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_FAINT)


def _scale(ax: Axes, values: Sequence[float], floor: float | None) -> None:
    """Logarithmic, with a linear piece around zero if there are values there."""
    positive = [v for v in values if v > 0]
    if not positive:
        return
    top = max(positive)
    if min(values) > 0 and (floor is None or floor > 0):
        ax.set_yscale("log")
        ax.set_ylim(min([*positive, floor or math.inf]) / 1.6, top * 1.5)
        return
    wanted = max(top * 1e-5, min(positive), abs(min(values)), abs(floor or 0))
    threshold = 10.0 ** math.ceil(math.log10(wanted))
    ax.set_yscale("symlog", linthresh=threshold, linscale=1.0)
    decades = range(round(math.log10(threshold)), math.floor(math.log10(top)) + 1)
    ax.set_yticks([-threshold, 0.0, *(10.0**k for k in decades)])
    ax.set_ylim(-1.2 * threshold if min([*values, floor or 0.0]) < 0 else -0.1 * threshold, top * 1.5)


def _ticks(ax: Axes, budgets: Sequence[int], others: Sequence[int]) -> None:
    """The budgets under the axis, and other numbers of evaluations as far as they do not touch."""
    kept: list[int] = []
    for value in (*budgets, *others):
        if all(max(value / k, k / value) >= 1.18 for k in kept):
            kept.append(value)
    ax.set_xticks(sorted(kept), [str(v) for v in sorted(kept)])
    ax.set_xticks([], minor=True)


def _labels(ax: Axes, ends: Sequence[tuple[float, float, str, str]], floor: float | None) -> None:
    """Names beside the line ends, moved apart where they would touch, each with a thin line to its end."""
    items = list(ends)
    if floor is not None:
        items.append((math.nan, floor, "real data (floor)", "#707070"))
    ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())  # from here on places on the axes are final
    to_axes = ax.transData + ax.transAxes.inverted()
    heights = [float(to_axes.transform((1.0 if math.isnan(x) else x, y))[1]) for x, y, _, _ in items]
    look: dict[str, Any] = {"transform": ax.transAxes, "clip_on": False}
    for (x, y, label, colour), place, height in zip(items, spread(heights, _APART), heights, strict=True):
        start = (1.0, height) if math.isnan(x) else to_axes.transform((x, y))
        ax.plot([start[0], 1.03], [start[1], place], color=colour, lw=0.5, alpha=0.6, **look)
        ax.text(1.035, place, label, color=colour, fontsize=8, va="center", **look)


def spread(places: Sequence[float], apart: float) -> list[float]:
    """The same places >= 0 moved as little as needed for neighbours to be `apart`, in the same order."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[tuple[float, int]] = []  # centre and size of runs of touching labels
    for i in order:
        groups.append((places[i], 1))
        while len(groups) > 1:
            (a, m), (b, n) = groups[-2:]
            if b - a >= apart * (m + n) / 2 - 1e-12:
                break
            groups[-2:] = [((a * m + b * n) / (m + n), m + n)]
    moved, result = [], [0.0] * len(places)
    for centre, size in groups:
        moved += [centre + apart * (k - (size - 1) / 2) for k in range(size)]
    for k, place in enumerate(moved):  # not below the axis either
        moved[k] = max(place, 0.0 if k == 0 else moved[k - 1] + apart)
    for i, place in zip(order, moved, strict=True):
        result[i] = place
    return result
