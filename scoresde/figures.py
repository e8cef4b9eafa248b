"""Pictures of samples, of scores and of paths; knows of data only its `Transform`.

Every function writes a PNG to `path`, or returns the matplotlib figure where `path` is None. No global state of
matplotlib is read or changed, so they may be called from any thread and beside the user's own figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scoresde.data.transform import Transform

# Blue and orange of Okabe and Ito's palette: told apart with any colour vision, and in grey print.
_SAMPLES = "#0072B2"
_DATA = "#D98200"
_FAINT = "#C4C4C4"
_INK = "#333333"
_GAP = 0.42  # between images: grey, so that neither black nor white ones run into each other
_MOST_POINTS = 4000
_MOST_FEATURES = 6
_MOST_LINES = 10
_MOST_ENDS = 400
_MOST_STEPS = 400


def picture(
    samples: Tensor,
    transform: Transform,
    path: str | Path | None = None,
    reference: Tensor | None = None,
    title: str | None = None,
) -> Figure | None:
    """Draws samples (n, *event), and real data (m, *event) with them if given; both in model units.

    Images become a grid of up to 10 x 10, beside that of the data; pairs of numbers a scatter plot beside that of
    the data; other tables a histogram of each of the first 6 features over that of the data; series (channels,
    length) lines; events of three axes and more their middle slice as a grey image. All in data units.

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
        figure = _image_grids(_middle(own), None if real is None else _middle(real), low, high, title)
    return _finished(figure, path, title)


