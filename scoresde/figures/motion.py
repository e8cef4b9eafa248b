"""Figures of noise that becomes data: a strip of moments, and a film."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from scoresde.errors import InputError
from scoresde.figures import style
from scoresde.figures.style import INK, SAMPLES, SPACE
from scoresde.files import aside

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from scoresde.data.transform import Transform

_ROWS = 5  # of a strip
_FRAME, _FIRST, _LAST = 70, 500, 1800  # milliseconds that a frame of a film, its first and its last are shown


def strip(
    moments: Tensor,
    labels: Sequence[str],
    transform: Transform,
    path: str | Path | None = None,
    title: str | None = None,
) -> Figure:
    """Some moments of trajectories from noise to data, one column each, in data units and clipped to their range.

    Images (and middle slices of events of three axes and more) and series: a row for each of the first samples. Pairs
    of numbers: a cloud in each column. Other tables: a row of histograms for each of the first features.

    Args:
        moments: samples (m, n, *event) in model units at m times.
        labels: of the m columns.
        transform: to data units.
        path: of a PNG to write.
        title: above all columns.
    """
    shown = np.stack([transform.finish(x) for x in moments])
    draw = {
        "image": _sheets, "volume": _sheets, "plane": _small_clouds, "series": _small_series,
        "table": _small_histograms,
    }  # fmt: skip
    return style.finished(draw[style.form(transform)](shown, labels, transform), path, title or None)


def film(moments: Tensor, labels: Sequence[str], transform: Transform, path: str | Path) -> None:
    """Write a GIF of trajectories from noise to data: a sheet of images, or a cloud of points.

    Args:
        moments: samples (m, n, *event) in model units, one frame for each of m times.
        labels: of the m frames.
        transform: to data units.
        path: of the GIF to write.

    Raises:
        InputError: for series, and tables of other than two columns, which have no film.
    """
    frames_of = {"image": _image_frames, "volume": _image_frames, "plane": _cloud_frames}.get(style.form(transform))
    if frames_of is None:
        raise InputError("film: only images and pairs of numbers have one; draw a strip instead")
    frames = frames_of(np.stack([transform.finish(x) for x in moments]), labels, transform)
    durations = [_FIRST, *[_FRAME] * (len(frames) - 2), _LAST][: len(frames)]
    with aside(Path(path)) as temporary:
        frames[0].save(temporary, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def _sheets(shown: np.ndarray, labels: Sequence[str], transform: Transform) -> Figure:
    """Rows of samples, columns of moments; one pixel of data is a whole number of pixels."""
    images = np.stack([style.as_images(x[:_ROWS], transform) for x in shown], axis=1)
    low, high = style.greys(shown[-1], transform)
    sheet = style.tiled(images.reshape(-1, *images.shape[2:]), low, high, across=len(labels), pixels=72)
    margin, header = 18, 82
    height, width = sheet.shape[0] + header + margin, max(sheet.shape[1] + 2 * margin, 500)
    figure = style.canvas(width, height)
    ax = style.place(figure, sheet, (width - sheet.shape[1]) / 2, header)
    column = (sheet.shape[1] + SPACE) / len(labels)
    for k, label in enumerate(labels):
        ax.text(k * column + (column - SPACE) / 2, -6, label, ha="center", va="bottom", fontsize=8, color=INK)
    return figure


def _small_clouds(shown: np.ndarray, labels: Sequence[str], transform: Transform) -> Figure:
    points = shown.reshape(*shown.shape[:2], 2)
    x, y, equal = _plane_of(points, transform)
    figure, axes = style.wrapped(len(points), 5, 2.0, 2.1)
    for ax, cloud, label in zip(axes, points, labels, strict=True):
        style.dots(ax, cloud, SAMPLES, alpha=0.5)
        style.plane(ax, x, y, equal)
        ax.set_title(label, fontsize=9, color=INK)
    return figure


def _plane_of(points: np.ndarray, transform: Transform) -> tuple[tuple[float, float], tuple[float, float], bool]:
    """Limits of both axes that hold the first cloud and the last, and whether the axes have one unit."""
    x, y = (style.span(column, 0.05) for column in points[[0, -1]].reshape(-1, 2).T)
    return x, y, transform.kind == "points"


def _small_series(shown: np.ndarray, labels: Sequence[str], transform: Transform) -> Figure:
    """The first channel of some series, a row each."""
    rows = min(shown.shape[1], _ROWS)
    figure, axes = style.panels(rows, len(shown), 1.5, 1.1)
    limits = style.span(shown[[0, -1], :, 0], 0.05)
    for k, column in enumerate(axes.T):
        for row, ax in enumerate(column):
            ax.plot(shown[k, row, 0], color=SAMPLES, linewidth=0.8)
            ax.set_ylim(*limits)
            style.plain(ax)
            ax.set_xticks([])
            ax.tick_params(labelleft=k == 0)
        column[0].set_title(labels[k], fontsize=9, color=INK)
    return figure


def _small_histograms(shown: np.ndarray, labels: Sequence[str], transform: Transform) -> Figure:
    """The distribution of the first features, a row each."""
    values = shown.reshape(*shown.shape[:2], -1)
    rows = min(values.shape[2], _ROWS)
    figure, axes = style.panels(rows, len(shown), 1.5, 1.2)
    for row in range(rows):
        edges = np.linspace(*style.span(values[[0, -1], :, row], 0.05), 31)
        for k, ax in enumerate(axes[row]):
            ax.hist(values[k, :, row], edges, color=SAMPLES)
            style.plain(ax)
            ax.set_yticks([])
            ax.tick_params(labelsize=6)
        axes[row][0].set_ylabel(style.feature(transform, row), fontsize=8, color=INK)
    for k, label in enumerate(labels):
        axes[0][k].set_title(label, fontsize=9, color=INK)
    return figure


def _image_frames(shown: np.ndarray, labels: Sequence[str], transform: Transform) -> list[Image]:
    """Sheets of images with the label above."""
    from PIL import Image, ImageDraw, ImageFont

    low, high = style.greys(shown[-1], transform)
    font, margin, header = ImageFont.load_default(13), 12, 34
    frames = []
    for moment, label in zip(shown, labels, strict=True):
        sheet = style.tiled(style.as_images(moment, transform), low, high)
        size = (max(sheet.shape[1] + 2 * margin, 150), sheet.shape[0] + header + margin)
        frame = Image.new("RGB", size, "white")
        frame.paste(Image.fromarray(sheet), (margin, header))
        ImageDraw.Draw(frame).text((margin, 9), label, fill=INK, font=font)
        frames.append(frame)
    return frames


def _cloud_frames(shown: np.ndarray, labels: Sequence[str], transform: Transform) -> list[Image]:
    """A cloud that moves between fixed axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    points = shown.reshape(*shown.shape[:2], 2)
    x, y, equal = _plane_of(points, transform)
    figure, axes = style.panels(1, 1, 4.0, 3.8)
    figure.dpi, ax, surface = 100, axes[0][0], FigureCanvasAgg(figure)
    drawn = ax.scatter([], [], s=5, color=SAMPLES, alpha=0.6, linewidths=0)
    style.plane(ax, x, y, equal)
    style.name_axes(ax, transform)
    title = ax.set_title("noise", fontsize=11, color=INK, loc="left")
    frames = []
    for cloud, label in zip(points, labels, strict=True):
        drawn.set_offsets(cloud)
        title.set_text(label)
        surface.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(surface.buffer_rgba())  # type: ignore[no-untyped-call]
        frames.append(Image.fromarray(pixels[..., :3].copy()))
    return frames
