"""Forward diffusions: Gaussian paths x_t = alpha(t) x_0 + sigma(t) eps, each given by alpha and sigma alone."""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from scoresde._shapes import expand
from scoresde.errors import require


class Level(NamedTuple):
    """The noise level at one time as plain floats: x = alpha x_0 + sigma eps, lam = log(alpha / sigma)."""

    alpha: float
    sigma: float
    lam: float


def half_log_snr(alpha: Tensor, sigma: Tensor) -> Tensor:
    """lam = log(alpha / sigma), as a difference that neither overflows nor underflows."""
    return torch.log(alpha) - torch.log(sigma)


def _in_float64(method: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, float | Tensor], Tensor]:
    """Let a coefficient function take floats and tensors of any dtype and always compute in float64.

    In float32 1 - exp(-B) loses several percent near t = 0; here no user of an SDE can lose it by accident.
    """

    @functools.wraps(method)
    def wrapped(self: Any, t: float | Tensor) -> Tensor:
        return method(self, torch.as_tensor(t, dtype=torch.float64))

    return wrapped


class SDE(ABC):
    """A linear diffusion dx = f(t) x dt + g(t) dw, given by its path x_t = alpha(t) x_0 + sigma(t) eps.

    A subclass writes `alpha` and `sigma` with torch operations on a float64 tensor, and sets the three times below.
    Everything else is derived from them here (Song et al., arXiv 2011.13456; Kingma et al., arXiv 2107.00630):

        f = alpha' / alpha,    g^2 = 2 sigma sigma' - 2 f sigma^2,    lam = log(alpha / sigma)

    All functions take a float or a tensor of any shape and return a float64 tensor of that shape on its device.

    Args:
        T: the time at which only the prior N(0, prior_std^2 I) is left.
        t_min: the time at which samplers stop; what is left of the noise there is removed by one denoising step.
        t_train: the smallest time that training visits.
    """

    def __init__(self, T: float, t_min: float, t_train: float) -> None:
        require(math.isfinite(T) and T > 0, "T", T, "give a time > 0")
        require(0 < t_min < T, "t_min", t_min, f"give a time in (0, T = {T})")
        require(0 < t_train <= t_min, "t_train", t_train, f"give a time in (0, t_min = {t_min}]")
        self.T, self.t_min, self.t_train = T, t_min, t_train
        self._levels: dict[float, Level] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("alpha", "sigma", "t_of_lam"):
            if name in cls.__dict__:
                setattr(cls, name, _in_float64(cls.__dict__[name]))

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Scale of the data at time t."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""

    @property
    def prior_std(self) -> float:
        """Standard deviation of the prior N(0, prior_std^2 I) from which samplers start at T; sigma(T) by default."""
        return self.at(self.T).sigma

    @final
    def lam(self, t: float | Tensor) -> Tensor:
        """Half of the log signal-to-noise ratio, lam(t) = log(alpha / sigma); it falls from data to noise."""
        t = torch.as_tensor(t, dtype=torch.float64)
        return half_log_snr(self.alpha(t), self.sigma(t))

    def t_of_lam(self, lam: Tensor) -> Tensor:
        """The time in [0, T] at which `lam` is reached, by bisection; a subclass may give a closed form."""
        lam = torch.as_tensor(lam, dtype=torch.float64)
        low, high = torch.zeros_like(lam), torch.full_like(lam, self.T)
        for _ in range(80):  # halves the interval to below the spacing of float64
            middle = (low + high) / 2
            earlier = self.lam(middle) > lam
            low, high = torch.where(earlier, middle, low), torch.where(earlier, high, middle)
        return (low + high) / 2

    @final
    def slopes(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives (alpha'(t), sigma'(t)), by automatic differentiation."""
        with torch.enable_grad():
            u = torch.as_tensor(t, dtype=torch.float64).detach().requires_grad_()
            alpha, sigma = self.alpha(u).sum() + 0 * u.sum(), self.sigma(u).sum() + 0 * u.sum()
            return torch.autograd.grad(alpha, u)[0], torch.autograd.grad(sigma, u)[0]

    @final
    def f(self, t: float | Tensor) -> Tensor:
        """Coefficient of the drift f(t) x."""
        return self.slopes(t)[0] / self.alpha(torch.as_tensor(t))

    @final
    def g2(self, t: float | Tensor) -> Tensor:
        """Square of the diffusion coefficient, g^2(t)."""
        (dalpha, dsigma), t = self.slopes(t), torch.as_tensor(t)
        alpha, sigma = self.alpha(t), self.sigma(t)
        return 2 * sigma * (dsigma - sigma * dalpha / alpha)

    @final
    def g(self, t: float | Tensor) -> Tensor:
        """Diffusion coefficient g(t) >= 0."""
        return self.g2(t).sqrt()

    @final
    def at(self, t: float) -> Level:
        """The level at one time as floats; remembered, since every sample of a batch and every run asks again."""
        level = self._levels.get(t)
        return self.remember(torch.tensor([t], dtype=torch.float64))[0] if level is None else level

    @final
    def remember(self, times: Tensor) -> list[Level]:
        """Compute the levels of all times (N,) of a grid at once, and keep them for `at`."""
        if len(self._levels) > 10_000:  # an adaptive solver asks for ever new times
            self._levels.clear()
        times = times.detach()
        alpha, sigma = self.alpha(times), self.sigma(times)
        rows = (alpha, sigma, half_log_snr(alpha, sigma))
        levels = [Level(*level) for level in torch.stack(rows, dim=1).tolist()]
        self._levels.update(zip(times.tolist(), levels, strict=True))
        return levels

    @final
    def perturb(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t = alpha(t) x_0 + sigma(t) eps for x0, eps of shape (B, *event) and t of shape (B,)."""
        return expand(self.alpha(t), x0) * x0 + expand(self.sigma(t), x0) * eps

    def __repr__(self) -> str:
        values = ", ".join(f"{k}={v}" for k, v in self.__dict__.items() if not k.startswith("_"))
        return f"{type(self).__name__}({values})"


class _LinearBeta(SDE):
    """beta(t) rises linearly from beta_min to beta_max over [0, T]; B(t) is its integral in units of T = 1."""

    def __init__(self, beta_min: float, beta_max: float, T: float, t_min: float, t_train: float) -> None:
        super().__init__(T, t_min, t_train)
        require(beta_min > 0, "beta_min", beta_min, "give a rate > 0")
        require(
            math.isfinite(beta_max) and beta_max > beta_min,
            "beta_max",
            beta_max,
            f"give a rate > beta_min = {beta_min}",
        )
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
        beta_min, beta_max: the rates at t = 0 and t = T, in units of 1/T.
        T, t_min, t_train: see `SDE`.
    """

    def __init__(
        self,
        beta_min: float = 0.1,
        beta_max: float = 20.0,
        T: float = 1.0,
        t_min: float = 1e-3,
        t_train: float = 1e-5,
    ) -> None:
        super().__init__(beta_min, beta_max, T, t_min, t_train)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-self._B(t)))

    def t_of_lam(self, lam: Tensor) -> Tensor:
        return self._t_of_B(torch.nn.functional.softplus(-2 * lam, threshold=50))


class SubVPSDE(_LinearBeta):
    """Sub-VP SDE with linear beta(t): the alpha of VP with a smaller variance.

        alpha = exp(-B/2),  sigma = 1 - exp(-B) (the standard deviation itself),  g^2 = beta (1 - exp(-2B))

    Song et al. 2021 (arXiv 2011.13456), eq. 12 and 35. The prior is N(0, I). Arguments as for `VPSDE`.
    """

    def __init__(
        self,
        beta_min: float = 0.1,
        beta_max: float = 20.0,
        T: float = 1.0,
        t_min: float = 1e-3,
        t_train: float = 1e-5,
    ) -> None:
        super().__init__(beta_min, beta_max, T, t_min, t_train)

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(-self._B(t))

    def t_of_lam(self, lam: Tensor) -> Tensor:
        # exp(lam) = exp(-B/2) / (1 - exp(-B)) = 1 / (2 sinh(B/2))
        return self._t_of_B(2 * torch.asinh(torch.exp(-lam) / 2))


def _check_sigmas(sigma_min: float, sigma_max: float) -> None:
    require(sigma_min > 0, "sigma_min", sigma_min, "give a standard deviation > 0")
    require(
        math.isfinite(sigma_max) and sigma_max > sigma_min,
        "sigma_max",
        sigma_max,
        f"give a value > sigma_min = {sigma_min}",
    )


class VESDE(SDE):
    """Variance-exploding SDE, a geometric sequence of noise levels.

        alpha = 1,  sigma = sigma_min (sigma_max / sigma_min)^(t/T)
        f = 0,  g^2 = 2 sigma^2 log(sigma_max / sigma_min) / T

    Song et al. 2021 (arXiv 2011.13456), eq. 30-31, in the convention that sigma is the whole noise, so that
    sigma(0) = sigma_min, in loss and sampler alike. The prior is N(0, sigma_max^2 I).

    Args:
        sigma_min, sigma_max: smallest and largest noise in units of the data; sigma_max should be about the largest
            distance between two data points.
        T, t_min, t_train: see `SDE`.
    """

    def __init__(
        self,
        sigma_min: float = 0.01,
        sigma_max: float = 50.0,
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
        sigma_min, sigma_max: smallest and largest noise in units of the data.
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
