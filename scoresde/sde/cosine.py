"""The two cosine schedules, which are one family: with an offset at t = 0, and without."""

import math

import torch
from torch import Tensor

from scoresde.errors import require
from scoresde.sde.base import SDE


class CosineSDE(SDE):
    """Variance-preserving path whose alpha is a cosine of time.

        alpha = cos(theta) / cos(theta_0)
        sigma^2 = 1 - alpha^2 = sin(theta - theta_0) sin(theta + theta_0) / cos^2(theta_0)
        theta = (pi/2) (t + offset) / (1 + offset),   theta_0 = theta at t = 0

    Offset 0.008 is the schedule of Nichol and Dhariwal 2021 (arXiv 2102.09672, eq. 17), normalised so that
    alpha(0) = 1. Offset 0 is alpha = cos(pi t/2), sigma = sin(pi t/2) (Albergo et al. 2023, arXiv 2303.08797,
    section 4). These are two different schedules.

    lam(1) is minus infinity, and f and g diverge there, so time ends at T < 1; at the default T = 0.996 lam(T) is
    -5.08 with offset 0.008 and -5.07 without. The prior is N(0, I).

    Args:
        offset: keeps the noise of the first levels from being too small; 0 for the plain cosine.
        T: where time ends, below 1.
        t_min: see `SDE`.
        t_train: see `SDE`.

    Raises:
        InputError: if T is not below 1, or the offset is negative.
    """

    def __init__(self, offset: float = 0.008, *, T: float = 0.996, t_min: float = 1e-3, t_train: float = 1e-5) -> None:
        super().__init__(T, t_min, t_train)
        require(math.isfinite(offset) and offset >= 0, "offset", offset, "give a time >= 0, such as 0.008")
        require(T < 1, "T", T, "give a time below 1, such as 0.996: at 1 nothing is left of the data and g is infinite")
        self.offset = offset
        self._speed = math.pi / 2 / (1 + offset)

    @property
    def prior_std(self) -> float:
        """1: the path preserves unit variance."""
        return 1.0

    @property
    def _sin_cos_0(self) -> tuple[float, float]:
        return math.sin(self._speed * self.offset), math.cos(self._speed * self.offset)

    def alpha(self, t: Tensor) -> Tensor:
        # the cosine of theta as the sine of pi/2 - theta, which keeps its digits near t = 1
        return torch.sin(self._speed * (1 - t)) / self._sin_cos_0[1]

    def sigma(self, t: Tensor) -> Tensor:
        product = torch.sin(self._speed * t) * torch.sin(self._speed * (t + 2 * self.offset))
        return torch.sqrt(product) / self._sin_cos_0[1] if self.offset else torch.sin(self._speed * t)

    def t_of_lam(self, lam: Tensor) -> Tensor:
        # tan(theta - theta_0) solves a quadratic; this form of its root has no difference in it
        sin_0, cos_0 = self._sin_cos_0
        alpha2, sigma2 = torch.sigmoid(2 * lam), torch.sigmoid(-2 * lam)
        tangent = cos_0 * sigma2 / (sin_0 + torch.sqrt(alpha2 * (sin_0**2 + cos_0**2 * sigma2)))
        return torch.atan(tangent) / self._speed
