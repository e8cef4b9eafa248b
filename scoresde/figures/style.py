"""What all pictures share: colours, panels, axes, and the sheet of images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue and orange of Okabe and Ito's palette: told apart with any colour vision, and in grey print.
SAMPLES = "#0072B2"
DATA = "#D98200"
FAINT = "#C4C4C4"
INK = "#333333"
GAP = 0.42  # between images: grey, so that neither black nor white ones run into each other
SPACE = 5  # pixels between images
MOST_POINTS = 4000


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure of equal panels (rows, columns), each of so many inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, rows * height + 0.6), dpi=120, layout="constrained", facecolor="white")
    return figure, figure.subplots(rows, columns, squeeze=False)


def legend(figure: Figure, ax: Axes) -> None:
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)


def dots(ax: Axes, points: np.ndarray, colour: str, alpha: float) -> None:
    x, y = points[:MOST_POINTS].T
    ax.scatter(x, y, s=4, color=colour, alpha=alpha, linewidths=0)


def plain(ax: Axes) -> None:
    ax.tick_params(labelsize=8, colors=INK, length=3)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def plane(ax: Axes, x: tuple[float, float], y: tuple[float, float], equal: bool = True) -> None:
    ax.set_xlim(*x)
    ax.set_ylim(*y)
    ax.set_aspect("equal" if equal else "auto")
    plain(ax)


def span(values: np.ndarray, margin: float) -> tuple[float, float]:
    """The range of all but the most extreme thousandth of the finite values, and a margin on both sides."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return -1.0, 1.0
    low, high = (float(q) for q in np.quantile(finite, [0.0005, 0.9995]))
    room = margin * (high - low) or 0.5 * max(abs(low), 1.0)
    return low - room, high + room


def square(points: np.ndarray, margin: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of both axes, of one length, around points (n, 2)."""
    ranges = [span(column, margin) for column in points.T]
    half = max(high - low for low, high in ranges) / 2
    x, y = ((low + high) / 2 for low, high in ranges)
    return (x - half, x + half), (y - half, y + half)


def finished(figure: Figure, path: str | Path | None, title: str | None) -> Figure | None:
    """Adds the title; then writes the figure, or hands it back if there is no path."""
    if title is not None:
        figure.suptitle(title, fontsize=12, color=INK)
    if path is None:
        return figure
    figure.savefig(path, format="png", dpi=figure.dpi)
    return None


def tiled(
    images: np.ndarray, low: float | None, high: float | None, across: int | None = None, pixels: int = 44
) -> np.ndarray:
    """One picture (rows, columns, 3) in uint8 of images (n, channels, height, width).

    All of them in rows of `across`; or, without that, as many as fit into a square of up to 10 x 10. Small images are
    enlarged by a whole number to at most so many pixels.
    """
    images = images.astype(np.float64)
    low = float(np.nanmin(images)) if low is None else low
    high = float(np.nanmax(images)) if high is None else high
    unit = np.nan_to_num((images - low) / max(high - low, 1e-12)).clip(0, 1)
    n, channels, h, w = unit.shape
    zoom = max(1, pixels // max(h, w))
    if across is None:
        across = max(1, min(10, math.ceil(math.sqrt(n)), max(3, 640 // (zoom * max(h, w)))))
        unit = unit[: across**2]
    down = math.ceil(len(unit) / across)
    sheet = np.full((down * (zoom * h + SPACE) - SPACE, across * (zoom * w + SPACE) - SPACE, 3), GAP)
    for k, image in enumerate(unit):
        top, left = (k // across) * (zoom * h + SPACE), (k % across) * (zoom * w + SPACE)
        colours = np.moveaxis(image if channels == 3 else image[:1].repeat(3, axis=0), 0, -1)
        sheet[top : top + zoom * h, left : left + zoom * w] = colours.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return np.asarray(np.rint(sheet * 255), dtype=np.uint8)


def middle(events: np.ndarray) -> np.ndarray:
    """The middle plane (n, 1, height, width) of events (n, ..., height, width)."""
    planes = events.reshape(len(events), -1, 1, *events.shape[-2:])
    return np.asarray(planes[:, planes.shape[1] // 2])
