"""What a posterior method infers from an observation: truth, observation, samples, mean and spread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scoresde.figures import style
from scoresde.figures.style import DATA, FAINT, INK, SAMPLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scoresde.data.transform import Transform

_SIDE = 150  # pixels of the larger side of one image
_SAMPLES = 9  # images
_FEATURES, _CHANNELS, _LINES = 9, 4, 30
_EDGE, _HEADER = 18, 64


def inferred(
    samples: np.ndarray,
    found: Mapping[str, np.ndarray],
    transform: Transform,
    path: str | Path | None = None,
    title: str | None = None,
) -> Figure:
    """Images side by side, series with bands, pairs of numbers in the plane, and tables as histograms.

    Args:
        samples: (n, *event), all in data units.
        found: `mean` and `spread`, the standard deviation, (*event); perhaps `truth`, and `observation` or what
            begins so, which is NaN where nothing was seen; an observed image may have another size.
        transform: of the data.
        path: of a PNG to write.
        title: above all.
    """
    draw = {"image": _images, "volume": _images, "series": _series, "plane": _plane, "table": _histograms}
    return style.finished(draw[style.form(transform)](samples, found, transform), path, title)


def _seen(found: Mapping[str, np.ndarray]) -> str:
    """The name of what was observed."""
    return next((name for name in found if name.startswith("observation")), "observation")


def _images(samples: np.ndarray, found: Mapping[str, np.ndarray], transform: Transform) -> Figure:
    low, high = style.greys(style.as_images(samples, transform), transform)
    some = style.as_images(samples[:_SAMPLES], transform)
    drawn = style.tiled(some, low, high, across=math.ceil(math.sqrt(len(some))), pixels=_SIDE // 2)
    side, sheets = max(len(drawn), _SIDE), {}
    for name in ("truth", _seen(found), "samples", "mean"):
        if name in found:
            sheets[name] = style.tiled(style.as_images(found[name][None], transform), low, high, across=1, pixels=side)
        elif name == "samples":
            sheets[name] = drawn
    spread = style.as_images(found["spread"][None], transform).mean(1, keepdims=True)
    sheets[f"spread, 0 to {spread.max():.2g}"] = style.tiled(spread, 0.0, float(spread.max()), across=1, pixels=side)
    wide = [max(sheet.shape[1], _SIDE // 2) for sheet in sheets.values()]
    tall = max(sheet.shape[0] for sheet in sheets.values())
    figure, left = style.canvas(sum(wide) + _EDGE * (len(wide) + 1), tall + _HEADER + _EDGE), _EDGE
    for (name, sheet), width in zip(sheets.items(), wide, strict=True):
        style.place(figure, sheet, left, _HEADER).set_title(name, fontsize=10, color=INK, loc="left", pad=4)
        left += width + _EDGE
    return figure


def _series(samples: np.ndarray, found: Mapping[str, np.ndarray], _: Transform) -> Figure:
    rows, place = min(samples.shape[1], _CHANNELS), np.arange(samples.shape[2])
    figure, axes = style.panels(rows, 1, 7.0, 2.2)
    for k, ax in enumerate(axes[:, 0]):
        mean, spread = found["mean"][k], found["spread"][k]
        ax.fill_between(place, mean - 2 * spread, mean + 2 * spread, color=SAMPLES, alpha=0.15, linewidth=0)
        ax.plot(samples[:_LINES, k].T, color=SAMPLES, linewidth=0.4, alpha=0.4)
        ax.plot(mean, color=SAMPLES, linewidth=1.6, label="mean, with samples and two deviations")
        if "truth" in found:
            ax.plot(found["truth"][k], color=DATA, linewidth=1.2, label="truth")
        if (seen := _seen(found)) in found and found[seen].shape == found["mean"].shape:
            ax.plot(found[seen][k], color=INK, marker=".", markersize=3, linewidth=0, label=seen)
        style.plain(ax)
    style.legend(figure, axes[0, 0])
    return figure


def _plane(samples: np.ndarray, found: Mapping[str, np.ndarray], transform: Transform) -> Figure:
    figure, ((ax,),) = style.panels(1, 1, 5.0, 5.0)
    points, mean = samples.reshape(-1, 2), found["mean"].reshape(1, 2)
    style.dots(ax, points, SAMPLES, 0.6)
    marked = [points, mean]
    ax.plot(*mean[0], color=INK, marker="+", markersize=12, linewidth=0, label="mean")
    if "truth" in found:
        marked.append(truth := found["truth"].reshape(1, 2))
        ax.plot(*truth[0], color=DATA, marker="o", markersize=7, linewidth=0, label="truth")
    seen = _seen(found)
    for k, value in enumerate(found[seen].reshape(2) if seen in found else ()):
        if np.isfinite(value):
            _line(ax, float(value), k, seen, INK)
    style.plane(ax, *style.square(np.concatenate(marked), 0.25))
    style.name_axes(ax, transform)
    style.legend(figure, ax)
    return figure


def _histograms(samples: np.ndarray, found: Mapping[str, np.ndarray], transform: Transform) -> Figure:
    columns = samples.reshape(len(samples), -1)
    marks = {_seen(found): INK, "truth": DATA, "mean": SAMPLES}
    values = {name: found[name].reshape(-1) for name in marks if name in found}
    parts = _parts(transform, columns.shape[1])[:_FEATURES]
    figure, axes = style.wrapped(len(parts), 3, 3.4, 2.5)
    for ax, (name, categories, own) in zip(axes, parts, strict=True):
        if categories:
            _shares(ax, columns[:, own], categories, {k: v[own] for k, v in values.items() if k != "mean"}, marks)
        else:
            ax.hist(columns[:, own.start], 30, color=FAINT, label="samples")
            for mark, value in values.items():
                if np.isfinite(value[own.start]):
                    _line(ax, float(value[own.start]), 0, mark, marks[mark])
            ax.locator_params("x", nbins=4)
        ax.set_yticks([])
        style.plain(ax)
        ax.spines["left"].set_visible(False)
        ax.set_xlabel(name, color=INK)
    style.legend(figure, max((ax for ax in axes), key=lambda ax: len(ax.lines)))
    return figure


def _parts(transform: Transform, size: int) -> list[tuple[str, tuple[str, ...], slice]]:
    """What is drawn in a panel each: the name of a column, its categories if it has any, and its features."""
    if transform.columns is None:
        return [(style.feature(transform, k), (), slice(k, k + 1)) for k in range(size)]
    ends = np.cumsum([len(column.features) for column in transform.columns]).tolist()
    starts = [0, *ends[:-1]]
    return [(c.name, c.categories, slice(a, b)) for c, a, b in zip(transform.columns, starts, ends, strict=True)]


def _shares(
    ax: Axes, samples: np.ndarray, categories: tuple[str, ...], found: Mapping[str, np.ndarray], colors: dict[str, str]
) -> None:
    """How many samples are of each category, the likeliest one of their features, with that of what else is known."""
    counts = np.bincount(samples.argmax(1), minlength=len(categories))
    ax.bar(range(len(categories)), counts, 0.7, color=FAINT, label="samples")
    for k, (name, value) in enumerate(found.items()):
        if np.isfinite(value).all():
            place = int(value.argmax()) + 0.12 * (k - (len(found) - 1) / 2)  # beside each other
            _line(ax, place, 0, name, colors[name])
    ax.set_xticks(range(len(categories)), categories)


def _line(ax: Axes, value: float, axis: int, label: str, color: str) -> None:
    """A line at a value of one of the axes."""
    (ax.axhline if axis else ax.axvline)(value, color=color, linewidth=1.2, linestyle="--", label=label)
