"""Variance-exploding paths, which add noise to unscaled data: VE and EDM's."""

import math

import torch
from torch import Tensor

from scoresde.errors import require
from scoresde.sde.base import SDE


def _check_sigmas(sigma_min: float, sigma_max: float) -> None:
    require(sigma_min > 0, "sigma_min", sigma_min, "give a standard deviation > 0")
    wanted = f"give a value > sigma_min = {sigma_min}"
    require(math.isfinite(sigma_max) and sigma_max > sigma_min, "sigma_max", sigma_max, wanted)


class VESDE(SDE):
    """Variance-exploding SDE, a geometric sequence of noise levels.

        alpha = 1,  sigma = sigma_min (sigma_max / sigma_min)^(t/T)
        f = 0,  g^2 = 2 sigma^2 log(sigma_max / sigma_min) / T

    Song et al. 2021 (arXiv 2011.13456), eq. 30-31, in the convention that sigma is the whole noise, so that
    sigma(0) = sigma_min, in loss and sampler alike. The prior is N(0, sigma_max^2 I).

    Args:
        sigma_min: smallest noise in units of the data.
        sigma_max: largest noise; about the largest distance between two data points.
        T: see `SDE`.
        t_min: see `SDE`.
        t_train: see `SDE`.
    """

    def __init__(
        self,
        sigma_min: float = 0.01,
        sigma_max: float = 50.0,
        *,
        T: float = 1.0,
        t_min: float = 1e-5,
        t_train: float = 1e-5,
    ) -> None:
        super().__init__(T, t_min, t_train)
        _check_sigmas(sigma_min, sigma_max)
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** (t / self.T)

    def t_of_lam(self, lam: Tensor) -> Tensor:
        return self.T * (-lam - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)


class EDMSDE(SDE):
    """The diffusion of EDM, whose time is the noise level itself: alpha = 1, sigma = t, f = 0, g^2 = 2 t.

    Karras et al. 2022 (arXiv 2206.00364), table 1. Time runs over [sigma_min, sigma_max]; the prior is
    N(0, sigma_max^2 I).

    Args:
        sigma_min: smallest noise in units of the data.
        sigma_max: largest noise.
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0) -> None:
        _check_sigmas(sigma_min, sigma_max)
        super().__init__(T=sigma_max, t_min=sigma_min, t_train=sigma_min)
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.exp(-lam)
