"""Rules with an estimate of their own error, for the adaptive loop."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from scoresde._shapes import expand
from scoresde.constraints import Positive
from scoresde.dynamics import Eta, reverse_drift
from scoresde.model import Model
from scoresde.sampling.adaptive import Adaptive, Trial
from scoresde.sampling.one_step import ExponentialRungeKutta, RungeKutta, RungeKuttaVariable, Stages


class _Embedded(Adaptive):
    """A one-step rule, and the one of lower order from the same evaluations."""

    @property
    @abstractmethod
    def rule(self) -> Stages:
        """The one-step rule; its tableau has an error."""

    @property
    def order(self) -> int:
        return self.rule.order

    def evaluate(self, model: Model, x: Tensor, t: Tensor) -> Tensor:
        return next(self.rule.stages(model.sde, t, t)).value(model, x)

    def attempt(self, model: Model, x: Tensor, lam: Tensor, h: Tensor, first: Tensor, w: Tensor | None) -> Trial:
        sde, values = model.sde, [first]
        _, *stages, end = self.rule.stages(sde, sde.t_of_lam(lam), sde.t_of_lam(lam + h))
        for stage in stages:
            values.append(stage.value(model, _weighted(x * expand(stage.scale, x), stage.weights, values)))
        moved = _weighted(x * expand(end.scale, x), end.weights, values)
        weights, last = end.weights[len(values) :], None
        if len(weights) > len(values):  # the evaluation at the end is part of the error, and the first of the next step
            last = end.value(model, moved)
            values.append(last)
        return Trial(moved, _weighted(torch.zeros_like(x), weights, values), last)


def _weighted(x: Tensor, weights: Sequence[Tensor], values: list[Tensor]) -> Tensor:
    """x + sum of weights (B,) times values (B, *event); weights without a value are left out."""
    for c, y in zip(weights, values, strict=False):
        x = x + expand(c, y) * y
    return x


@dataclass(frozen=True, repr=False)
class AdaptiveRungeKutta(_Embedded):
    """An embedded Runge-Kutta pair for the probability-flow ODE with a PI controller for each sample.

    Args:
        rtol: relative tolerance of one step.
        atol: absolute tolerance of one step, in units of x.
        pair: bosh3 (Bogacki-Shampine, order 3 with 2) or dopri5 (Dormand-Prince, order 5 with 4).
        variable: ratio, noise_share or time, see `RungeKutta`.

    Raises:
        InputError: for an unknown pair or variable, or a tolerance that is not positive.

    Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, section II.4; the controller is that of
    Gustafsson (1991), h_new = 0.9 h E^(-0.7/p) E_before^(0.4/p).
    """

    _: KW_ONLY
    pair: Literal["bosh3", "dopri5"] = "bosh3"
    variable: RungeKuttaVariable = "ratio"

    @cached_property
    def rule(self) -> RungeKutta:
        return RungeKutta(self.pair, self.variable)

    @property
    def exponents(self) -> tuple[float, float]:
        return 0.7 / self.order, 0.4 / self.order


@dataclass(frozen=True, repr=False)
class AdaptiveExponential(_Embedded):
    """The exponential rule of order 3 with stages at 1/3 and 2/3, and the one of order 2 through its first two values.

    DPM-Solver-23 (eps; Lu et al. 2022, arXiv 2206.00927, appendix C) and its form for x0, here with the exact linear
    weight in the rule of order 2 and with an error of its own for each sample.

    Args:
        rtol: relative tolerance of one step.
        atol: absolute tolerance of one step, in units of x.
        predict: x0 or eps.

    Raises:
        InputError: for another quantity, or a tolerance that is not positive.
    """

    _: KW_ONLY
    predict: Literal["x0", "eps"] = "x0"

    @cached_property
    def rule(self) -> ExponentialRungeKutta:
        return ExponentialRungeKutta("thirds", self.predict)

    exponents = (1 / 3, 0.0)


@dataclass(frozen=True, repr=False)
class AdaptiveSDE(Adaptive):
    """The reverse SDE with adaptive steps: stochastic improved Euler against Euler-Maruyama, with one noise for both.

        x' = x + dt d(x, t) + c_t w,   x'' = x' / 2 + (x + dt d(x', s) + c_s w) / 2,   error = x' - x''

    with the drift d and diffusion c of `scoresde.dynamics` and the Brownian increment w. Jolicoeur-Martineau et al.
    2021 (arXiv 2105.14080), algorithm 1, with its controller h <- 0.9 h E^-0.9. Where the paper draws the noise of a
    rejected step again, which biases the samples, here it is split by a Brownian bridge (`Increments`).

    Args:
        rtol: relative tolerance of one step.
        atol: absolute tolerance of one step, in units of x.
        eta: noise level, 1 for the reverse SDE.

    Raises:
        InputError: for a tolerance that is not positive or a negative eta.
    """

    rtol: Positive = 1e-2
    atol: Positive = 1e-2
    _: KW_ONLY
    eta: Eta = 1.0

    order = 2

    exponents = (0.9, 0.0)

    def evaluate(self, model: Model, x: Tensor, t: Tensor) -> Tensor:
        a, b, _ = reverse_drift(model.sde, t, self.eta)
        return model(x, t).combine(x=a, eps=b)

    def attempt(self, model: Model, x: Tensor, lam: Tensor, h: Tensor, first: Tensor, w: Tensor | None) -> Trial:
        sde, t, s = model.sde, model.sde.t_of_lam(lam), model.sde.t_of_lam(lam + h)
        dt = s - t

        def step(drift: Tensor, at: Tensor) -> Tensor:
            moved = x + expand(dt, x) * drift
            return moved if w is None else moved + expand(reverse_drift(sde, at, self.eta)[2], x) * w

        euler = step(first, t)
        improved = (euler + step(self.evaluate(model, euler, s), s)) / 2
        return Trial(improved, euler - improved, None)
