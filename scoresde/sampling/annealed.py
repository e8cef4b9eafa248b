"""Annealed Langevin dynamics, with the published rules for the ratio of its levels and the size of its steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Annotated

import torch
from torch import Tensor

from scoresde.constraints import Count, Fraction, between
from scoresde.errors import InputError, require
from scoresde.model import Model
from scoresde.sampling.corrector import AnnealedLangevin, Corrector
from scoresde.sampling.grid import Grid, LambdaUniform, TimeUniform
from scoresde.sampling.solver import NoiseSource, Path, Solver
from scoresde.sde import SDE

_UNEVEN = 1.01  # of the logarithms of two ratios
_RECOMMENDED = 0.5  # overlap


def overlap(ratio: float, dimension: int) -> float:
    """How much of the noise of one level lies within three standard deviations of that of the next one.

        Phi(sqrt(2 D) (ratio - 1) + 3 ratio) - Phi(sqrt(2 D) (ratio - 1) - 3 ratio)

    The length of D normal numbers is about N(sqrt(D) sigma, sigma^2 / 2). Song and Ermon 2020 (arXiv 2006.09011),
    technique 2, ask for about 0.5.

    Args:
        ratio: of the noise levels, >= 1.
        dimension: D.
    """
    apart = math.sqrt(2 * dimension) * (ratio - 1)
    high, low = (math.erf((apart + side * 3 * ratio) / math.sqrt(2)) for side in (1, -1))
    return (high - low) / 2


def levels_needed(span: float, dimension: int, least: float = _RECOMMENDED) -> int:
    """The fewest geometric noise levels whose neighbours overlap by `least` or more.

    Args:
        span: the largest level over the smallest.
        dimension: of an event.
        least: see `overlap`, in [0, 1).
    """
    few, many = 1, 1  # intervals
    while overlap(span ** (1 / many), dimension) < least:
        few, many = many, 2 * many
    while few < many:
        middle = (few + many) // 2
        few, many = (few, middle) if overlap(span ** (1 / middle), dimension) >= least else (middle + 1, many)
    return many + 1


def best_step(ratio: float, steps: int) -> float:
    """The step, relative to the variance of a level, after which the noise is nearest to that of this level.

        v = (1 - e)^(2 K) (ratio^2 - 2 / (2 - e)) + 2 / (2 - e),   e = step / 2

    is the variance after K steps from that of the level before, over that of this one, on data at a point; it is above
    1, and the step is where it is least. Song and Ermon 2020 (arXiv 2006.09011), technique 4; their alpha is e sigma^2.

    Args:
        ratio: of the noise levels, > 1.
        steps: K at a level.
    """
    require(ratio > 1, "step", None, "give a number: the levels do not differ, and no size is the best one")
    e = torch.logspace(-9, 0, 20_001, dtype=torch.float64)[:-1]
    limit = 2 / (2 - e)
    return 2 * float(e[((1 - e) ** (2 * steps) * (ratio**2 - limit) + limit).argmin()])


class Geometric(LambdaUniform):
    """Equal steps in lam, and in t on a path of a single level."""

    def place(self, sde: SDE, points: int, start: float | None, end: float | None) -> Tensor:
        same = bool(sde.lam(sde.T) == sde.lam(sde.t_min))
        return TimeUniform().place(sde, points, start, end) if same else super().place(sde, points, start, end)


@dataclass(frozen=True, repr=False)
class AnnealedLangevinDynamics(Solver):
    """Langevin steps at each of N geometric noise levels, from the largest to the smallest, and nothing between them.

        x <- x + (e_i / 2) score(x, sigma_i) + sqrt(e_i) z,   e_i = step sigma_i^2,   K times at level i

    Song and Ermon 2019 (arXiv 1907.05600), algorithm 1, from the prior in place of uniform numbers. The last step of
    the sampler is the last denoising of Song and Ermon 2020 (arXiv 2006.09011). On a path with alpha != 1 this is
    stated for x / alpha, whose noise is sigma / alpha. On a path of one level it is plain Langevin dynamics. The
    distribution tends to that of the last level as step -> 0 and K -> infinity; a step too large is not corrected for.

    Args:
        step: e_i / sigma_i^2, in (0, 4), beyond which the chain diverges: e / sigma_L^2 of 2019, and twice that of
            2020, whose steps are without the half. None for `best_step` (technique 4).
        steps: K, evaluations at a level.
        least_overlap: of the noise of two levels, see `overlap`. Below it samples of one level are not among those that
            the network was trained on at the next one, and sampling is refused; 0 allows any ratio.

    Raises:
        InputError: a number out of range, or, when sampling, fewer than two levels, levels that are not geometric, or
            a ratio that leaves gaps.
    """

    step: Annotated[float, between(0, 4)] | None = None
    steps: Count = 5
    least_overlap: Fraction = 0.1

    bidirectional = False
    takes_corrector = False

    @property
    def evaluations(self) -> int:
        return self.steps

    @property
    def least_steps(self) -> int:
        return 2

    @property
    def default_grid(self) -> Grid:
        return Geometric()

    def check_levels(self, sde: SDE, times: Tensor, event_shape: Sequence[int] | None) -> None:
        falls = sde.lam(times).diff()
        if not len(falls):
            return
        smallest, largest = float(falls.min()), float(falls.max())
        if largest > _UNEVEN * smallest:
            raise InputError(
                f"grid: the ratios of its noise levels go from {math.exp(smallest):.4g} to {math.exp(largest):.4g}; "
                "annealed Langevin dynamics needs geometric levels, use grid=lambda"
            )
        dimension = 0 if event_shape is None else math.prod(event_shape)
        found = overlap(math.exp(largest), dimension)
        if found < self.least_overlap:
            needed = levels_needed(math.exp(float(falls.sum())), dimension)
            raise InputError(
                f"steps: {len(times)} levels have a ratio of {math.exp(largest):.3g} and an overlap of {found:.2g} in "
                f"{dimension} dimensions, below least_overlap = {self.least_overlap:g}; use {needed} for an overlap of "
                f"{_RECOMMENDED:g}"
            )

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        levels = model.sde.remember(times)
        step = best_step(math.exp(levels[1].lam - levels[0].lam), self.steps) if self.step is None else self.step
        chain, normal = AnnealedLangevin(step, self.steps), partial(noise.normal, shape=x.shape)
        fresh = (normal("solver", k, device=x.device, dtype=x.dtype) for k in count()).__next__
        x = chain.correct(model, x, float(times[0]), fresh)
        for t, before, level in zip(times.tolist()[1:], levels, levels[1:], strict=False):
            x = chain.correct(model, x * (level.alpha / before.alpha), t, fresh)
            yield t, x
