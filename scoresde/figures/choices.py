"""Which candidates the default solver took: their shares of each step, over the noise level."""

from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoresde.figures.style import INK, both, plain, wrapped
from scoresde.results.rows import Row, Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's blue, orange and green, each light and dark: what belongs together has one hue
_COLOURS = ("#9AD0F0", "#0072B2", "#F5C98B", "#D55E00", "#A6DCC8", "#009E73", "#E3B8CF", "#882255")


def choices(results: Rows, stem: Path) -> list[Path]:
    """Draw the rows that have choices, a panel each, as stem.png and stem.svg; nothing if there are none."""
    rows = [row for row in results.succeeded if row.choices is not None]
    if not rows:
        return []
    figure, axes = wrapped(len(rows), 2, 5.4, 2.6, margins=(0.0, 1.0), dpi=110)
    for ax, row in zip(axes, rows, strict=True):
        bars = _panel(ax, row)
        ax.set_title(f"{results.label(row)}, {row.nfe:.0f} evaluations", fontsize=10, color=INK, loc="left")
    figure.legend(bars.values(), bars.keys(), loc="outside lower left", ncols=3, frameon=False, fontsize=9)
    return both(figure, stem, "Which candidates auto combined, from noise (left) to data (right)")


def _panel(ax: Axes, row: Row) -> dict[str, Any]:
    """A bar for each step, from the level where it begins to the next one; the last, to noise zero, as if to a half."""
    levels, shares = list(row.choices.levels), row.choices.shares.T.tolist()
    edges = [*levels, (levels[-1] ** 2 / levels[-2] if len(levels) > 1 else levels[-1] / 2)]
    widths = [b - a for a, b in pairwise(edges)]
    tops = list(accumulate(shares, lambda below, own: [a + b for a, b in zip(below, own, strict=True)]))
    bottoms = [[0.0] * len(levels), *tops]
    look: dict[str, Any] = {"align": "edge", "edgecolor": "white", "linewidth": 0.5}
    bars = {
        name: ax.bar(levels, own, widths, below, color=_COLOURS[i % len(_COLOURS)], **look)
        for i, (name, own, below) in enumerate(zip(row.choices.names, shares, bottoms, strict=False))
    }
    ax.set_xscale("log")
    ax.set(xlim=(edges[0], edges[-1]), ylim=(0, 1))
    ax.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    ax.set_xlabel("noise level sigma / alpha", color=INK, fontsize=9)
    plain(ax)
    return bars
