"""Figures of what a density and a latent space say of items."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scoresde.figures import style
from scoresde.figures.style import DATA, FAINT, INK, SAMPLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scoresde.data.transform import Transform

_BINS = 40
_RANKED = 30  # images at either end
_EDGE = 18  # pixels around sheets
_PIXELS, _WIDE = 44, 760  # of an image, and of a row that stands alone
_CHANNELS = 3


_BETWEEN = "interpolation of latents between held-out items"


def interpolation(
    x: Tensor, reference: Tensor, transform: Transform, path: str | Path | None = None, title: str = _BETWEEN
) -> Figure:
    """Rows of items that lead from one to another.

    Images are sheets, series lines from dark to light, and other items paths in their first two values.

    Args:
        x: (rows, k, *event) in model units.
        reference: real data (m, *event) in model units, on which the paths are drawn.
        transform: to data units.
        path: of a PNG to write.
        title: above it.
    """
    rows, k = x.shape[:2]
    kind = style.form(transform)
    if kind in ("image", "volume"):
        real = transform.finish(reference)
        images = style.as_images(transform.finish(x.flatten(0, 1)), transform)
        looks = {"across": k, "pixels": _PIXELS if rows > 1 else max(_PIXELS, _WIDE // k)}
        return _sheets({title: style.tiled(images, *style.greys(real, transform), **looks)}, path)
    if kind == "series":
        return _lines(transform.decode(x.flatten(0, 1)).reshape(x.shape).numpy(), path, title)
    figure, ((ax,),) = style.panels(1, 1, 5.2, 5.0)
    cloud, lines = (_first_two(transform.decode(items)) for items in (reference, x.flatten(0, 1)))
    style.dots(ax, cloud, FAINT, 0.6)
    for line in lines.reshape(rows, k, 2):
        ax.plot(*line.T, color=SAMPLES, marker="o", markersize=3, linewidth=1)
        ax.plot(*line[[0, -1]].T, color=DATA, marker="o", markersize=6, linewidth=0)
    shown = np.concatenate([cloud, lines])
    x_axis, y_axis = style.square(shown, 0.05) if kind == "plane" else (style.span(own, 0.05) for own in shown.T)
    style.plane(ax, x_axis, y_axis, equal=kind == "plane")
    style.name_axes(ax, transform)
    return style.finished(figure, path, title)


def _lines(x: np.ndarray, path: str | Path | None, title: str) -> Figure:
    """Series (rows, k, channels, length), of each row the first channels; dark is the first one, and light the last."""
    rows, k, channels = len(x), x.shape[1], min(x.shape[2], _CHANNELS)
    figure, axes = style.panels(channels, rows, 4.6, 2.0)
    colors = style.dark_to_light(k)
    for line, column in zip(x, axes.T, strict=True):
        for channel, ax in enumerate(column):
            for own, color in zip(line[:, channel], colors, strict=True):
                ax.plot(own, color=color, linewidth=1.1)
            style.plain(ax)
    return style.finished(figure, path, title)


def densities(
    nats: Mapping[str, np.ndarray], titles: Mapping[str, str], unit: str, path: str | Path | None = None
) -> Figure:
    """Histograms of log densities: those of the first set in front of those of each other one.

    Args:
        nats: log densities (n,) by the name of their set, first those of held-out items.
        titles: of the panels, by the name of the other set.
        unit: of the log densities.
        path: of a PNG to write.
    """
    (own, real), *others = nats.items()
    figure, axes = style.wrapped(len(others), 3, 3.4, 2.3)
    for ax, (name, values) in zip(axes, others, strict=True):
        both = np.concatenate([real, values])
        bins = np.linspace(both.min(), both.max() + 1e-9, _BINS + 1).tolist()
        for label, some, color in ((own, real, DATA), (name, values, SAMPLES)):
            ax.hist(some, bins=bins, weights=np.full(len(some), 1 / len(some)), color=color, alpha=0.65, label=label)
        ax.set_title(titles[name], fontsize=9, color=INK)
        ax.set_xlabel(unit, fontsize=8, color=INK)
        ax.set_yticks([])
        ax.legend(frameon=False, fontsize=8, loc="best")
        style.plain(ax)
    return style.finished(figure, path, None)


def ranking(
    items: Tensor, nats: Tensor, transform: Transform, path: str | Path | None = None, most: int = 30
) -> Figure:
    """The images (n, *event) in model units of the highest and of the lowest of the log densities (n,)."""
    real = transform.finish(items)
    images, order = style.as_images(real, transform), torch.argsort(nats, descending=True).numpy()
    count, looks = min(_RANKED, len(order) // 2), style.greys(real, transform)
    parts = {"most likely": order[:count], "least likely, the last one least of all": order[len(order) - count :]}
    return _sheets({title: style.tiled(images[which], *looks, across=10) for title, which in parts.items()}, path)


def _sheets(sheets: Mapping[str, np.ndarray], path: str | Path | None) -> Figure:
    """Sheets of images below each other, each of their pixels one of the figure."""
    header = 30
    width = max(sheet.shape[1] for sheet in sheets.values()) + 2 * _EDGE
    figure = style.canvas(max(width, 420), sum(sheet.shape[0] + header for sheet in sheets.values()) + _EDGE)
    top = header
    for title, sheet in sheets.items():
        ax = style.place(figure, sheet, _EDGE, top)
        ax.set_title(title, fontsize=9, color=INK, loc="left", pad=4)
        top += sheet.shape[0] + header
    return style.finished(figure, path, None)


def _first_two(items: Tensor) -> np.ndarray:
    """The first two values of items (n, *event), or the only one and zero."""
    values = items.flatten(1)[:, :2].numpy()
    return values if values.shape[1] == 2 else np.concatenate([values, 0 * values], axis=1)
