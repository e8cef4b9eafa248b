"""Pictures of the path from noise to data: `sampler.path=true` of `scoresde sample`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoresde import figures
from scoresde.errors import InputError
from scoresde.model import Model
from scoresde.runs import Run
from scoresde.sampling import Sampler

_MOST_MOMENTS = 120  # kept of a path; of a longer one every second, fourth, ... moment
_MOST_VALUES = 30_000_000  # in all of them, 120 MB
_STRIP, _FILM = 10, 48  # moments that are drawn
_IMAGES, _POINTS, _LINES = 36, 2000, 100


@dataclass(frozen=True)
class Moments:
    """Some moments of the trajectories of a few samples, rescaled to be visible.

    Attributes:
        x: (m, n, *event), x_t / sqrt(alpha^2 + (sigma / sigma_data)^2), which at every level is as wide as the data:
            under VE noise alone would leave nothing to be seen of the rest.
        angles: atan(sigma / (alpha sigma_data)) of each, from near pi/2 (noise) down to 0 (data).
        labels: the noise of each in words.
    """

    x: Tensor
    angles: list[float]
    labels: list[str]

    def spread(self, count: int) -> Moments:
        """At most so many of them, with the first and the last, at about equal steps of the angle.

        So the picture shows x change; equal steps of time or of lam are mostly noise, or mostly finished.
        """
        if len(self.angles) <= count:
            return self
        wanted = np.linspace(self.angles[0], self.angles[-1], count)
        chosen = np.unique(np.abs(np.subtract.outer(wanted, self.angles)).argmin(axis=1)).tolist()
        return Moments(self.x[chosen], [self.angles[k] for k in chosen], [self.labels[k] for k in chosen])


def draw_path(out: Path, run: Run, model: Model, sampler: Sampler, n: int, seed: int, label: str) -> list[str]:
    """Follow the first samples again and draw how they form; returns the names of the images.

    These are the samples of the same number and seed (a black-box solver repeats them within its tolerance only).
    """
    transform = run.transform
    size = math.prod(run.event_shape)
    most = _IMAGES if transform.kind == "image" or len(run.event_shape) > 1 else _POINTS
    few_enough = max(min(most, _MOST_VALUES // (_FILM * size)), 4)
    moments = follow(sampler, model, run.event_shape, min(n, few_enough), seed)
    few = moments.spread(_STRIP)
    title = f"{label}\ndrawn to the scale of the data; noise is sigma / alpha"
    figures.strip(few.x, few.labels, transform, out / "strip.png", title)
    names = ["strip.png"]
    many = moments.spread(_FILM)
    with suppress(InputError):  # it has none for series and most tables
        figures.film(many.x, many.labels, transform, out / "film.gif")
        names.append("film.gif")
    if size == 2:
        figures.flow(many.x, transform, out / "flow.png", f"{label}, drawn to the scale of the data", lines=_LINES)
        names.append("flow.png")
    return names


def follow(sampler: Sampler, model: Model, event_shape: Sequence[int], n: int, seed: int) -> Moments:
    """The trajectories of samples 0 ... n - 1; memory is bounded however many steps the solver takes."""
    sigma_data = model.sigma_data
    most = max(min(_MOST_MOMENTS, _MOST_VALUES // (n * math.prod(event_shape))), _STRIP)
    kept: list[tuple[float, Tensor]] = []
    stride = 1
    for k, (t, x) in enumerate(sampler.trajectory(model, event_shape, rows=range(n), seed=seed)):
        if k % stride == 0:
            kept.append((t, x.cpu()))
        if len(kept) > most:
            kept, stride = kept[::2], 2 * stride
    if kept[-1][0] != t:
        kept.append((t, x.cpu()))
    scaled, angles, labels = [], [], []
    for t, x in kept:
        alpha, sigma = (1.0, 0.0) if t == 0 else map(float, model.levels(t)[:2])
        scaled.append(x / math.hypot(alpha, sigma / sigma_data))
        angles.append(math.atan2(sigma, alpha * sigma_data))
        labels.append(_in_words(alpha, sigma))
    return Moments(torch.stack(scaled), angles, labels)


def _in_words(alpha: float, sigma: float) -> str:
    """A level as its noise in two digits, without an exponent where it can be."""
    if sigma == 0:
        return "data"
    if alpha == 0:
        return "noise"
    ratio = sigma / alpha
    return f"noise {ratio:.2g}" if ratio < 10 else f"noise {ratio:.0f}"
