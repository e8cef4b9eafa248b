"""Exponential Runge-Kutta rules: one-step rules that solve the linear part exactly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from scoresde.dynamics import Eta, eta_at, require_eta
from scoresde.errors import require
from scoresde.sampling.coordinates import Kernel, parts
from scoresde.sampling.stages import Stages, steps_of
from scoresde.sampling.tableaux import EXPONENTIAL
from scoresde.sde import SDE


@dataclass(frozen=True, repr=False)
class ExponentialRungeKutta(Stages):
    """Exponential Runge-Kutta rules in lam for the reverse process of noise level eta, see `tableaux`.

    With noise, the stages see the Brownian path of the step: what was drawn up to a stage is part of all later ones.

    Args:
        tableau: midpoint, heun (order 2), thirds (order 3) or krogstad (order 4).
        predict: x0 or eps, the quantity that the stages interpolate.
        eta: noise level: 0 for the probability-flow ODE, 1 for the reverse SDE, or a function of lam.

    Raises:
        InputError: for an unknown tableau or quantity, or a negative eta.

    Members: DPM-Solver-2 and -3 (eps) and DPM-Solver++(2S) and (3S) (x0) of Lu et al. 2022 (arXiv 2206.00927,
    2211.01095), at eta = 1 SEEDS-2 and -3 (Gonzalez et al. 2023, arXiv 2305.14267), and Krogstad's ETD4RK.
    """

    tableau: str = "midpoint"
    predict: Literal["x0", "eps"] = "x0"
    eta: Eta = 0.0

    def __post_init__(self) -> None:
        require(self.tableau in EXPONENTIAL, "tableau", self.tableau, f"give one of {', '.join(EXPONENTIAL)}")
        require(self.predict in ("x0", "eps"), "predict", self.predict, "give x0 or eps")
        require_eta(self.eta)

    @property
    def order(self) -> int:
        return EXPONENTIAL[self.tableau].order

    @property
    def evaluations(self) -> int:
        return len(EXPONENTIAL[self.tableau].b)

    @property
    def extrapolates(self) -> bool:
        return self.eta == 0

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        lam = sde.lam(times)
        return steps_of(self.columns(sde, times[:-1], lam[:-1], lam[1:]), len(times) - 1)

    def columns(self, sde: SDE, t: Tensor, lam: Tensor, end: Tensor) -> list[list[Tensor]]:
        """The stages of steps from times t (N,), where lam is that of the times, to `end`; see `stages.steps_of`."""
        rule, h = EXPONENTIAL[self.tableau], end - lam
        eta = eta_at(self.eta, lam + h / 2)
        first = before = (sde.alpha(t), lam)
        zero, out = torch.zeros_like(h), []
        for k, (c, row) in enumerate(zip((*rule.c, 1.0), (*rule.p, rule.b), strict=True)):
            time = t if k == 0 else sde.t_of_lam(lam + c * h)
            alpha, sigma = sde.alpha(time), sde.sigma(time)
            of_x0, of_eps = (
                torch.as_tensor(p, dtype=h.dtype).expand(len(h)) for p in parts(self.predict, alpha, sigma)
            )
            here = (alpha, lam + c * h)
            if k == 0:
                out.append([time, zero, of_x0, of_eps, torch.ones_like(h), zero, zero])
                continue
            whole = Kernel(self.predict, (first[0], here[0]), (first[1], here[1]), eta)
            new = Kernel(self.predict, (before[0], here[0]), (before[1], here[1]), eta)
            weights = [sum((a * c**power * whole.moment(power) for power, a in enumerate(p) if a), zero) for p in row]
            out.append([time, zero, of_x0, of_eps, whole.decay, new.decay, new.std, *weights])
            before = here
        return out
