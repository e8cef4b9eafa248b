"""A metric of the jobs of a sweep against one key, against two, or against several in parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scoresde.figures.style import FAINT, INK, SAMPLES, finished, panels, plain
from scoresde.results.interval import Interval
from scoresde.results.metric import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDE = 10  # times the smallest value, from which on an axis is logarithmic
_MOST_CELLS = 150  # with the value written in
_SHARE = 0.5  # more than this of the cells of a map must be filled
_DARK = 0.55
_MOST_TICKS, _MOST_LETTERS = 12, 14
_COLOURS = "viridis"
_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.8}

Point = tuple[Mapping[str, Any], Interval]


class _Scale(NamedTuple):
    """The values of a key or of a metric on an axis."""

    places: np.ndarray
    ticks: list[float]
    labels: list[str]
    log: bool

    @classmethod
    def of(cls, values: Sequence[Any]) -> _Scale:
        """Numbers at their place; other values side by side, in their order."""
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            known = sorted(set(values))
            shown = known if len(known) <= _MOST_TICKS else []
            return cls(np.array(values, float), shown, [f"{v:g}" for v in shown], _is_wide(values))
        names = list(dict.fromkeys(map(str, values)))
        places = np.array([names.index(str(v)) for v in values], float)
        return cls(places, list(map(float, range(len(names)))), list(map(_brief, names)), False)

    def unit(self) -> np.ndarray:
        """The places from 0 to 1, equally spaced on a logarithmic axis."""
        x = np.log(self.places) if self.log else self.places
        low, high = x.min(), x.max()
        return np.full_like(x, 0.5) if low == high else (x - low) / (high - low)

    def show(self, ax: Axes, axis: str) -> None:
        """Scale and label an axis."""
        if self.log:
            getattr(ax, f"set_{axis}scale")("log")
        if self.ticks:
            getattr(ax, f"set_{axis}ticks")(self.ticks, self.labels)
            getattr(ax, f"set_{axis}ticks")([], minor=True)


def sweep(points: Sequence[Point], keys: Sequence[str], quantity: Quantity, path: Path, title: str) -> Figure:
    """Draw a metric against the keys.

    Args:
        points: the values of the keys, and the metric with its interval.
        keys: one: a line with intervals; two: a heat map, or points where most of its cells would be empty; more:
            parallel coordinates.
        quantity: what the metric is.
        path: of the PNG.
        title: above it.
    """
    draw = {1: _line, 2: _map}.get(len(keys), _parallel)
    width = 6.4 if len(keys) < 3 else min(2.2 * len(keys) + 2, 16)
    figure, axes = panels(1, 1, width, 4.4, dpi=110)
    draw(axes[0, 0], points, keys, quantity)
    return finished(figure, path, title)


def _is_wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) >= _WIDE * min(values)


def _brief(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"


def _values(points: Sequence[Point], key: str) -> list[Any]:
    return [settings.get(key, "") for settings, _ in points]


def _words(quantity: Quantity) -> str:
    return quantity.title + " (higher is better)" * (quantity.sign < 0)


def _line(ax: Axes, points: Sequence[Point], keys: Sequence[str], quantity: Quantity) -> None:
    scale = _Scale.of(_values(points, keys[0]))
    order = np.argsort(scale.places, kind="stable")
    mean, half = np.array([interval for _, interval in points]).T
    numbers = not scale.labels or all(isinstance(v, int | float) for v in _values(points, keys[0]))
    look: dict[str, Any] = {"marker": "o", "ms": 4.5, "capsize": 3, "elinewidth": 0.9, "lw": 1.3, "color": SAMPLES}
    style = "-" if numbers else "none"  # nothing lies between two names
    ax.errorbar(scale.places[order], mean[order], np.nan_to_num(half[order]), ls=style, **look)
    scale.show(ax, "x")
    if _is_wide(mean):
        ax.set_yscale("log")
    ax.set_xlabel(keys[0], color=INK, fontsize=9)
    ax.set_ylabel(_words(quantity), color=INK, fontsize=9)
    plain(ax)


def _norm(values: Sequence[float]) -> Any:
    from matplotlib.colors import LogNorm, Normalize

    kind = LogNorm if _is_wide(values) else Normalize
    return kind(min(values), max(values))


def _colours(quantity: Quantity) -> str:
    """Good values are dark."""
    return _COLOURS if quantity.sign > 0 else f"{_COLOURS}_r"


def _map(ax: Axes, points: Sequence[Point], keys: Sequence[str], quantity: Quantity) -> None:
    x, y = (_Scale.of(_values(points, key)) for key in keys)
    means = [interval.mean for _, interval in points]
    look: dict[str, Any] = {"cmap": _colours(quantity), "norm": _norm(means)}
    if len(points) > _SHARE * math.prod(len(_ordered(_values(points, key))) for key in keys):
        shown = _cells(ax, points, keys, quantity, look)
    else:
        x.show(ax, "x")
        y.show(ax, "y")
        shown = ax.scatter(x.places, y.places, c=means, s=60, edgecolors=INK, linewidths=0.5, **look)
    ax.set_xlabel(keys[0], color=INK, fontsize=9)
    ax.set_ylabel(keys[1], color=INK, fontsize=9)
    plain(ax)
    bar = ax.figure.colorbar(shown, ax=ax)
    bar.set_label(_words(quantity), color=INK, fontsize=9)
    bar.ax.tick_params(labelsize=8, colors=INK)


def _ordered(values: Sequence[Any]) -> list[Any]:
    """The different values, numbers in rising order."""
    numbers = all(isinstance(v, int | float) for v in values)
    return sorted(set(values)) if numbers else list(dict.fromkeys(map(str, values)))


def _cells(ax: Axes, points: Sequence[Point], keys: Sequence[str], quantity: Quantity, look: dict[str, Any]) -> Any:
    names = [_ordered(_values(points, key)) for key in keys]
    numbers = [[v if v in names[i] else str(v) for v in _values(points, key)] for i, key in enumerate(keys)]
    cells = np.full((len(names[1]), len(names[0])), np.nan)
    for x, y, (_, interval) in zip(*numbers, points, strict=True):
        cells[names[1].index(y), names[0].index(x)] = interval.mean
    shown: Any = ax.imshow(cells, origin="lower", aspect="auto", **look)
    for axis, own in zip("xy", names, strict=True):
        labels = [f"{v:g}" if isinstance(v, int | float) else _brief(str(v)) for v in own]
        step = math.ceil(len(own) / _MOST_TICKS)
        getattr(ax, f"set_{axis}ticks")(range(0, len(own), step), labels[::step])
    best = np.nanargmin(quantity.sign * cells)
    for (row, column), value in np.ndenumerate(cells):
        if cells.size <= _MOST_CELLS and np.isfinite(value):
            dark = shown.cmap(shown.norm(value))[1] < _DARK  # of its green, which the eye sees best
            weight = "bold" if row * cells.shape[1] + column == best else "normal"
            words: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "weight": weight}
            ax.text(column, row, f"{value:.3g}", color="white" if dark else "black", **words)
    return shown


def _parallel(ax: Axes, points: Sequence[Point], keys: Sequence[str], quantity: Quantity) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection

    means = [interval.mean for _, interval in points]
    scales = [*(_Scale.of(_values(points, key)) for key in keys), _Scale.of(means)]
    heights = np.stack([scale.unit() for scale in scales], axis=1)
    order = np.argsort([-quantity.sign * mean for mean in means])  # the best one on top
    mapped = ScalarMappable(_norm(means), _colours(quantity))
    lines = [np.column_stack([np.arange(len(scales)), row]) for row in heights[order]]
    widths = [*[1.0] * (len(lines) - 1), 2.6]
    colors = mapped.to_rgba(np.array(means)[order])
    ax.add_collection(LineCollection(lines, colors=colors, linewidths=widths, alpha=0.85))
    for x, scale in enumerate(scales):
        ax.axvline(x, color=FAINT, lw=0.9, zorder=0)
        for height, label in _marks(scale):
            ax.text(x + 0.03, height, label, fontsize=8, color=INK, va="center", zorder=5, bbox=_PAPER)
    ax.set_xlim(-0.25, len(scales) - 0.5)
    ax.set_ylim(-0.06, 1.06)
    ax.set_xticks(range(len(scales)), [*keys, quantity.heading], fontsize=9)
    ax.set_yticks([])
    plain(ax)
    ax.spines["left"].set_visible(False)


def _marks(scale: _Scale) -> list[tuple[float, str]]:
    """Heights and labels on an axis of parallel coordinates: its values where they are few, else both ends."""
    heights, seen = scale.unit(), dict(zip(scale.places.tolist(), scale.unit().tolist(), strict=True))
    if scale.ticks:
        return [(seen[tick], label) for tick, label in zip(scale.ticks, scale.labels, strict=True)]
    ends = (int(heights.argmin()), int(heights.argmax()))
    return [(float(heights[i]), f"{scale.places[i]:.3g}") for i in ends]
