"""Rules with an estimate of their own error, for the adaptive loop."""

from dataclasses import KW_ONLY, dataclass
from typing import Literal

import torch
from torch import Tensor

from scoresde._shapes import expand
from scoresde.dynamics import Eta, require_eta, reverse_drift
from scoresde.errors import require
from scoresde.model import Model
from scoresde.sampling.adaptive import Adaptive, Trial, weighted
from scoresde.sampling.coordinates import Kernel, parts, time_of
from scoresde.sampling.runge_kutta import RungeKuttaVariable, flow_coordinate
from scoresde.sampling.tableaux import EXPLICIT


@dataclass(frozen=True, repr=False)
class AdaptiveRungeKutta(Adaptive):
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

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.pair in ("bosh3", "dopri5"), "pair", self.pair, "give bosh3 or dopri5")

    @property
    def order(self) -> int:
        return EXPLICIT[self.pair].order

    @property
    def exponents(self) -> tuple[float, float]:
        return 0.7 / self.order, 0.4 / self.order

    def evaluate(self, model: Model, x: Tensor, t: Tensor) -> Tensor:
        of_x, of_x0, of_eps = flow_coordinate(self.variable, model.sde, t).parts
        return model(x, t).combine(x=of_x, x0=of_x0, eps=of_eps)

    def attempt(self, model: Model, x: Tensor, lam: Tensor, h: Tensor, first: Tensor, w: Tensor | None) -> Trial:
        rule, sde = EXPLICIT[self.pair], model.sde
        start, end_time = flow_coordinate(self.variable, sde, sde.t_of_lam(lam)), sde.t_of_lam(lam + h)
        end = flow_coordinate(self.variable, sde, end_time)
        width, values = end.q - start.q, [first]
        for c, row in zip(rule.c[1:], rule.a[1:], strict=True):
            t = end_time if c == 1 else time_of(self.variable, sde, start.q + c * width)
            m = flow_coordinate(self.variable, sde, t).m
            at = weighted(x * expand(m / start.m, x), [m * width * a for a in row], values)
            values.append(self.evaluate(model, at, t))
        moved = weighted(x * expand(end.m / start.m, x), [end.m * width * b for b in rule.b], values)
        last = self.evaluate(model, moved, end_time)
        values.append(last)
        error = weighted(torch.zeros_like(x), [end.m * width * e for e in rule.error], values)
        return Trial(moved, error, last)


@dataclass(frozen=True, repr=False)
class AdaptiveExponential(Adaptive):
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

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.predict in ("x0", "eps"), "predict", self.predict, "give x0 or eps")

    order = 3

    exponents = (1 / 3, 0.0)

    def evaluate(self, model: Model, x: Tensor, t: Tensor) -> Tensor:
        of_x0, of_eps = parts(self.predict, model.sde.alpha(t), model.sde.sigma(t))
        return model(x, t).combine(x0=of_x0, eps=of_eps)

    def attempt(self, model: Model, x: Tensor, lam: Tensor, h: Tensor, first: Tensor, w: Tensor | None) -> Trial:
        sde = model.sde
        alpha, none = sde.alpha(sde.t_of_lam(lam)), torch.zeros_like(h)

        def to(c: float) -> tuple[Tensor, Kernel]:
            t = sde.t_of_lam(lam + c * h)
            return t, Kernel(self.predict, (alpha, sde.alpha(t)), (lam, lam + c * h), none)

        def line(kernel: Kernel, c: float, node: float) -> list[Tensor]:
            """Weights of the values at 0 and `node` in a step to c, for the line through both."""
            slope = kernel.moment(1) * c / node
            return [kernel.moment(0) - slope, slope]

        (t1, k1), (t2, k2), (_, k3) = to(1 / 3), to(2 / 3), to(1.0)
        p1 = self.evaluate(model, weighted(x * expand(k1.decay, x), [k1.moment(0)], [first]), t1)
        p2 = self.evaluate(model, weighted(x * expand(k2.decay, x), line(k2, 2 / 3, 1 / 3), [first, p1]), t2)
        base = x * expand(k3.decay, x)
        moved = weighted(base, line(k3, 1.0, 2 / 3), [first, p2])
        return Trial(moved, moved - weighted(base, line(k3, 1.0, 1 / 3), [first, p1]), None)


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

    rtol: float = 1e-2
    atol: float = 1e-2
    _: KW_ONLY
    eta: Eta = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_eta(self.eta)

    order = 2

    exponents = (0.9, 0.0)

    @property
    def noisy(self) -> bool:
        return self.eta != 0

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
