"""Correctors: Markov chains that leave p_t unchanged and so mend x without changing t."""

import math
from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor

from scoresde.errors import InputError, require
from scoresde.model import Model

_NORM_RULE_DIMENSIONS = 64  # below this, 1/|score|^2 has so heavy a tail that the chain leaves p_t visibly


class Corrector(ABC):
    """A number of steps of a chain whose stationary law is p_t.

    Attributes:
        steps: model evaluations per level.
    """

    steps: int

    @abstractmethod
    def step(self, model: Model, x: Tensor, t: float, z: Tensor) -> Tensor:
        """One step at time t with standard normal z of the shape of x (B, *event)."""


class Langevin(Corrector):
    """Unadjusted Langevin dynamics, x <- x + e score(x, t) + sqrt(2 e) z.

    Args:
        snr: the step relative to the noise level, see `rule`.
        steps: steps per level.
        rule: `level` takes e = 2 (snr sigma_t)^2, one step size for all, whose law tends to p_t as snr -> 0. `norm` is
            the published e = 2 (snr |z| / |score|)^2, here with each sample's own norms so that samples do not
            influence each other; it has no such limit and is refused below 64 dimensions.

    Raises:
        InputError: if snr or steps are not positive, and from `step` if `norm` is used in too few dimensions.

    Song et al. 2021 (arXiv 2011.13456), algorithms 4 and 5.
    """

    def __init__(self, snr: float = 0.16, steps: int = 1, rule: Literal["level", "norm"] = "level") -> None:
        require(math.isfinite(snr) and snr > 0, "snr", snr, "give a number > 0")
        require(steps >= 1, "steps", steps, "give an integer >= 1")
        require(rule in ("level", "norm"), "rule", rule, "give level or norm")
        self.snr, self.steps, self.rule = snr, steps, rule

    def step(self, model: Model, x: Tensor, t: float, z: Tensor) -> Tensor:
        if self.rule == "norm":
            return self._norm_step(model(x, t).score, x, z)
        sigma = model.sde.at(t).sigma
        e = 2 * (self.snr * sigma) ** 2
        return model(x, t).combine(x=1.0, eps=-e / sigma).add_(z, alpha=math.sqrt(2 * e))

    def _norm_step(self, score: Tensor, x: Tensor, z: Tensor) -> Tensor:
        if x[0].numel() < _NORM_RULE_DIMENSIONS:
            raise InputError(
                f"corrector.rule: 'norm' has no correct limit in {x[0].numel()} dimensions; "
                f"it needs at least {_NORM_RULE_DIMENSIONS}, use rule=level"
            )
        shape = (-1, *(1,) * (x.ndim - 1))
        ratio = (z.flatten(1).norm(dim=1) / score.flatten(1).norm(dim=1)).reshape(shape)
        e = 2 * (self.snr * ratio) ** 2
        moved: Tensor = x + e * score + (2 * e).sqrt() * z
        return moved
