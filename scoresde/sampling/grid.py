"""Time grids: where a sampler evaluates the model, apart from how it steps."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from scoresde.errors import require
from scoresde.sde import SDE


def _fractions(points: int) -> Tensor:
    return torch.linspace(0.0, 1.0, points, dtype=torch.float64)


class Grid(ABC):
    """A rule that places `points` times from sde.T down to sde.t_min, both included."""

    def __call__(self, sde: SDE, points: int) -> Tensor:
        """Strictly decreasing times (points,), float64; a single point is T."""
        times = self.place(sde, _fractions(points))
        times[0] = sde.T  # inverses of lam return the ends up to rounding
        if points > 1:
            times[-1] = sde.t_min
        return times

    @abstractmethod
    def place(self, sde: SDE, u: Tensor) -> Tensor:
        """Times at the fractions u in [0, 1] of the way from T (u = 0) to t_min (u = 1)."""


class TimeUniform(Grid):
    """Equal steps in t, as in Song et al. 2021 (arXiv 2011.13456): dt = (T - t_min) / (points - 1)."""

    def place(self, sde: SDE, u: Tensor) -> Tensor:
        return sde.T + (sde.t_min - sde.T) * u


class LambdaUniform(Grid):
    """Equal steps in lam = log(alpha / sigma), as in Lu et al. 2022 (arXiv 2206.00927), section 3.4."""

    def place(self, sde: SDE, u: Tensor) -> Tensor:
        first, last = sde.lam(sde.T), sde.lam(sde.t_min)
        return sde.t_of_lam(first + (last - first) * u)


class Karras(Grid):
    """Equal steps in (sigma / alpha)^(1/rho), Karras et al. 2022 (arXiv 2206.00364), eq. 5.

    Args:
        rho: larger values put more points at low noise.
    """

    def __init__(self, rho: float = 7.0) -> None:
        require(rho > 0, "rho", rho, "give a number > 0")
        self.rho = rho

    def place(self, sde: SDE, u: Tensor) -> Tensor:
        first, last = torch.exp(-sde.lam(sde.T) / self.rho), torch.exp(-sde.lam(sde.t_min) / self.rho)
        return sde.t_of_lam(-self.rho * torch.log(first + (last - first) * u))