def score_field(
    levels: Sequence[tuple[str, Callable[[Tensor], Tensor]]],
    transform: Transform,
    path: str | Path | None = None,
    reference: Tensor | None = None,
    title: str | None = None,
) -> Figure | None:
    """Draws the score at several noise levels as stream lines, one panel each, over data (m, 2) in model units.

    `levels` holds pairs of a label and a function from points (n, 2) to scores (n, 2), both in model units and
    float32; lines follow the score in data units, and colour tells its length |score| in model units.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, LogNorm

    figure, axes = _panels(1, len(levels), 4.0, 3.4)
    dots = None if reference is None else transform.finish(reference)
    (left, right), (bottom, top) = ((-3.0, 3.0), (-3.0, 3.0)) if dots is None else _square(dots, 0.25)
    x, y = np.meshgrid(np.linspace(left, right, 60), np.linspace(bottom, top, 60))
    points = transform.encode(np.stack([x.ravel(), y.ravel()], axis=1)).float()
    with torch.no_grad():
        fields = [function(points).detach().cpu().double() for _, function in levels]
    lengths = [field.norm(dim=1).numpy().reshape(x.shape) for field in fields]
    low, high = np.nanquantile(np.stack(lengths), [0.02, 0.995])
    norm = LogNorm(max(low, 1e-12), max(high, 2e-12), clip=True)
    colours = ListedColormap(colormaps["viridis"](np.linspace(0, 0.8, 256)))  # its yellow is lost on white
    scale = torch.tensor(transform.scale, dtype=torch.float64)
    for ax, (label, _), field, length in zip(axes[0], levels, fields, lengths, strict=True):
        if dots is not None:
            _dots(ax, dots, _DATA, alpha=0.3)
        u, v = (field * scale).numpy().T.reshape(2, *x.shape)
        lines = ax.streamplot(
            x, y, u, v, color=length, cmap=colours, norm=norm, density=1.1, linewidth=0.9, arrowsize=0.8
        )
        _plane(ax, (left, right), (bottom, top))
        ax.set_title(label, fontsize=11, color=_INK)
    bar = figure.colorbar(lines.lines, ax=list(axes[0]), shrink=0.8, pad=0.015)
    bar.set_label("length of the score", color=_INK)
    bar.ax.tick_params(which="both", labelsize=8, colors=_INK)
    bar.outline.set_visible(False)
    return _finished(figure, path, title)


def trajectories(
    paths: Mapping[str, Tensor | np.ndarray],
    path: str | Path | None = None,
    transform: Transform | None = None,
    title: str | None = None,
    lines: int = 8,
) -> Figure | None:
    """Draws paths from noise to data, one panel for each label; arrays (steps, n, 2), first noise, last data.

    In model units, or in data units if `transform` is given. The first `lines` paths are drawn whole, dark at the
    noise and light near the data; of the others only where they start and end.
    """
    from matplotlib.collections import LineCollection

    figure, axes = _panels(1, len(paths), 4.4, 4.4)
    drawn: dict[str, np.ndarray] = {}
    for label, given in paths.items():
        kept = torch.as_tensor(given).detach().cpu().double()[:, :_MOST_ENDS]
        kept = kept[np.unique(np.linspace(0, len(kept) - 1, _MOST_STEPS).astype(int))]
        drawn[label] = (kept if transform is None else torch.stack([transform.decode(x) for x in kept])).numpy()
    limits = _square(np.concatenate([steps.reshape(-1, 2) for steps in drawn.values()]), 0.08)
    for ax, (name, steps) in zip(axes[0], drawn.items(), strict=True):
        few = steps[:, :lines]
        segments = np.stack([few[:-1], few[1:]], axis=2).reshape(-1, 2, 2)
        drawing = LineCollection(list(segments), cmap="viridis", linewidths=0.7, alpha=0.7, zorder=2)
        drawing.set_array(np.repeat(np.linspace(0, 0.9, len(few) - 1), few.shape[1]))
        drawing.set_clim(0, 1)
        ax.add_collection(drawing)
        for ends, colour, label in ((steps[0], "white", "noise"), (steps[-1], _DATA, "sample")):
            x, y = ends.T
            ax.scatter(x[lines:], y[lines:], s=6, color=colour, edgecolors=_INK, linewidths=0.2, alpha=0.6, zorder=3)
            ax.scatter(x[:lines], y[:lines], s=22, color=colour, edgecolors=_INK, linewidths=0.8, zorder=4, label=label)
        _plane(ax, *limits)
        ax.set_title(name, fontsize=11, color=_INK)
    _legend(figure, axes[0][0])
    return _finished(figure, path, title)


def _image_grids(
    own: np.ndarray, real: np.ndarray | None, low: float | None, high: float | None, title: str | None
) -> Figure:
    """Grids of images (n, channels, height, width), drawn so that one pixel of data is a whole number of pixels."""
    from matplotlib.figure import Figure

    grids = {"samples": _tiled(own, low, high)}
    if real is not None:
        grids["real data"] = _tiled(real, low, high)
    margin, dpi = 18, 100
    header = 34 if title is None else 64
    width = sum(grid.shape[1] + margin for grid in grids.values()) + margin
    height = max(grid.shape[0] for grid in grids.values()) + header + margin
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor="white")
    left = margin
    for label, grid in grids.items():
        box = (left / width, 1 - (header + grid.shape[0]) / height, grid.shape[1] / width, grid.shape[0] / height)
        ax = figure.add_axes(box)
        ax.imshow(grid, interpolation="nearest", aspect="auto")
        ax.set_axis_off()
        ax.set_title(label, fontsize=10, color=_INK, loc="left", pad=4)
        left += grid.shape[1] + margin
    return figure


def _tiled(images: np.ndarray, low: float | None, high: float | None) -> np.ndarray:
    """One picture (rows, columns, 3) in uint8 of up to 10 x 10 images (n, channels, height, width)."""
    images = images.astype(np.float64)
    low = float(np.nanmin(images)) if low is None else low
    high = float(np.nanmax(images)) if high is None else high
    unit = np.nan_to_num((images - low) / max(high - low, 1e-12)).clip(0, 1)
    n, channels, h, w = unit.shape
    zoom = max(1, 44 // max(h, w))
    across = max(1, min(10, math.ceil(math.sqrt(n)), max(3, 640 // (zoom * max(h, w)))))
    down = min(across, math.ceil(n / across))
    gap = 5
    sheet = np.full((down * (zoom * h + gap) - gap, across * (zoom * w + gap) - gap, 3), _GAP)
    for k, image in enumerate(unit[: across * down]):
        top, left = (k // across) * (zoom * h + gap), (k % across) * (zoom * w + gap)
        pixels = np.moveaxis(image if channels == 3 else image[:1].repeat(3, axis=0), 0, -1)
        sheet[top : top + zoom * h, left : left + zoom * w] = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return np.asarray(np.rint(sheet * 255), dtype=np.uint8)


def _middle(events: np.ndarray) -> np.ndarray:
    """The middle plane (n, 1, height, width) of events (n, ..., height, width)."""
    planes = events.reshape(len(events), -1, 1, *events.shape[-2:])
    return np.asarray(planes[:, planes.shape[1] // 2])


def _clouds(own: np.ndarray, real: np.ndarray | None, transform: Transform) -> Figure:
    """Scatter plots of pairs of numbers side by side, on the same axes."""
    clouds = {"samples": (own, _SAMPLES)} if real is None else {"real data": (real, _DATA), "samples": (own, _SAMPLES)}
    ruler = own if real is None else real
    same_unit = transform.kind == "points"
    x, y = (_range(column, 0.12) for column in ruler.reshape(-1, 2).T)
    shape = (y[1] - y[0]) / (x[1] - x[0]) if same_unit else 0.8
    figure, axes = _panels(1, len(clouds), 4.4, 4.4 * min(max(shape, 0.5), 1.5))
    for ax, (label, (points, colour)) in zip(axes[0], clouds.items(), strict=True):
        points = points.reshape(-1, 2)[:_MOST_POINTS]
        _dots(ax, points, colour, alpha=0.45)
        _plane(ax, x, y, equal=same_unit)
        inside = (points > (x[0], y[0])).all(1) & (points < (x[1], y[1])).all(1)
        outside = "" if inside.all() else f", {len(points) - inside.sum()} of {len(points)} outside"
        ax.set_title(label + outside, fontsize=11, color=_INK)
        if transform.names is not None:
            ax.set_xlabel(transform.names[0], color=_INK)
            ax.set_ylabel(transform.names[1], color=_INK)
    return figure


def _histograms(own: np.ndarray, real: np.ndarray | None, names: tuple[str, ...] | None) -> Figure:
    """A histogram for each of the first features of events (n,) or (n, features)."""
    own = own.reshape(len(own), -1)
    shown = min(own.shape[1], _MOST_FEATURES)
    across = min(shown, 3)
    figure, axes = _panels(math.ceil(shown / across), across, 3.4, 2.5)
    for k, ax in enumerate(axes.ravel()):
        ax.set_visible(k < shown)
        if k >= shown:
            continue
        ruler = own[:, k] if real is None else real.reshape(len(real), -1)[:, k]
        edges = np.linspace(*_range(ruler, 0.06), 41)
        if real is not None:
            ax.hist(ruler, edges, density=True, color=_DATA, alpha=0.55, label="real data")
        values = own[:, k][np.isfinite(own[:, k])]
        # Weights instead of `density`: samples outside the axis are missing mass, not spread over the rest.
        weights = np.full(len(values), 1 / max(len(own), 1) / (edges[1] - edges[0]))
        ax.hist(values, edges, weights=weights, histtype="step", color=_SAMPLES, linewidth=1.5, label="samples")
        ax.set_xlabel(f"feature {k + 1}" if names is None else names[k], color=_INK)
        ax.set_yticks([])
        _plain(ax)
        ax.spines["left"].set_visible(False)
    if shown < own.shape[1]:
        figure.supylabel(f"the first {shown} of {own.shape[1]} features", fontsize=9, color=_INK)
    _legend(figure, axes[0][0])
    return figure


def _series(own: np.ndarray, real: np.ndarray | None) -> Figure:
    """Lines of events (n, channels, length), one row for each of the first 3 channels."""
    clouds = {"samples": (own, _SAMPLES)} if real is None else {"real data": (real, _DATA), "samples": (own, _SAMPLES)}
    ruler = own if real is None else real
    rows = min(own.shape[1], 3)
    figure, axes = _panels(rows, len(clouds), 4.6, 2.0)
    for column, (label, (events, colour)) in enumerate(clouds.items()):
        for row in range(rows):
            ax = axes[row][column]
            ax.plot(events[:_MOST_LINES, row].T, color=colour, linewidth=0.9, alpha=0.7)
            ax.set_ylim(*_range(ruler[:, row], 0.15))
            ax.set_ylabel(f"channel {row + 1}" if rows > 1 and column == 0 else "", color=_INK)
            _plain(ax)
        axes[0][column].set_title(label, fontsize=11, color=_INK)
    return figure


def _panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure of equal panels (rows, columns), each of so many inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, rows * height + 0.6), dpi=120, layout="constrained", facecolor="white")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _legend(figure: Figure, ax: Axes) -> None:
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)


def _dots(ax: Axes, points: np.ndarray, colour: str, alpha: float) -> None:
    x, y = points[:_MOST_POINTS].T
    ax.scatter(x, y, s=4, color=colour, alpha=alpha, linewidths=0)


def _plain(ax: Axes) -> None:
    ax.tick_params(labelsize=8, colors=_INK, length=3)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_FAINT)


def _plane(ax: Axes, x: tuple[float, float], y: tuple[float, float], equal: bool = True) -> None:
    ax.set_xlim(*x)
    ax.set_ylim(*y)
    ax.set_aspect("equal" if equal else "auto")
    _plain(ax)


def _range(values: np.ndarray, margin: float) -> tuple[float, float]:
    """The range of all but the most extreme thousandth of the finite values, and a margin on both sides."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return -1.0, 1.0
    low, high = (float(q) for q in np.quantile(finite, [0.0005, 0.9995]))
    room = margin * (high - low) or 0.5 * max(abs(low), 1.0)
    return low - room, high + room


def _square(points: np.ndarray, margin: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of both axes, of one length, around points (n, 2)."""
    ranges = [_range(column, margin) for column in points.T]
    half = max(high - low for low, high in ranges) / 2
    x, y = ((low + high) / 2 for low, high in ranges)
    return (x - half, x + half), (y - half, y + half)


def _finished(figure: Figure, path: str | Path | None, title: str | None) -> Figure | None:
    """Adds the title; then writes the figure, or hands it back if there is no path."""
    if title is not None:
        figure.suptitle(title, fontsize=12, color=_INK)
    if path is None:
        return figure
    figure.savefig(path, format="png", dpi=figure.dpi)
    return None
