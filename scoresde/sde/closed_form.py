"""Paths in closed form: variance preserving, sub-VP, cosine, variance exploding, EDM, and straight lines."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Annotated

import torch
from torch import Tensor

from scoresde.constraints import Constraint, NonNegative, Positive
from scoresde.errors import require
from scoresde.sde.base import SDE, TimedSDE


def _below_one(such: float) -> Constraint:
    why = "at 1 nothing is left of the data and g is infinite"
    return Constraint(lambda T: 0 < T < 1, f"a time below 1, such as {such}: {why}")


@dataclass(eq=False, repr=False)
class _LinearBeta(TimedSDE):
    """beta(t) increases linearly from beta_min to beta_max over [0, T]; B(t) is its integral in units of T = 1."""

    beta_min: Positive = 0.1
    beta_max: Positive = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta_max > self.beta_min, "beta_max", self.beta_max, f"give a value > beta_min = {self.beta_min}")

    prior_std = 1.0  # the path preserves unit variance, so N(0, I) is closer to p_T than N(0, sigma(T)^2 I)

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


@dataclass(eq=False, repr=False)
class CosineSDE(TimedSDE):
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

    offset: NonNegative = 0.008
    _: KW_ONLY
    T: Annotated[float, _below_one(0.996)] = 0.996

    def __post_init__(self) -> None:
        super().__post_init__()
        self._speed = math.pi / 2 / (1 + self.offset)
        self._sin_0, self._cos_0 = math.sin(self._speed * self.offset), math.cos(self._speed * self.offset)

    prior_std = 1.0  # the path preserves unit variance

    def alpha(self, t: Tensor) -> Tensor:
        # the cosine of theta as the sine of pi/2 - theta, which keeps its digits near t = 1
        return torch.sin(self._speed * (1 - t)) / self._cos_0

    def sigma(self, t: Tensor) -> Tensor:
        product = torch.sin(self._speed * t) * torch.sin(self._speed * (t + 2 * self.offset))
        return torch.sqrt(product) / self._cos_0 if self.offset else torch.sin(self._speed * t)

    def t_of_lam(self, lam: Tensor) -> Tensor:
        # tan(theta - theta_0) solves a quadratic; this form of its root has no difference in it
        alpha2, sigma2 = torch.sigmoid(2 * lam), torch.sigmoid(-2 * lam)
        tangent = self._cos_0 * sigma2 / (self._sin_0 + torch.sqrt(alpha2 * (self._sin_0**2 + self._cos_0**2 * sigma2)))
        return torch.atan(tangent) / self._speed


@dataclass(eq=False, repr=False)
class VESDE(TimedSDE):
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

    sigma_min: Positive = 0.01
    sigma_max: Positive = 50.0
    _: KW_ONLY
    t_min: Positive = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        above = self.sigma_max > self.sigma_min
        require(above, "sigma_max", self.sigma_max, f"give a value > sigma_min = {self.sigma_min}")

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

    def __init__(self, sigma_min: Positive = 0.002, sigma_max: Positive = 80.0) -> None:
        require(sigma_max > sigma_min, "sigma_max", sigma_max, f"give a value > sigma_min = {sigma_min}")
        super().__init__(T=sigma_max, t_min=sigma_min, t_train=sigma_min)
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.exp(-lam)


_RectifiedT = Annotated[float, _below_one(0.999)]


class RectifiedSDE(SDE):
    """Straight lines from data to noise.

        alpha = 1 - t,  sigma = t,  f = -1 / (1 - t),  g^2 = 2 t / (1 - t),  velocity = eps - x_0

    Liu et al. 2022 (arXiv 2209.03003), eq. 1 with their time reversed; Lipman et al. 2022 (arXiv 2210.02747), eq. 20-23
    with sigma_min = 0. f and g diverge at t = 1, so time ends at T < 1; at the default T = 0.999 lam(T) is -6.91. The
    prior is N(0, T^2 I).

    Args:
        T: where time ends, below 1.
        t_min: see `SDE`.
        t_train: see `SDE`.

    Raises:
        InputError: if T is not below 1.
    """

    def __init__(self, T: _RectifiedT = 0.999, t_min: Positive = 1e-3, t_train: Positive = 1e-5) -> None:
        super().__init__(T, t_min, t_train)

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(-lam)


class OneLevelSDE(SDE):
    """A single noise level: alpha = 1 and a constant sigma at all times, so that nothing moves, f = g = 0.

    Denoising score matching on it learns the score at one level (Vincent 2011, Neural Computation 23, 1661), implicit
    and sliced score matching learn that of the data without noise, and `AnnealedLangevinDynamics` is plain Langevin
    dynamics. There is no way from noise to data on it, and no time of a given lam. The prior is N(0, start^2 I).

    Args:
        level: sigma.
        start: standard deviation of the prior.
    """

    def __init__(self, level: Positive = 0.1, start: Positive = 1.0) -> None:
        super().__init__(T=1.0, t_min=1e-3, t_train=1e-5)
        self.level, self.start = level, start

    @property
    def prior_std(self) -> float:
        return self.start

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.level)

    def t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.full_like(lam, self.T)
