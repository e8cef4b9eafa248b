"""Draws docs/lineage/coverage.png from the results of mode_coverage.py."""

from pathlib import Path
from typing import Any

import numpy as np

from scoresde.data import GaussianGrid, StackedDigits
from scoresde.figures.style import DATA, FAINT, INK, SAMPLES, finished, panels, plain, plane
from scoresde.results.metric import evenly

FILE = Path(__file__).parents[1] / "docs" / "lineage" / "coverage.png"
_TOP = 100  # samples of a mode in the picture


def draw(problems: dict[str, Any]) -> None:
    """Samples of 25 Gaussians above; below, how many stacks of digits have each of the 1,000 modes as likeliest one."""
    grid, digits = problems["gaussians_25"], problems["stacked_digits"]
    data, stacks = GaussianGrid().load(), StackedDigits().load()
    points = {"training items": data.transform.decode(evenly(data.train, 3000)).numpy()}
    counts = {"training items": np.bincount(evenly(stacks.train_labels, digits["n"]), minlength=1000)}
    points |= {label: np.array(shown["points"]) for label, shown in grid["shown"].items()}
    counts |= {label: np.pad(one["counts"], (0, 1000 - len(one["counts"]))) for label, one in digits["shown"].items()}
    figure, axes = panels(2, len(points), 2.5, 2.4, (0.4, 0.3))
    for (label, x), above, below in zip(points.items(), *axes, strict=True):
        color = DATA if label == "training items" else SAMPLES
        above.plot(*x.T, ".", color=color, markersize=1.6, alpha=0.5, markeredgewidth=0)
        plane(above, (-5, 5), (-5, 5))
        above.set_title(label, color=INK, fontsize=11)
        plain(above)
        above.set_xticks([])
        above.set_yticks([])
        own = np.sort(counts[label])[::-1]
        below.fill_between(np.arange(len(own)), np.minimum(own, _TOP), step="mid", color=color, linewidth=0)
        below.axhline(digits["n"] / 1000, color=FAINT, linewidth=1)
        below.set(xlim=(0, 1000), ylim=(0, _TOP), xticks=(0, 500, 1000), xticklabels=("0", "500", "1,000"))
        below.set_xlabel("modes, the most frequent first", color=INK, fontsize=9)
        said = f"{(own < 10).sum()} modes below 10"
        below.text(980, 0.95 * _TOP, said, ha="right", va="top", fontsize=8, color=INK)
        plain(below)
    axes[0, 0].set_ylabel("25 Gaussians", color=INK, fontsize=10)
    axes[1, 0].set_ylabel(f"stacked digits: of {digits['n']:,} samples", color=INK, fontsize=10)
    finished(figure, FILE, None)
