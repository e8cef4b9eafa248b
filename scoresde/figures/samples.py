"""Figures of samples, and of real data beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import Tensor

from scoresde.figures import style
from scoresde.figures.style import DATA, INK, MOST_POINTS, SAMPLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scoresde.data.transform import Transform

_MOST_FEATURES = 6
_MOST_LINES = 10


class _Shown(NamedTuple):
    """What is drawn: events (n, *event) in data units and their color by label, samples first, then real data."""

    clouds: dict[str, tuple[np.ndarray, str]]
    transform: Transform
    title: str | None

    @property
    def ruler(self) -> np.ndarray:
        """The events that decide the axes: the real data, or else the samples."""
        return list(self.clouds.values())[-1][0]


def picture(
    samples: Tensor,
    transform: Transform,
    path: str | Path | None = None,
    reference: Tensor | None = None,
    title: str | None = None,
    real: str = "real data",
) -> Figure:
    """Samples on the left, and real data on the right, in data units.

    Images become a grid of up to 10 x 10, beside that of the data; pairs of numbers a scatter plot beside that of
    the data; other tables a histogram of each of the first 6 features over that of the data; series (channels,
    length) lines; events of three axes and more their middle slice as a grey image.

    Args:
        samples: (n, *event) in model units.
        transform: to data units.
        path: of a PNG to write.
        reference: real data (m, *event) in model units.
        title: above all panels.
        real: what the reference is called.

    Raises:
        InputError: samples of quantised data hold NaN.
    """
    clouds = {"samples": (transform.finish(samples), SAMPLES)}
    clouds |= {} if reference is None else {real: (transform.finish(reference), DATA)}
    draw = {"image": _image_grids, "volume": _image_grids, "plane": _clouds, "series": _series, "table": _histograms}
    return style.finished(draw[style.form(transform)](_Shown(clouds, transform, title)), path, title)


def _image_grids(shown: _Shown) -> Figure:
    """Grids of images, drawn so that one pixel of data is a whole number of pixels."""
    transform, margin = shown.transform, 18
    low, high = style.greys(shown.ruler, transform)
    grids = {k: style.tiled(style.as_images(x, transform), low, high) for k, (x, _) in shown.clouds.items()}
    header = 34 if shown.title is None else 64
    width = sum(grid.shape[1] + margin for grid in grids.values()) + margin
    height = max(grid.shape[0] for grid in grids.values()) + header + margin
    figure, left = style.canvas(width, height), margin
    for label, grid in grids.items():
        ax = style.place(figure, grid, left, header)
        ax.set_title(label, fontsize=10, color=INK, loc="left", pad=4)
        left += grid.shape[1] + margin
    return figure


def _clouds(shown: _Shown) -> Figure:
    """Scatter plots of pairs of numbers side by side, on the same axes."""
    same_unit = shown.transform.kind == "points"
    x, y = (style.span(column, 0.12) for column in shown.ruler.reshape(-1, 2).T)
    shape = (y[1] - y[0]) / (x[1] - x[0]) if same_unit else 0.8
    figure, axes = style.panels(1, len(shown.clouds), 4.4, 4.4 * min(max(shape, 0.5), 1.5))
    for ax, (label, (events, color)) in zip(axes[0], shown.clouds.items(), strict=True):
        points = events.reshape(-1, 2)[:MOST_POINTS]
        style.dots(ax, points, color, alpha=0.45)
        style.plane(ax, x, y, equal=same_unit)
        inside = (points > (x[0], y[0])).all(1) & (points < (x[1], y[1])).all(1)
        outside = "" if inside.all() else f", {len(points) - inside.sum()} of {len(points)} outside"
        ax.set_title(label + outside, fontsize=11, color=INK)
        style.name_axes(ax, shown.transform)
    return figure


def _histograms(shown: _Shown) -> Figure:
    """A histogram for each of the first features: that of the samples over that of the data."""
    size = shown.ruler[0].size
    figure, axes = style.wrapped(min(size, _MOST_FEATURES), 3, 3.4, 2.5)
    for k, ax in enumerate(axes):
        columns = {label: events.reshape(-1, size)[:, k] for label, (events, _) in shown.clouds.items()}
        own, ruler = columns.pop("samples"), shown.ruler.reshape(-1, size)[:, k]
        edges = np.linspace(*style.span(ruler, 0.06), 41).tolist()
        for label, real in columns.items():
            ax.hist(real, edges, density=True, color=DATA, alpha=0.55, label=label)
        values = own[np.isfinite(own)]
        # weights instead of `density`: samples outside the axis are missing mass, not spread over the rest
        weights = np.full(len(values), 1 / max(len(own), 1) / (edges[1] - edges[0]))
        ax.hist(values, edges, weights=weights, histtype="step", color=SAMPLES, linewidth=1.5, label="samples")
        ax.set_yticks([])
        ax.locator_params("x", nbins=4)  # long numbers do not touch
        style.plain(ax)
        ax.spines["left"].set_visible(False)
        ax.set_xlabel(style.feature(shown.transform, k), color=INK)
    if len(axes) < size:
        figure.supylabel(f"the first {len(axes)} of {size} features", fontsize=9, color=INK)
    style.legend(figure, axes[0])
    return figure


def _series(shown: _Shown) -> Figure:
    """Lines of events (n, channels, length), one row for each of the first 3 channels."""
    rows = min(shown.ruler.shape[1], 3)
    figure, axes = style.panels(rows, len(shown.clouds), 4.6, 2.0)
    for column, (label, (events, color)) in zip(axes.T, shown.clouds.items(), strict=True):
        for row, ax in enumerate(column):
            ax.plot(events[:_MOST_LINES, row].T, color=color, linewidth=0.9, alpha=0.7)
            ax.set_ylim(*style.span(shown.ruler[:, row], 0.15))
            style.plain(ax)
        column[0].set_title(label, fontsize=11, color=INK)
    for row in range(rows if rows > 1 else 0):
        axes[row, 0].set_ylabel(f"channel {row + 1}", color=INK)
    return figure
