"""Explicit Runge-Kutta rules for the probability-flow ODE."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from scoresde.dynamics import reverse_drift
from scoresde.errors import require
from scoresde.sampling.coordinates import time_of
from scoresde.sampling.stages import Stages, steps_of
from scoresde.sampling.tableaux import EXPLICIT
from scoresde.sde import SDE

RungeKuttaVariable = Literal["ratio", "noise_share", "time"]


@dataclass(frozen=True, repr=False)
class RungeKutta(Stages):
    """Explicit Runge-Kutta rules for the probability-flow ODE, written as dy/dq = P with x = m y.

        variable    q                        m                 P
        ratio       sigma / alpha            alpha             eps
        noise_share sigma / (alpha + sigma)  alpha + sigma     eps - x0
        time        t                        1                 f x + g^2 / (2 sigma) eps

    In the first two there is no linear term left, whatever the SDE.

    Args:
        tableau: euler, midpoint, heun, ralston (order 2), bosh3 (Bogacki-Shampine), rk4, dopri5 (Dormand-Prince).
        variable: see above.

    Raises:
        InputError: for an unknown tableau or variable.

    Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, sections II.1 and II.4-5; the coordinates
    are those of Karras et al. 2022 (arXiv 2206.00364) and of the rectified path (arXiv 2209.03003).
    """

    tableau: str = "heun"
    variable: RungeKuttaVariable = "ratio"

    def __post_init__(self) -> None:
        require(self.tableau in EXPLICIT, "tableau", self.tableau, f"give one of {', '.join(EXPLICIT)}")
        known = get_args(RungeKuttaVariable)
        require(self.variable in known, "variable", self.variable, f"give one of {', '.join(known)}")

    @property
    def order(self) -> int:
        return EXPLICIT[self.tableau].order

    @property
    def evaluations(self) -> int:
        return len(EXPLICIT[self.tableau].b)

    @property
    def extrapolates(self) -> bool:
        return self.tableau != "euler"

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        rule = EXPLICIT[self.tableau]
        first, last = (flow_coordinate(self.variable, sde, t) for t in (times[:-1], times[1:]))
        h = last.q - first.q
        columns = []
        for k, (c, weights) in enumerate(zip((*rule.c, 1.0), (*rule.a, rule.b), strict=True)):
            if k == 0:
                t, here = times[:-1], first
            elif c == 1.0:
                t, here = times[1:], last
            else:
                t = time_of(self.variable, sde, first.q + c * h)
                here = flow_coordinate(self.variable, sde, t)
            zero = torch.zeros_like(h)
            scaled = [here.m * h * w for w in weights]
            columns.append([t, *here.parts, here.m / first.m, zero, zero, *scaled])
        return steps_of(columns, len(h))


class Heun(RungeKutta):
    """Heun's rule of order 2 on dy/dr = eps(alpha y, t), with y = x / alpha and r = sigma / alpha.

        y' = y_t + (r_s - r_t) eps_t,   y_s = y_t + (r_s - r_t)/2 (eps_t + eps(alpha_s y', s))

    Two evaluations a step; with the denoising step of the sampler at the end it is algorithm 1 of Karras et al. 2022
    (arXiv 2206.00364) without churn.
    """

    def __init__(self, variable: RungeKuttaVariable = "ratio") -> None:
        super().__init__("heun", variable)

    extrapolates = False  # the published last step is Euler's


@dataclass(frozen=True)
class FlowPoint:
    """q, m and the parts (x, x0, eps) of P at some times, see `RungeKutta`."""

    q: Tensor
    m: Tensor
    parts: tuple[Tensor, Tensor, Tensor]


def flow_coordinate(variable: RungeKuttaVariable, sde: SDE, t: Tensor) -> FlowPoint:
    """The coordinate of times t (N,), float64."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    one = torch.ones_like(t)
    if variable == "ratio":
        return FlowPoint(sigma / alpha, alpha, (0 * one, 0 * one, one))
    if variable == "noise_share":
        return FlowPoint(sigma / (alpha + sigma), alpha + sigma, (0 * one, -one, one))
    f, b, _ = reverse_drift(sde, t, 0.0)
    return FlowPoint(t, one, (f, 0 * one, b))
