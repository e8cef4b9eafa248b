"""Samples side by side: a row for each sampler, in each column the same noise, or in the plane a cloud a budget."""

from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from scoresde.figures import style
from scoresde.figures.style import DATA, FAINT, INK, SAMPLES
from scoresde.results.rows import Row, Rows

_COLUMNS = 12


def pictures(results: Rows, folder: Path) -> list[Path]:
    """Write the pictures that suit the data and return their files; none for tables and series."""
    transform = results.transform
    blocks = results.blocks(row for row in results.succeeded if row.shown is not None)
    if transform is None or not blocks:
        return []
    if transform.kind == "image" and results.items:
        return [_items(results, own, folder / f"items-{budget or 'adaptive'}.png") for budget, own in blocks.items()]
    if transform.kind == "image":
        return [_images(results, own, folder / f"samples-{budget or 'adaptive'}.png") for budget, own in blocks.items()]
    rows = list(chain(*blocks.values()))
    return [_clouds(results, rows, folder / "samples.png")] if style.form(transform) == "plane" else []


def _mosaic(
    path: Path, title: str, lines: Sequence[tuple[str, Sequence[Any]]], draw: Callable[[Any, Any], None], size: float
) -> Path:
    """Labelled lines of small panels, each drawn by `draw(axes, item)`; None leaves a gap."""
    across = max(len(items) for _, items in lines)
    figure, axes = style.panels(len(lines), across, size, size, margins=(2.3, 0.5), dpi=110)
    for (label, items), own in zip(lines, axes, strict=True):
        own[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9, color=INK)
        for ax, item in zip_longest(own, items):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(color=FAINT, visible=item is not None)
            if item is not None:
                draw(ax, item)
    figure.suptitle(title, fontsize=10, color=INK)
    style.save(figure, path)
    return path


def _images(results: Rows, rows: Sequence[Row], path: Path) -> Path:
    """One line of images for each sampler, under those of the exact endpoints."""
    transform, several = results.transform, len(results.settings) > 1
    assert transform is not None
    exact = [(f"exact endpoint, {k}" if several else "exact endpoint", x) for k, x in results.endpoints.items()]
    own = [(results.label(row), row.shown) for row in rows]
    lines = [(k, list(transform.finish(x[:_COLUMNS].nan_to_num()))) for k, x in exact + own if x is not None]
    low, high = style.greys(lines[0][1][0], transform)

    def draw(ax: Any, image: np.ndarray) -> None:
        ax.imshow(style.colors(image, low, high), interpolation="nearest")
        ax.spines[:].set_visible(False)

    return _mosaic(path, f"{_spent(rows)}; the same noise in each column", lines, draw, 0.62)


def _spent(rows: Sequence[Row]) -> str:
    return f"{rows[0].budget} evaluations" if rows[0].budget else "solvers that choose their own steps"


def _items(results: Rows, rows: Sequence[Row], path: Path) -> Path:
    """A column for each item: the truth, what was seen of it, and what each method infers."""
    transform, lines = results.transform, list(results.items.items())
    assert transform is not None
    lines += [(f"{results.label(row)}\n{name}", own) for row in rows for name, own in row.items.items()]
    low, high = style.greys(np.stack(lines[-1][1][:_COLUMNS]), transform)

    def draw(ax: Any, image: np.ndarray) -> None:
        ax.imshow(style.colors(image, low, high), interpolation="nearest")
        ax.spines[:].set_visible(False)

    shown = [(name, own[:_COLUMNS]) for name, own in lines]
    return _mosaic(path, f"{_spent(rows)}; an item in each column", shown, draw, 0.62)


def _clouds(results: Rows, rows: Sequence[Row], path: Path) -> Path:
    """A panel for each sampler (lines) and budget (columns), on the axes of the exact endpoints or the best cloud."""
    transform = results.transform
    assert transform is not None
    exact = {setting: transform.finish(x) for setting, x in results.endpoints.items()}
    shown = {id(row): transform.finish(row.shown) for row in rows if row.shown is not None}
    ruler = next(iter(exact.values()), shown[id(rows[-1])])
    limits = [(v.min() - 0.1 * np.ptp(v), v.max() + 0.1 * np.ptp(v)) for v in ruler.T]

    def draw(ax: Any, row: Row) -> None:
        if (under := row.target or row.setting) in exact:
            ax.scatter(*exact[under].T, s=2, color=DATA, alpha=0.5, linewidths=0)
        ax.scatter(*shown[id(row)][: len(ruler)].T, s=2, color=SAMPLES, alpha=0.6, linewidths=0)
        ax.set(xlim=limits[0], ylim=limits[1])
        note = f"NFE {row.nfe:.0f}" if row.tolerance is None else f"tolerance {row.tolerance:g}"
        ax.text(0.03, 0.97, note, transform=ax.transAxes, fontsize=7, va="top", color=INK)

    under = "real data" if results.targets else "exact endpoints of the same noise"
    what = f"samples (blue) over {under} (orange)" if exact else "samples"
    return _mosaic(path, what, _by_family(results, rows), draw, 1.55)


def _by_family(results: Rows, rows: Sequence[Row]) -> list[tuple[str, list[Row | None]]]:
    """The rows of each sampler under its name: one for each budget, or for each tolerance."""
    budgets = sorted({row.budget for row in rows if row.budget is not None})
    return [
        (label, [*own] if own[0].budget is None else [{r.budget: r for r in own}.get(budget) for budget in budgets])
        for label, own in results.families(rows).items()
    ]
