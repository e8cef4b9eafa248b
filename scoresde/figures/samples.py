"""Figures of samples, and of real data beside them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from scoresde.figures import style
from scoresde.figures.style import DATA, INK, MOST_POINTS, SAMPLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scoresde.data.transform import Transform

_MOST_FEATURES = 6
_MOST_LINES = 10


def picture(
    samples: Tensor,
    transform: Transform,
    path: str | Path | None = None,
    reference: Tensor | None = None,
    title: str | None = None,
) -> Figure:
    """Samples, and real data beside them, in data units.

    Images become a grid of up to 10 x 10, beside that of the data; pairs of numbers a scatter plot beside that of
    the data; other tables a histogram of each of the first 6 features over that of the data; series (channels,
    length) lines; events of three axes and more their middle slice as a grey image.

    Args:
        samples: (n, *event) in model units.
        transform: to data units.
        path: of a PNG to write.
        reference: real data (m, *event) in model units.
        title: above all panels.

    Raises:
        InputError: samples of quantised data hold NaN.
    """
    own = transform.finish(samples)
    real = None if reference is None else transform.finish(reference)
    shape = transform.event_shape
    if transform.kind == "image":
        figure = _image_grids(own, real, transform.low, transform.high, title)
    elif math.prod(shape) == 2:
        figure = _clouds(own, real, transform)
    elif len(shape) < 2:
        figure = _histograms(own, real, transform.names)
    elif len(shape) == 2:
        figure = _series(own, real)
    else:
        low, high = np.nanquantile(own if real is None else real, [0.005, 0.995])
        figure = _image_grids(style.middle(own), None if real is None else style.middle(real), low, high, title)
    return style.finished(figure, path, title)


def _image_grids(
    own: np.ndarray, real: np.ndarray | None, low: float | None, high: float | None, title: str | None
) -> Figure:
    """Grids of images (n, channels, height, width), drawn so that one pixel of data is a whole number of pixels."""
    grids = {"samples": style.tiled(own, low, high)}
    if real is not None:
        grids["real data"] = style.tiled(real, low, high)
    margin = 18
    header = 34 if title is None else 64
    width = sum(grid.shape[1] + margin for grid in grids.values()) + margin
    height = max(grid.shape[0] for grid in grids.values()) + header + margin
    figure, left = style.canvas(width, height), margin
    for label, grid in grids.items():
        ax = style.place(figure, grid, left, header)
        ax.set_title(label, fontsize=10, color=INK, loc="left", pad=4)
        left += grid.shape[1] + margin
    return figure


def _beside(own: np.ndarray, real: np.ndarray | None) -> dict[str, tuple[np.ndarray, str]]:
    """What is drawn, with its color, by label."""
    return ({} if real is None else {"real data": (real, DATA)}) | {"samples": (own, SAMPLES)}


def _clouds(own: np.ndarray, real: np.ndarray | None, transform: Transform) -> Figure:
    """Scatter plots of pairs of numbers side by side, on the same axes."""
    clouds = _beside(own, real)
    ruler = own if real is None else real
    same_unit = transform.kind == "points"
    x, y = (style.span(column, 0.12) for column in ruler.reshape(-1, 2).T)
    shape = (y[1] - y[0]) / (x[1] - x[0]) if same_unit else 0.8
    figure, axes = style.panels(1, len(clouds), 4.4, 4.4 * min(max(shape, 0.5), 1.5))
    for ax, (label, (points, color)) in zip(axes[0], clouds.items(), strict=True):
        points = points.reshape(-1, 2)[:MOST_POINTS]
        style.dots(ax, points, color, alpha=0.45)
        style.plane(ax, x, y, equal=same_unit)
        inside = (points > (x[0], y[0])).all(1) & (points < (x[1], y[1])).all(1)
        outside = "" if inside.all() else f", {len(points) - inside.sum()} of {len(points)} outside"
        ax.set_title(label + outside, fontsize=11, color=INK)
        style.name_axes(ax, transform.names)
    return figure


def _histograms(own: np.ndarray, real: np.ndarray | None, names: tuple[str, ...] | None) -> Figure:
    """A histogram for each of the first features of events (n,) or (n, features)."""
    own = own.reshape(len(own), -1)
    shown = min(own.shape[1], _MOST_FEATURES)
    across = min(shown, 3)
    figure, axes = style.panels(math.ceil(shown / across), across, 3.4, 2.5)
    for k, ax in enumerate(axes.ravel()):
        ax.set_visible(k < shown)
        if k < shown:
            _histogram(ax, own[:, k], None if real is None else real.reshape(len(real), -1)[:, k])
            ax.set_xlabel(f"feature {k + 1}" if names is None else names[k], color=INK)
    if shown < own.shape[1]:
        figure.supylabel(f"the first {shown} of {own.shape[1]} features", fontsize=9, color=INK)
    style.legend(figure, axes[0][0])
    return figure


def _histogram(ax: Axes, own: np.ndarray, real: np.ndarray | None) -> None:
    """The distribution of one feature (n,), over that of the data (m,)."""
    edges = np.linspace(*style.span(own if real is None else real, 0.06), 41).tolist()
    if real is not None:
        ax.hist(real, edges, density=True, color=DATA, alpha=0.55, label="real data")
    values = own[np.isfinite(own)]
    # weights instead of `density`: samples outside the axis are missing mass, not spread over the rest
    weights = np.full(len(values), 1 / max(len(own), 1) / (edges[1] - edges[0]))
    ax.hist(values, edges, weights=weights, histtype="step", color=SAMPLES, linewidth=1.5, label="samples")
    ax.set_yticks([])
    style.plain(ax)
    ax.spines["left"].set_visible(False)


def _series(own: np.ndarray, real: np.ndarray | None) -> Figure:
    """Lines of events (n, channels, length), one row for each of the first 3 channels."""
    clouds = _beside(own, real)
    ruler = own if real is None else real
    rows = min(own.shape[1], 3)
    figure, axes = style.panels(rows, len(clouds), 4.6, 2.0)
    for column, (label, (events, color)) in enumerate(clouds.items()):
        for row in range(rows):
            ax = axes[row][column]
            ax.plot(events[:_MOST_LINES, row].T, color=color, linewidth=0.9, alpha=0.7)
            ax.set_ylim(*style.span(ruler[:, row], 0.15))
            ax.set_ylabel(f"channel {row + 1}" if rows > 1 and column == 0 else "", color=INK)
            style.plain(ax)
        axes[0][column].set_title(label, fontsize=11, color=INK)
    return figure
