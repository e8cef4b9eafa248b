"""Paths with a linearly increasing rate beta(t): VP and sub-VP."""

import math

import torch
from torch import Tensor

from scoresde.errors import require
from scoresde.sde.base import SDE


class _LinearBeta(SDE):
    """beta(t) increases linearly from beta_min to beta_max over [0, T]; B(t) is its integral in units of T = 1."""

    def __init__(
        self,
        beta_min: float = 0.1,
        beta_max: float = 20.0,
        *,
        T: float = 1.0,
        t_min: float = 1e-3,
        t_train: float = 1e-5,
    ) -> None:
        super().__init__(T, t_min, t_train)
        require(beta_min > 0, "beta_min", beta_min, "give a rate > 0")
        wanted = f"give a rate > beta_min = {beta_min}"
        require(math.isfinite(beta_max) and beta_max > beta_min, "beta_max", beta_max, wanted)
        self.beta_min, self.beta_max = beta_min, beta_max

    @property
    def prior_std(self) -> float:
        """1: the path preserves unit variance, so N(0, I) is closer to p_T than N(0, sigma(T)^2 I)."""
        return 1.0

    def _B(self, t: Tensor) -> Tensor:
        u = t / self.T
        return u * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * u)

    def _t_of_B(self, B: Tensor) -> Tensor:
        slope = self.beta_max - self.beta_min
        # the root of a quadratic, in the form that does not cancel for small B
        return self.T * 2 * B / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * B))

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * self._B(t))


class VPSDE(_LinearBeta):
    """Variance-preserving SDE with linear beta(t).

        alpha = exp(-B/2),  sigma^2 = 1 - exp(-B),  f = -beta/2,  g^2 = beta,  B(t) = integral of beta from 0 to t

    Song et al. 2021 (arXiv 2011.13456), eq. 11 and 32-33; the continuous limit of DDPM. The prior is N(0, I).

    Args:
        beta_min: the rate at t = 0, in units of 1/T.
        beta_max: the rate at t = T.
        T: see `SDE`.
        t_min: see `SDE`.
        t_train: see `SDE`.
    """

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-self._B(t)))

    def t_of_lam(self, lam: Tensor) -> Tensor:
        return self._t_of_B(torch.nn.functional.softplus(-2 * lam, threshold=50))


class SubVPSDE(_LinearBeta):
    """Sub-VP SDE with linear beta(t): the alpha of VP with a smaller variance.

        alpha = exp(-B/2),  sigma = 1 - exp(-B) (the standard deviation itself),  g^2 = beta (1 - exp(-2B))

    Song et al. 2021 (arXiv 2011.13456), eq. 12 and 35. The prior is N(0, I).

    Args:
        beta_min: see `VPSDE`.
        beta_max: see `VPSDE`.
        T: see `SDE`.
        t_min: see `SDE`.
        t_train: see `SDE`.
    """

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(-self._B(t))

    def t_of_lam(self, lam: Tensor) -> Tensor:
        # exp(lam) = exp(-B/2) / (1 - exp(-B)) = 1 / (2 sinh(B/2))
        return self._t_of_B(2 * torch.asinh(torch.exp(-lam) / 2))
