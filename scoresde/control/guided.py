"""Guidance by two predictions: of a model, and of a weaker one from which it is led away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from scoresde.constraints import NonNegative, checked
from scoresde.control.methods import ClassifierFree, GuidanceMethod
from scoresde.control.wrapper import Wrapper
from scoresde.errors import require
from scoresde.model import Model, S
from scoresde.nets.condition import Cond
from scoresde.prediction import Prediction
from scoresde.sde import SDE

Interval = Sequence[float] | None  # of noise levels s = sigma / alpha


class Guided(Wrapper):
    """A model led away from a weaker one, within an interval of noise levels s = sigma / alpha.

        D = D_0 + scale (D_1 - D_0)   for low <= s <= high,   and D_1 elsewhere, at the cost of one model

    D_1 is the model, D_0 the weaker one: without its condition (classifier-free guidance), or smaller, or trained for
    less (autoguidance). The line above is that of the method `cfg`; others combine the two in another way.

    Args:
        model: D_1.
        weak: D_0; on another path it is evaluated at the same s.
        scale: how far; 1 is D_1.
        interval: (low, high) in s, whatever the path, the solver and the number of steps; None for all levels.
        method: see `scoresde.control.GuidanceMethod`.

    Raises:
        InputError: models of events of different shapes, a weaker one that cannot change its path, or an interval that
            is empty.

    T. Karras et al., arXiv 2406.02507 (autoguidance); T. Kynkäänniemi et al., arXiv 2404.07724 (intervals).
    """

    def __init__(
        self,
        model: Model,
        weak: Model | None,
        scale: float = 1.0,
        interval: Interval = None,
        method: GuidanceMethod | None = None,
    ) -> None:
        super().__init__(model)
        self.scale = checked(scale, "scale", NonNegative)
        low, high = require_interval(interval, "interval") if interval is not None else (0.0, math.inf)
        self.interval, self.method = (low, high), ClassifierFree() if method is None else method
        self.method.check(model, interval)
        self.weak = weak and self._fitting(weak)

    def _fitting(self, weak: Model) -> Model:
        shapes = [m.event_shape for m in (weak, self.model)]
        fits = None in shapes or shapes[0] == shapes[1]
        require(fits, "guide", shapes[0], f"it models events of another shape; give a model of {shapes[1]}")
        return weak if str(weak.sde) == str(self.sde) else weak.under(self.sde)

    @property
    def cost(self) -> int:
        return self.model.cost + (self.weak.cost if self.weak is not None else 0)

    def cost_at(self, t: float) -> int:
        inside = bool(self._inside(t))
        return self.model.cost_at(t) + (self.weak.cost_at(t) if self.weak is not None and inside else 0)

    def suits(self, sampler: S) -> S:
        return self.method.suits(self.model.suits(sampler))

    def of_samples(self, rows: Tensor) -> Self:
        return self._around(self.model.of_samples(rows), self.weak and self.weak.of_samples(rows))

    def under(self, sde: SDE) -> Self:
        return self._around(self.model.under(sde), self.weak and self.weak.under(sde))

    def _around(self, model: Model, weak: Model | None) -> Self:
        other = self.around(model)
        other._modules["weak"] = weak
        return other

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        inside = self._inside(t)
        if isinstance(inside, bool) or bool((inside == inside[0]).all()):
            return self.guided(x, t, cond) if bool(torch.as_tensor(inside).any()) else self.alone(x, t, cond)
        times, x0 = torch.as_tensor(t), torch.empty_like(x)
        for rows in (inside.nonzero()[:, 0], (~inside).nonzero()[:, 0]):  # samples at different levels
            own, level = self.of_samples(rows), times[rows.to(times.device)]
            x0[rows] = own(x[rows], level, _part(cond, rows)).x0
        return Prediction.of(x, self.sde, t, x0=x0)

    def alone(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        """The prediction D_1."""
        return self.model(x, t, cond)

    def guided(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        """The prediction within the interval."""
        strong, weak = self.pair(x, t, cond)
        return self.method(strong, weak, self.scale)

    def pair(self, x: Tensor, t: float | Tensor, cond: Cond) -> tuple[Prediction, Prediction]:
        """The predictions D_1 and D_0."""
        assert self.weak is not None
        return self.model(x, t, cond), self.weak(x, t, cond)

    def _inside(self, t: float | Tensor) -> bool | Tensor:
        if self.interval == (0.0, math.inf):
            return True
        alpha, sigma, _ = self.levels(t)
        low, high = self.interval
        inside: bool | Tensor = (low * alpha <= sigma) & (sigma <= high * alpha)
        return inside


def require_interval(interval: Sequence[float], key: str) -> tuple[float, float]:
    """The two ends of an interval of noise levels; raises InputError for one that is empty."""
    fine = len(interval) == 2 and 0 <= interval[0] < interval[1]
    require(fine, key, list(interval), "give two noise levels sigma / alpha, the lower one first, such as [0.2,3]")
    return float(interval[0]), float(interval[1])


def _part(cond: Cond, rows: Tensor) -> Cond:
    """The conditions of some samples."""
    if cond is None or isinstance(cond, Tensor):
        return None if cond is None else cond[rows]
    return {name: value[rows] for name, value in cond.items()}
