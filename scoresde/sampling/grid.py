"""Time grids: where a sampler evaluates the model, apart from how it steps."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from scoresde.constraints import Count, Fraction, Positive
from scoresde.described import Rebuildable
from scoresde.errors import InputError, require
from scoresde.model import Model
from scoresde.sampling.coordinates import Variable, time_of, variable
from scoresde.sde import SDE


def require_known(sde: SDE, **times: float | None) -> None:
    """Refuse times outside [t_train, T], by name."""
    for name, t in times.items():
        inside = t is None or sde.t_train <= t <= sde.T
        require(inside, name, t, f"give a time from t_train = {sde.t_train:g} to T = {sde.T:g}")


def falling(times: Tensor) -> bool:
    """Whether times (N,) fall; if they do not rise either, InputError names the first two that turn."""
    signs = times.diff().sign()
    turns = (signs == 0) | (signs != signs[:1])
    if turns.any():
        turn = int(turns.int().argmax())
        pair = ", ".join(f"{t:.6g}" for t in times[turn : turn + 2].tolist())
        raise InputError(f"times: {pair} follow each other; give times that all fall, or times that all rise")
    return bool((signs < 0).all())


class Grid(Rebuildable, ABC):
    """A rule that places `points` times between two levels.

    Attributes:
        leads_to_zero: whether its points, if no end is given, are those before noise zero, and stop above t_min.
    """

    leads_to_zero: ClassVar[bool] = False

    def __call__(self, sde: SDE, points: int, start: float | None = None, end: float | None = None) -> Tensor:
        """Times (points,), float64, on the host, that fall or rise strictly.

        Args:
            sde: the path.
            points: number of times, at least 1.
            start: the first time; None for sde.T, which is sde.t_start where alpha(T) = 0.
            end: the last time, above or below the first; None for sde.t_min.

        Raises:
            InputError: a time outside [t_train, T], or the grid has no such number of distinct times on this path.
        """
        require_known(sde, start=start, end=end)
        times = self.place(sde, points, start, end)
        if sde.ends_in_noise and (listed := times >= sde.T).any():  # no rule steps to or from infinite noise
            times[listed] = max([sde.t_start, *((sde.T + times[~listed]) / 2).tolist()])
        falls = (sde.T if start is None else start) > (sde.t_min if end is None else end)
        steps = -times.diff() if falls else times.diff()
        if not (steps > 0).all():
            single = bool(sde.lam(sde.t_min) == sde.lam(sde.t_start))
            remedy = "solver=annealed_langevin" if single else "fewer steps or another grid, such as lambda"
            where = f"{type(self).__name__} coincide on {type(sde).__name__}"
            raise InputError(f"grid: {points} points of {where}; use {remedy}")
        return times

    def scaled(self, model: Model, event_shape: Sequence[int] | None = None) -> "Grid":
        """The grid in units of the data of a model, for the shape of an event: itself, unless it depends on them."""
        return self

    def lookup(self, sampler: Any, model: Model, event_shape: Sequence[int] | None) -> "Grid":
        """The grid for all samples that a sampler draws from a model: itself, unless it tries some of them first.

        Args:
            sampler: that has this grid.
            model: what predicts.
            event_shape: of one sample; None if unknown.
        """
        return self

    @abstractmethod
    def place(self, sde: SDE, points: int, start: float | None, end: float | None) -> Tensor:
        """The times (points,), float64; arguments as for a call."""


class ContinuousGrid(Grid):
    """Equal steps in some coordinate of time; the two ends are exact.

    Attributes:
        variable: the coordinate, see `scoresde.sampling.coordinates.Variable`; others need the two methods below.
    """

    variable: Variable = "lambda"

    def place(self, sde: SDE, points: int, start: float | None, end: float | None) -> Tensor:
        start, end = (sde.t_start if t in (None, sde.T) else t for t in (start, sde.t_min if end is None else end))
        first, last = (self.coordinate(sde, torch.tensor(t, dtype=torch.float64)) for t in (start, end))
        u = self.spread(torch.linspace(0.0, 1.0, points, dtype=torch.float64))
        times = self.time(sde, first + (last - first) * u)
        times[-1] = end  # inverses return the ends up to rounding
        times[0] = start
        return times

    def spread(self, u: Tensor) -> Tensor:
        """Fractions of the span, from 0 to 1, for equally spaced u."""
        return u

    def coordinate(self, sde: SDE, t: Tensor) -> Tensor:
        """The coordinate at times t."""
        return t if self.variable == "time" else variable(self.variable, sde, sde.lam(t))

    def time(self, sde: SDE, w: Tensor) -> Tensor:
        """The times at which the coordinate is w."""
        return time_of(self.variable, sde, w)


class TimeUniform(ContinuousGrid):
    """Equal steps in t, as in Song et al. 2021 (arXiv 2011.13456): dt = (T - t_min) / (points - 1)."""

    variable = "time"


class Quadratic(ContinuousGrid):
    """Equal steps in sqrt(t), so that points are denser at low noise: the quadratic sub-sequence of DDIM.

        t = (sqrt(T) + (sqrt(t_min) - sqrt(T)) u)^2

    Song et al. 2020 (arXiv 2010.02502), appendix D.2, tau_i proportional to i^2.
    """

    def coordinate(self, sde: SDE, t: Tensor) -> Tensor:
        return t.sqrt()

    def time(self, sde: SDE, w: Tensor) -> Tensor:
        return w**2


class LambdaUniform(ContinuousGrid):
    """Equal steps in lam = log(alpha / sigma), as in Lu et al. 2022 (arXiv 2206.00927), section 3.4."""


@dataclass(frozen=True, repr=False)
class Cosine(ContinuousGrid):
    """Chebyshev-Lobatto points, denser at both ends: equal steps in the angle of w = (1 - cos(pi u)) / 2.

        lam = lam_T + (lam_min - lam_T) w,   and likewise for the other variables

    The first and the last of N steps are about pi^2 / (4 N) times as long as equal ones.

    Args:
        variable: what is spaced so: lambda, ratio, noise_share, angle (atan(sigma / alpha)) or time.
        share: of w in the spacing; the rest are equal steps.

    Raises:
        InputError: for another variable, or a share outside [0, 1].
    """

    variable: Variable = "lambda"
    share: Fraction = 1.0

    def spread(self, u: Tensor) -> Tensor:
        return self.share * torch.sin(0.5 * torch.pi * u) ** 2 + (1 - self.share) * u


class NoiseShareUniform(ContinuousGrid):
    """Equal steps in sigma / (alpha + sigma), the share of noise, which runs from near 1 to near 0 for every SDE.

    On the rectified path (alpha = 1 - t, sigma = t; arXiv 2209.03003) this variable is t itself.
    """

    variable = "noise_share"


@dataclass(frozen=True, repr=False)
class Karras(ContinuousGrid):
    """Equal steps in (sigma / alpha)^(1/rho), Karras et al. 2022 (arXiv 2206.00364), eq. 5.

    Args:
        rho: larger values put more points at low noise.
    """

    rho: Positive = 7.0

    def coordinate(self, sde: SDE, t: Tensor) -> Tensor:
        return torch.exp(-sde.lam(t) / self.rho)

    def time(self, sde: SDE, w: Tensor) -> Tensor:
        return sde.t_of_lam(-self.rho * torch.log(w))


def widest(dimension: int) -> float:
    """2 + sqrt(D), in sigma_data: above the standard deviation of D correlated values in any direction."""
    return 2 + math.sqrt(dimension)


@dataclass(frozen=True, repr=False)
class Terminal(Grid):
    """N points and then noise zero, for rules that take the last step there without an evaluation near it.

        equal steps in h(r) = log((r + low) / (1 + r / high)),   r = sigma / (alpha sigma_data),   from T to r = 0

    The last point is not below t_train. Between two given levels the points include both; so do those of a sampler
    that cannot step to zero from anywhere, down to t_min.

    Args:
        low: steps become equal in r below it.
        high: steps become equal in 1 / r above it; None for 2 + sqrt(D), since data of D correlated values may have a
            standard deviation of up to sqrt(D) sigma_data in one direction.
        sigma_data: standard deviation of the data; None for that of the model, and 1 without one.
        dimension: D; None for that of the event, and 1 without one.
    """

    leads_to_zero = True

    low: Positive = 0.04
    high: Positive | None = None
    sigma_data: Positive | None = None
    dimension: Count | None = None

    def scaled(self, model: Model, event_shape: Sequence[int] | None = None) -> "Terminal":
        shape = model.event_shape if event_shape is None else event_shape
        dimension = None if shape is None else max(math.prod(shape), 1)
        return replace(self, sigma_data=self.sigma_data or model.sigma_data, dimension=self.dimension or dimension)

    @property
    def highest(self) -> float:
        """`high`, or what stands for it."""
        return self.high or widest(self.dimension or 1)

    def place(self, sde: SDE, points: int, start: float | None, end: float | None) -> Tensor:
        last = sde.t_train if end is None else end
        ends = torch.tensor([sde.t_start if t in (None, sde.T) else t for t in (start, last)], dtype=torch.float64)
        high, unit = self.highest, math.log(self.sigma_data or 1.0)
        ratio = torch.exp(-sde.lam(ends) - unit)
        h = torch.log((ratio + self.low) / (1 + ratio / high))
        if end is None:  # one step of equal length is left to r = 0
            h[1] = max(h[1], h[0] + (math.log(self.low) - h[0]) * (points - 1) / points)
        grown = torch.exp(h[0] + (h[1] - h[0]) * torch.linspace(0, 1, points, dtype=torch.float64))
        times = sde.t_of_lam(-torch.log((grown - self.low) / (1 - grown / high)) - unit)
        times[0] = ends[0]
        if end is not None and points > 1:
            times[-1] = ends[1]
        return times.clamp(min=sde.t_train)
