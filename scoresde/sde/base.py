"""The base class of all SDEs: two functions of time, alpha and sigma, and everything derived from them."""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from scoresde._shapes import expand
from scoresde.constraints import Positive
from scoresde.described import Rebuildable
from scoresde.errors import InputError, require

_ROUNDING, FIRST_LAM = 1.5e-8, -7.0  # alpha / sigma below which alpha(T) is 0 but for rounding; lam of t_start


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

    In float32 1 - exp(-B) loses several percent near t = 0; callers cannot lose it by accident.
    """

    @functools.wraps(method)
    def wrapped(self: Any, t: float | Tensor) -> Tensor:
        return method(self, torch.as_tensor(t, dtype=torch.float64))

    return wrapped


class SDE(Rebuildable, ABC):
    """A linear diffusion dx = f(t) x dt + g(t) dw, given by its path x_t = alpha(t) x_0 + sigma(t) eps.

    A subclass writes `alpha` and `sigma` with torch operations on a float64 tensor, and sets the three times below.
    Everything else is derived from them here (Song et al., arXiv 2011.13456; Kingma et al., arXiv 2107.00630):

        f = alpha' / alpha,    g^2 = 2 sigma sigma' - 2 f sigma^2,    lam = log(alpha / sigma)

    All functions take a float or a tensor of any shape and return a float64 tensor of that shape on its device.

    Args:
        T: the time at which only the prior N(0, prior_std^2 I) is left; alpha(T) may be 0, see `t_start`.
        t_min: the time at which samplers stop; one denoising step removes the noise that is left.
        t_train: the smallest time used in training.
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
        """Standard deviation of the prior N(0, prior_std^2 I) from which samplers start; sigma(t_start) by default."""
        return self.at(self.t_start).sigma

    @property
    def t_start(self) -> float:
        """The time at which samplers start: T, but where alpha(T) = 0 the one at which sigma / alpha is 1100.

        At T itself lam is infinite, f and g diverge and no network predicts noise; just before, there is as little left
        of the data as in the other paths.
        """
        return float(self.t_of_lam(torch.tensor(FIRST_LAM, dtype=torch.float64))) if self.ends_in_noise else self.T

    @property
    def ends_in_noise(self) -> bool:
        """Whether alpha(T) = 0 but for rounding, or sigma(T) is infinite, so that T has no finite lam."""
        level = self.at(self.T)
        return abs(level.alpha) < _ROUNDING * level.sigma

    @final
    def lam(self, t: float | Tensor) -> Tensor:
        """Half of the log signal-to-noise ratio, lam(t) = log(alpha / sigma); it decreases from data to noise."""
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
        with torch.inference_mode(False), torch.enable_grad():
            u = torch.as_tensor(t, dtype=torch.float64).detach().clone().requires_grad_()
            alpha, sigma = self.alpha(u).sum() + 0 * u.sum(), self.sigma(u).sum() + 0 * u.sum()
            return torch.autograd.grad(alpha, u)[0], torch.autograd.grad(sigma, u)[0]

    @final
    def f(self, t: float | Tensor) -> Tensor:
        """Coefficient of the drift f(t) x."""
        return self.slopes(t)[0] / self.alpha(torch.as_tensor(t, dtype=torch.float64))

    @final
    def g2(self, t: float | Tensor) -> Tensor:
        """Square of the diffusion coefficient, g^2(t)."""
        (dalpha, dsigma), t = self.slopes(t), torch.as_tensor(t, dtype=torch.float64)
        alpha, sigma = self.alpha(t), self.sigma(t)
        return 2 * sigma * (dsigma - sigma * dalpha / alpha)

    @final
    def g(self, t: float | Tensor) -> Tensor:
        """Diffusion coefficient g(t) >= 0."""
        return self.g2(t).sqrt()

    @final
    def at(self, t: float) -> Level:
        """The level at one time as floats; cached, since every sample of a batch needs it again."""
        level = self._levels.get(t)
        return self.remember(torch.tensor([t], dtype=torch.float64))[0] if level is None else level

    @final
    def remember(self, times: Tensor) -> list[Level]:
        """Compute the levels of all times (N,) of a grid at once, and cache them for `at`."""
        if len(self._levels) > 10_000:  # an adaptive solver always asks for new times
            self._levels.clear()
        alpha, sigma = self.alpha(times), self.sigma(times)
        rows = (alpha, sigma, half_log_snr(alpha, sigma))
        levels = [Level(*level) for level in torch.stack(rows, dim=1).tolist()]
        self._levels.update(zip(times.tolist(), levels, strict=True))
        return levels

    def __getstate__(self) -> dict[str, Any]:
        """For copies: without the cache, which other threads may fill at that moment."""
        return self.__dict__ | {"_levels": {}}

    @final
    def perturb(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t = alpha(t) x_0 + sigma(t) eps for x0, eps of shape (B, *event) and t of shape (B,)."""
        return expand(self.alpha(t), x0) * x0 + expand(self.sigma(t), x0) * eps

    def __repr__(self) -> str:
        try:
            return super().__repr__()
        except InputError:  # a class that does not keep its arguments
            return self.attributes_text()

    @final
    def attributes_text(self) -> str:
        """The repr of earlier versions, by which tuned grids name their SDE."""
        values = ", ".join(f"{k}={v}" for k, v in self.__dict__.items() if not k.startswith("_"))
        return f"{type(self).__name__}({values})"


@dataclass(eq=False, repr=False, kw_only=True)
class TimedSDE(SDE):
    """Base of SDEs that are dataclasses: the three times as fields, with the usual values; see `SDE`."""

    T: Positive = 1.0
    t_min: Positive = 1e-3
    t_train: Positive = 1e-5

    def __post_init__(self) -> None:
        SDE.__init__(self, self.T, self.t_min, self.t_train)
