"""Exponential multistep rules: the linear part of the equation is solved exactly, x0 is interpolated in lam.

One step from level t to s, with h = lam_s - lam_t > 0 and k = 1 + eta^2, solves the reverse process of noise level eta
(`scoresde.dynamics`) by variation of constants:

    x_s = (sigma_s / sigma_t) e^{-eta^2 h} x_t + alpha_s int_0^h k e^{-k (h - u)} x0(lam_t + u) du + std z
    std^2 = sigma_s^2 (1 - e^{-2 eta^2 h})

A polynomial for x0 through the last evaluations makes the integral a sum with weights that depend on the grid alone.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scoresde.errors import require
from scoresde.model import Model
from scoresde.sampling.solver import GridSolver, Solver, Step
from scoresde.sde import SDE


@dataclass(frozen=True)
class ExponentialMultistep(GridSolver):
    """Exponential multistep rule of order 1 or 2 on x0 in lam, with exact weights, see the head of this module.

    Args:
        order: 1 holds x0 during the step; 2 extrapolates it linearly from the evaluation before (the first step has
            none and is of order 1).
        eta: noise level: 0 for the probability-flow ODE, 1 for the reverse SDE.

    Raises:
        InputError: if order is not 1 or 2, or eta is negative.

    Order 1 at eta 0 is DDIM (arXiv 2010.02502), at eta 1 the posterior step of DDPM (arXiv 2006.11239, eq. 6-7). Order
    2 is DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2) with the exact factor of the linear term where
    the paper puts one half of (1 - e^-h).
    """

    order: int = 2
    eta: float = 0.0

    def __post_init__(self) -> None:
        require(self.order in (1, 2), "order", self.order, "give 1 or 2")
        require(math.isfinite(self.eta) and self.eta >= 0, "eta", self.eta, "give a number >= 0")

    def with_eta(self, eta: float) -> Solver:
        return dataclasses.replace(self, eta=eta)

    def _noise_and_decay(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(k, factor of x in units of sigma_s/sigma_t, std in units of sigma_s) of steps h."""
        k = torch.full_like(h, 1 + self.eta**2)
        return k, torch.exp(-(self.eta**2) * h), torch.sqrt(-torch.expm1(-2 * self.eta**2 * h))

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        alpha, sigma, lam = sde.alpha(times), sde.sigma(times), sde.lam(times)
        h = lam.diff()
        k, decay, std = self._noise_and_decay(h)
        constant = -alpha[1:] * torch.expm1(-k * h)
        # weight of the slope (x0_now - x0_before) / h_before: int_0^h k e^{-k (h-u)} u du = h - (1 - e^{-kh}) / k
        slope = torch.zeros_like(h)
        if self.order == 2:
            slope[1:] = alpha[2:] * (h + torch.expm1(-k * h) / k)[1:] / h[:-1]
        rows = (times[:-1], sigma[1:] / sigma[:-1] * decay, constant + slope, -slope, sigma[1:] * std)
        return torch.stack(rows, dim=1).tolist()

    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Callable[[], Tensor]) -> Step:
        t, a, now, before, std = plan
        prediction = model(x, t)
        x = prediction.combine(x=a, x0=now)
        if before:
            x.add_(state, alpha=before)
        if std:
            x.add_(noise(), alpha=std)
        return Step(x, prediction.x0 if self.order > 1 else None)


@dataclass(frozen=True)
class Ancestral(ExponentialMultistep):
    """Ancestral sampling: the posterior p(x_s | x_t, x0_hat) of two levels s < t.

        x_s ~ N( (sigma_s / sigma_t) e^{-h} x_t + alpha_s (1 - e^{-2h}) x0_hat,  sigma_s^2 (1 - e^{-2h}) )

    Ho et al. 2020 (arXiv 2006.11239), eq. 6-7; for VE it is eq. 47 of Song et al. 2021 (arXiv 2011.13456). It is the
    exponential rule of order 1 at eta = 1.

    Args:
        eta: noise level, 1 for the posterior.
    """

    order: int = dataclasses.field(default=1, init=False)
    eta: float = 1.0


@dataclass(frozen=True)
class DDIM(ExponentialMultistep):
    """DDIM: order 1, with the noise of its paper, variance eta^2 sigma_s^2 (1 - e^{-2h}), eta in [0, 1].

    Song et al. 2020 (arXiv 2010.02502), eq. 12 and 16. eta = 0 is the probability-flow ODE with x0 held during the
    step, eta = 1 the posterior of DDPM; in between it differs from the other solvers' eta.

    Args:
        eta: noise level, from 0 to 1.
    """

    order: int = dataclasses.field(default=1, init=False)
    eta: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.eta <= 1, "eta", self.eta, "give a number from 0 to 1")

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        alpha, sigma, h = sde.alpha(times), sde.sigma(times), sde.lam(times).diff()
        std = self.eta * torch.sqrt(-torch.expm1(-2 * h))
        a = sigma[1:] / sigma[:-1] * torch.sqrt(1 - std**2)
        rows = (times[:-1], a, alpha[1:] - a * alpha[:-1], torch.zeros_like(h), sigma[1:] * std)
        return torch.stack(rows, dim=1).tolist()


@dataclass(frozen=True)
class DPMSolverPP2M(ExponentialMultistep):
    """DPM-Solver++(2M) with exact weights: the exponential rule of order 2, see `ExponentialMultistep`.

    Args:
        eta: noise level; 0 for the probability-flow ODE, 1 for the reverse SDE (SDE-DPM-Solver++(2M)).
    """

    order: int = dataclasses.field(default=2, init=False)
