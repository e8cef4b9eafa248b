"""What all figures share: colors, panels, axes, and the sheet of images."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue and orange of Okabe and Ito's palette, which differ for any color vision and in grey print.
SAMPLES = "#0072B2"
DATA = "#D98200"
FAINT = "#C4C4C4"
INK = "#333333"
GAP = 0.42  # between images: grey, so that neither black nor white ones run into each other
SPACE = 5  # pixels between images
MOST_POINTS = 4000


@functools.cache
def _figure_class() -> type[Figure]:
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        """A figure that notebooks show; made without pyplot, so that no global state changes."""

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=self.dpi)
            return buffer.getvalue()

    return NotebookFigure


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure of equal panels (rows, columns), each of width x height inches."""
    size = (columns * width, rows * height + 0.6)
    figure = _figure_class()(figsize=size, dpi=120, layout="constrained", facecolor="white")
    return figure, figure.subplots(rows, columns, squeeze=False)


def canvas(width: int, height: int) -> Figure:
    """An empty figure of width x height pixels, for `place`."""
    return _figure_class()(figsize=(width / 100, height / 100), dpi=100, facecolor="white")


def place(figure: Figure, sheet: np.ndarray, left: float, top: float) -> Axes:
    """Show a sheet (rows, columns, 3) with its top left corner at a pixel; each of its pixels is one of the figure."""
    width, height = figure.bbox.width, figure.bbox.height
    down, across = sheet.shape[:2]
    ax = figure.add_axes((left / width, 1 - (top + down) / height, across / width, down / height))
    ax.imshow(sheet, interpolation="nearest", aspect="auto")
    ax.set_axis_off()
    return ax


def paths(ax: Axes, points: np.ndarray, alpha: float) -> None:
    """Lines through points (steps, n, 2), dark at the first step and light at the last."""
    from matplotlib.collections import LineCollection

    segments = np.stack([points[:-1], points[1:]], axis=2).reshape(-1, 2, 2)
    lines = LineCollection(list(segments), cmap="viridis", linewidths=0.7, alpha=alpha, zorder=2)
    lines.set_array(np.repeat(np.linspace(0, 0.9, len(points) - 1), points.shape[1]))
    lines.set_clim(0, 1)
    ax.add_collection(lines)


def legend(figure: Figure, ax: Axes) -> None:
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)


def dots(ax: Axes, points: np.ndarray, color: str, alpha: float) -> None:
    x, y = points[:MOST_POINTS].T
    ax.scatter(x, y, s=4, color=color, alpha=alpha, linewidths=0)


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


def name_axes(ax: Axes, names: Sequence[str] | None) -> None:
    """Label both axes with the names of two features, if there are any."""
    if names is not None:
        ax.set_xlabel(names[0], color=INK)
        ax.set_ylabel(names[1], color=INK)


def finished(figure: Figure, path: str | Path | None, title: str | None) -> Figure:
    """Add the title, write the figure if there is a path, and return it."""
    if title is not None:
        figure.suptitle(title, fontsize=12, color=INK)
    if path is not None:
        figure.savefig(path, format="png", dpi=figure.dpi)
    return figure


def tiled(
    images: np.ndarray, low: float | None, high: float | None, across: int | None = None, pixels: int = 44
) -> np.ndarray:
    """One sheet (rows, columns, 3) in uint8 of images (n, channels, height, width).

    All of them in rows of `across`; or, without that, as many as fit into a square of up to 10 x 10. Small images are
    enlarged by a whole number, to at most `pixels` pixels.
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
        colors = np.moveaxis(image if channels == 3 else image[:1].repeat(3, axis=0), 0, -1)
        sheet[top : top + zoom * h, left : left + zoom * w] = colors.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return np.asarray(np.rint(sheet * 255), dtype=np.uint8)


def middle(events: np.ndarray) -> np.ndarray:
    """The middle plane (n, 1, height, width) of events (n, ..., height, width)."""
    planes = events.reshape(len(events), -1, 1, *events.shape[-2:])
    return np.asarray(planes[:, planes.shape[1] // 2])
