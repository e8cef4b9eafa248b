"""Figures of functions of two variables: the score, and paths from noise to data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scoresde.figures.style import DATA, INK, dots, finished, legend, panels, paths, plane, span, square

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scoresde.data.transform import Transform

_MOST_ENDS = 400
_MOST_STEPS = 400
_DENSITY = 1.1  # of stream lines


def score_field(
    levels: Sequence[tuple[str, Callable[[Tensor], Tensor]]],
    transform: Transform,
    path: str | Path | None = None,
    reference: Tensor | None = None,
    title: str | None = None,
) -> Figure:
    """The score at several noise levels as stream lines, one panel each.

    Lines follow the score in data units; color is its length |score| in model units.

    Args:
        levels: for each panel its label and a function from points (n, 2) to scores (n, 2), both in model units and
            float32.
        transform: to data units.
        path: of a PNG to write.
        reference: real data (m, 2) in model units, drawn below.
        title: above all panels.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, LogNorm

    figure, axes = panels(1, len(levels), 4.0, 3.4)
    real = None if reference is None else transform.finish(reference)
    limits = ((-3.0, 3.0), (-3.0, 3.0)) if real is None else square(real, 0.25)
    x, y = np.meshgrid(*(np.linspace(*ends, 60) for ends in limits))
    points = transform.encode(np.stack([x.ravel(), y.ravel()], axis=1)).float()
    with torch.no_grad():
        fields = [function(points).detach().cpu().double() for _, function in levels]
    lengths = [field.norm(dim=1).numpy().reshape(x.shape) for field in fields]
    low, high = np.nanquantile(np.stack(lengths), [0.02, 0.995])
    norm = LogNorm(max(low, 1e-12), max(high, 2e-12), clip=True)
    colors = ListedColormap(colormaps["viridis"](np.linspace(0, 0.8, 256)))  # its yellow is lost on white
    scale = torch.tensor(transform.scale, dtype=torch.float64)
    style = {"cmap": colors, "norm": norm, "density": _DENSITY, "linewidth": 0.9, "arrowsize": 0.8}
    for ax, (label, _), field, length in zip(axes[0], levels, fields, lengths, strict=True):
        if real is not None:
            dots(ax, real, DATA, alpha=0.3)
        u, v = (field * scale).numpy().T.reshape(2, *x.shape)
        lines = ax.streamplot(x, y, u, v, color=length, **style)
        plane(ax, *limits)
        ax.set_title(label, fontsize=11, color=INK)
    bar = figure.colorbar(lines.lines, ax=list(axes[0]), shrink=0.8, pad=0.015)
    bar.set_label("length of the score", color=INK)
    bar.ax.tick_params(which="both", labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    return finished(figure, path, title)


def trajectories(
    trajectories: Mapping[str, Tensor | np.ndarray],
    path: str | Path | None = None,
    transform: Transform | None = None,
    title: str | None = None,
    *,
    lines: int = 8,
) -> Figure:
    """Trajectories from noise to data, one panel for each label.

    The first ones are drawn completely, dark at the noise and light near the data, the others only by their two ends.

    Args:
        trajectories: arrays (steps, n, 2) by label, first the noise, last the data; in model units, or in data units
            without a transform.
        path: of a PNG to write.
        transform: to data units.
        title: above all panels.
        lines: how many are drawn completely.
    """
    figure, axes = panels(1, len(trajectories), 4.4, 4.4)
    drawn = {label: _thinned(given, transform) for label, given in trajectories.items()}
    limits = square(np.concatenate([steps.reshape(-1, 2) for steps in drawn.values()]), 0.08)
    for ax, (name, steps) in zip(axes[0], drawn.items(), strict=True):
        paths(ax, steps[:, :lines], 0.7)
        for ends, color, label in ((steps[0], "white", "noise"), (steps[-1], DATA, "sample")):
            x, y = ends.T
            ax.scatter(x[lines:], y[lines:], s=6, color=color, edgecolors=INK, linewidths=0.2, alpha=0.6, zorder=3)
            ax.scatter(x[:lines], y[:lines], s=22, color=color, edgecolors=INK, linewidths=0.8, zorder=4, label=label)
        plane(ax, *limits)
        ax.set_title(name, fontsize=11, color=INK)
    legend(figure, axes[0][0])
    return finished(figure, path, title)


def _thinned(given: Tensor | np.ndarray, transform: Transform | None) -> np.ndarray:
    """At most so many steps and samples as can be seen, in data units."""
    kept = torch.as_tensor(given).detach().cpu().double()[:, :_MOST_ENDS]
    kept = kept[np.unique(np.linspace(0, len(kept) - 1, _MOST_STEPS).astype(int))]
    decoded: Tensor = kept if transform is None else torch.stack([transform.decode(x) for x in kept])
    return decoded.numpy()


def flow(
    moments: Tensor,
    transform: Transform,
    path: str | Path | None = None,
    title: str | None = None,
    *,
    lines: int = 100,
) -> Figure:
    """Trajectories of points from noise to data over the cloud in which they end.

    Args:
        moments: points (m, n, 2) in model units at m times, first the noise, last the data.
        transform: to data units.
        path: of a PNG to write.
        title: above the panel.
        lines: how many trajectories are drawn, dark at the noise and light near the data; all ends are drawn faintly.
    """
    given = moments.reshape(*moments.shape[:2], *transform.event_shape)
    steps = np.stack([transform.decode(x.double()).numpy() for x in given]).reshape(*moments.shape[:2], 2)
    figure, axes = panels(1, 1, 6.0, 5.6)
    ax, few = axes[0][0], steps[:, :lines]
    dots(ax, steps[-1], DATA, alpha=0.25)
    paths(ax, few, 0.6)
    ax.scatter(*few[0].T, s=12, color="white", edgecolors=INK, linewidths=0.7, zorder=3, label="noise")
    ax.scatter(*few[-1].T, s=12, color=DATA, edgecolors=INK, linewidths=0.7, zorder=4, label="sample")
    same_unit = transform.kind == "points"
    both = np.concatenate([few.reshape(-1, 2), steps[-1]])
    x, y = square(both, 0.05) if same_unit else (span(both[:, 0], 0.05), span(both[:, 1], 0.05))
    plane(ax, x, y, equal=same_unit)
    legend(figure, ax)
    return finished(figure, path, title)
