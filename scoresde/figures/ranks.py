"""Histograms of ranks, beside what chance does to uniform ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scoresde.figures import style
from scoresde.figures.style import FAINT, INK, SAMPLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_BINS, _IN_BIN = 20, 10  # bars, and ranks in one of them


def histograms(ranks: Mapping[str, np.ndarray], titles: Mapping[str, str], path: str | Path | None = None) -> Figure:
    """Densities of ranks, with the band that holds 95 % of the bars of independent uniform ranks.

    Args:
        ranks: numbers in [0, 1] (n, ...) of n items, by name. The values of an item are as one rank to the band, which
            is then too wide, rather than too narrow.
        titles: of the panels, by name.
        path: of a PNG to write.
    """
    figure, axes = style.wrapped(len(ranks), 3, 3.2, 2.3)
    for ax, (name, u) in zip(axes, ranks.items(), strict=True):
        bins = min(_MOST_BINS, max(2, len(u) // _IN_BIN))
        half = 1.96 * ((bins - 1) / len(u)) ** 0.5  # of the density in a bin
        ax.axhspan(max(0.0, 1 - half), 1 + half, color=FAINT, alpha=0.5, linewidth=0)
        ax.axhline(1.0, color=INK, linewidth=0.8)
        ax.hist(u.reshape(-1), bins=bins, range=(0, 1), density=True, color=SAMPLES, alpha=0.8)
        ax.set_title(titles[name], fontsize=9, color=INK)
        ax.set_xlabel("rank among the samples", fontsize=8, color=INK)
        ax.set_xlim(0, 1)
        style.plain(ax)
    return style.finished(figure, path, None)
