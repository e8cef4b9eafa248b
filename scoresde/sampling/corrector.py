"""Correctors: Markov chains that leave p_t unchanged and so correct x without changing t."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor

from scoresde._shapes import expand
from scoresde.constraints import Count, NonNegative, Positive, ProperFraction, between
from scoresde.described import Rebuildable
from scoresde.errors import InputError
from scoresde.model import Model

_NORM_RULE_DIMENSIONS = 64  # below this, 1/|score|^2 has so heavy a tail that the chain leaves p_t visibly


class Corrector(Rebuildable, ABC):
    """A number of steps of a chain whose stationary distribution is p_t.

    A corrector holds no state from level to level; what a chain has besides x (a velocity) is drawn again.

    Attributes:
        steps: model evaluations per level.
    """

    steps: Count

    @abstractmethod
    def correct(self, model: Model, x: Tensor, t: float, noise: Callable[[], Tensor]) -> Tensor:
        """All steps of one level: x (B, *event) at time t; each call of `noise` gives new normals of that shape.

        How often `noise` is called must not depend on x, so that the draws of a sample do not depend on the others.
        """


@dataclass(frozen=True, repr=False)
class Langevin(Corrector):
    """Unadjusted Langevin dynamics, x <- x + e score(x, t) + sqrt(2 e) z.

    Args:
        snr: the step relative to the noise level, see `rule`.
        steps: steps per level.
        rule: `level` takes e = 2 (snr sigma_t)^2, one step size for all, whose distribution tends to p_t as snr -> 0.
            `norm` is the published e = 2 (snr |z| / |score|)^2, here with each sample's own norms so that samples do
            not influence each other; it has no such limit and is refused below 64 dimensions.

    Raises:
        InputError: if snr or steps are not positive, and from `correct` if `norm` is used in too few dimensions.

    Song et al. 2021 (arXiv 2011.13456), algorithms 4 and 5.
    """

    snr: Positive = 0.16
    steps: Count = 1
    rule: Literal["level", "norm"] = "level"

    def correct(self, model: Model, x: Tensor, t: float, noise: Callable[[], Tensor]) -> Tensor:
        move = self._by_norm if self.rule == "norm" else self._by_level
        for _ in range(self.steps):
            x = move(model, x, t, noise())
        return x

    def _by_level(self, model: Model, x: Tensor, t: float, z: Tensor) -> Tensor:
        # score = -eps / sigma and sqrt(2 e) = 2 snr sigma, so that there are two operations on the state
        sigma = model.sde.at(t).sigma
        return model(x, t).combine(x=1.0, eps=-2 * self.snr**2 * sigma).add_(z, alpha=2 * self.snr * sigma)

    def _by_norm(self, model: Model, x: Tensor, t: float, z: Tensor) -> Tensor:
        if x[0].numel() < _NORM_RULE_DIMENSIONS:
            raise InputError(
                f"rule: 'norm' has no correct limit in {x[0].numel()} dimensions; "
                f"it needs at least {_NORM_RULE_DIMENSIONS}, use level"
            )
        score = model(x, t).score
        e = 2 * (self.snr * z.flatten(1).norm(dim=1) / score.flatten(1).norm(dim=1)) ** 2
        return x + expand(e, x) * score + expand((2 * e).sqrt(), x) * z


@dataclass(frozen=True, repr=False)
class AnnealedLangevin(Corrector):
    """The chain of noise-conditional score networks, x <- x + (e_i / 2) score + sqrt(e_i) z, `steps` times a level.

        e_i = e (sigma_i / sigma_L)^2 = step sigma_i^2,   step = e / sigma_L^2

    where i counts the levels and sigma_L is the lowest. On a path with alpha != 1 this is stated for x / alpha, whose
    noise is sigma / alpha; then alpha drops out, and the line above holds as it stands. (Note the half: the steps are
    those of `Langevin` with 2 snr = sqrt(step).) The distribution tends to p_t as step -> 0.

    Args:
        step: e / sigma_L^2, in (0, 4), beyond which the chain diverges; 0.2 is the published 2e-5 at sigma_L = 0.01.
        steps: steps per level, 100 in the paper; each is one evaluation.

    Raises:
        InputError: if step or steps are out of range.

    Song and Ermon 2019 (arXiv 1907.05600), algorithm 1.
    """

    step: Annotated[float, between(0, 4)] = 0.2
    steps: Count = 10

    def correct(self, model: Model, x: Tensor, t: float, noise: Callable[[], Tensor]) -> Tensor:
        return Langevin(math.sqrt(self.step) / 2, self.steps).correct(model, x, t, noise)


@dataclass(frozen=True, repr=False)
class UnderdampedLangevin(Corrector):
    """Kinetic Langevin dynamics: x with a velocity v ~ N(0, I), which friction and noise keep so distributed.

        dx = v du,   dv = (score(x, t) - gamma v) du + sqrt(2 gamma) dw,   gamma = friction / sigma_t

    in steps of u of size h = 2 snr sigma_t, each split into half an Ornstein-Uhlenbeck step of v, which is exact,
    half a kick v <- v + h/2 score, a drift x <- x + h v, half a kick and half an Ornstein-Uhlenbeck step (OBABO).
    The velocity is drawn again at each level; adjacent parts of two steps are taken as one, so each step is one
    evaluation. A single step is one of `Langevin` with the same snr; several move in one direction before friction
    turns them, and so mix faster for the same number of evaluations. The distribution tends to p_t as snr -> 0; on
    Gaussian data it does not depend on friction or the number of steps.

    Args:
        snr: half the step in units of sigma_t, in (0, 1), beyond which leapfrog steps diverge.
        steps: steps per level.
        friction: decay rate of the velocity in units of 1/sigma_t; 0 is Hamiltonian dynamics.

    Raises:
        InputError: if an argument is out of range.

    Bussi and Parrinello 2007 (Phys. Rev. E 75, 056707).
    """

    snr: ProperFraction = 0.16
    steps: Count = 4
    friction: NonNegative = 1.0

    def correct(self, model: Model, x: Tensor, t: float, noise: Callable[[], Tensor]) -> Tensor:
        sigma = model.sde.at(t).sigma
        h = 2 * self.snr * sigma
        kept = math.exp(-self.friction * h / sigma)  # of the velocity, in a whole Ornstein-Uhlenbeck step
        fresh = math.sqrt(1 - kept**2)
        v = noise()  # half an Ornstein-Uhlenbeck step leaves N(0, I) unchanged
        for k in range(self.steps):
            kick = model(x, t).combine(eps=-h / (2 * sigma))
            if k > 0:
                v = (v + kick) * kept + fresh * noise()
            v = v + kick
            x = x + h * v
        return x
