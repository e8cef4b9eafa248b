"""Time grids: where a sampler evaluates the model, apart from how it steps."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from scoresde.errors import InputError, require
from scoresde.sde import SDE


class Grid(ABC):
    """A rule that places `points` times between sde.T and sde.t_min."""

    def __call__(self, sde: SDE, points: int) -> Tensor:
        """Strictly decreasing times (points,), float64, on the host.

        Raises:
            InputError: the grid has no such number of different times under this SDE.
        """
        times = self.times(sde, points)
        if not (times.diff() < 0).all():
            raise InputError(
                f"grid: {points} points of {type(self).__name__} coincide on {type(sde).__name__}; "
                "use fewer steps or another grid, such as lambda"
            )
        return times

    @abstractmethod
    def times(self, sde: SDE, points: int) -> Tensor:
        """The times (points,), float64."""


class ContinuousGrid(Grid):
    """A grid given by a function of the fraction u of the way; its ends are exactly sde.T and sde.t_min."""

    def times(self, sde: SDE, points: int) -> Tensor:
        times = self.place(sde, torch.linspace(0.0, 1.0, points, dtype=torch.float64))
        times[0] = sde.T  # inverses of lam return the ends up to rounding
        if points > 1:
            times[-1] = sde.t_min
        return times

    @abstractmethod
    def place(self, sde: SDE, u: Tensor) -> Tensor:
        """Times at the fractions u in [0, 1] of the way from T (u = 0) to t_min (u = 1)."""


class TimeUniform(ContinuousGrid):
    """Equal steps in t, as in Song et al. 2021 (arXiv 2011.13456): dt = (T - t_min) / (points - 1)."""

    def place(self, sde: SDE, u: Tensor) -> Tensor:
        return sde.T + (sde.t_min - sde.T) * u


class Quadratic(ContinuousGrid):
    """Equal steps in sqrt(t), so that points are denser at low noise: the quadratic sub-sequence of DDIM.

        t = (sqrt(T) + (sqrt(t_min) - sqrt(T)) u)^2

    Song et al. 2020 (arXiv 2010.02502), appendix D.2, tau_i proportional to i^2.
    """

    def place(self, sde: SDE, u: Tensor) -> Tensor:
        first, last = math.sqrt(sde.T), math.sqrt(sde.t_min)
        return (first + (last - first) * u) ** 2


class LambdaUniform(ContinuousGrid):
    """Equal steps in lam = log(alpha / sigma), as in Lu et al. 2022 (arXiv 2206.00927), section 3.4."""

    def place(self, sde: SDE, u: Tensor) -> Tensor:
        first, last = sde.lam(sde.T), sde.lam(sde.t_min)
        return sde.t_of_lam(first + (last - first) * u)


class Cosine(ContinuousGrid):
    """Points of Chebyshev and Lobatto, denser at both ends: equal steps in the angle of w = (1 - cos(pi u)) / 2.

        lam = lam_T + (lam_min - lam_T) w,   or   t = T + (t_min - T) w

    The first and the last of N steps are about pi^2 / (4 N) times as long as equal ones.

    Args:
        variable: `lambda` spaces lam = log(alpha / sigma) so, `time` t.

    Raises:
        InputError: for another variable.
    """

    def __init__(self, variable: Literal["lambda", "time"] = "lambda") -> None:
        require(variable in ("lambda", "time"), "variable", variable, "give lambda or time")
        self.inner: ContinuousGrid = LambdaUniform() if variable == "lambda" else TimeUniform()

    def place(self, sde: SDE, u: Tensor) -> Tensor:
        return self.inner.place(sde, torch.sin(0.5 * torch.pi * u) ** 2)


class NoiseShareUniform(ContinuousGrid):
    """Equal steps in sigma / (alpha + sigma), the share of noise, which runs from near 1 to near 0 for every SDE.

    On the rectified path (alpha = 1 - t, sigma = t; arXiv 2209.03003) this variable is t itself.
    """

    def place(self, sde: SDE, u: Tensor) -> Tensor:
        first, last = torch.sigmoid(-sde.lam(sde.T)), torch.sigmoid(-sde.lam(sde.t_min))
        return sde.t_of_lam(-torch.logit(first + (last - first) * u))


class Karras(ContinuousGrid):
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


class Discrete(Grid):
    """Times out of `levels` equal ones, t_n = T n / levels for n = 1 ... levels: the spacings of DDPM samplers.

    With N levels and S points, in increasing order (Lin et al. 2023, arXiv 2305.08891, table 2):

        leading    1 + i floor(N/S),  i = 0 ... S-1    1, 101, ..., 901 of N = 1000, S = 10
        linspace   round(linspace(1, N, S))            1, 112, ..., 1000
        trailing   round(N - i N/S),  i = 0 ... S-1    100, 200, ..., 1000

    The grid is just these levels. Trailing ends at level N/S, and the last step of the sampler (or, with
    denoise=False, nobody) removes what noise is left there. Leading begins at a level below T, yet the sampler starts
    from the prior of T: the flaw that the paper describes. It is harmless only where sigma has levelled off by then;
    where sigma is more than 10 % off the prior (on VE, mostly on EDM, and with a single point) it is refused. A single
    point of linspace is T.

    Other libraries number the levels from 0, so that their level 0 is n = 1 here.

    Args:
        spacing: which of the three.
        levels: number of levels N; t_1 = T / N must not be below t_train.

    Raises:
        InputError: for another spacing, more points than levels, or levels that do not fit the SDE as said above.
    """

    def __init__(self, spacing: Literal["leading", "trailing", "linspace"] = "trailing", levels: int = 1000) -> None:
        known = ("leading", "trailing", "linspace")
        require(spacing in known, "spacing", spacing, f"give one of {', '.join(known)}")
        require(levels >= 1, "levels", levels, "give an integer >= 1")
        self.spacing, self.levels = spacing, levels

    def numbers(self, points: int) -> list[int]:
        """The level numbers n, decreasing; integers throughout, so that none is off by one."""
        n = self.levels
        if points > n:
            raise InputError(f"levels: {n} are fewer than the {points} points of the grid; use at most {n} steps")
        if self.spacing == "leading":
            rising = [1 + i * (n // points) for i in range(points)]
        elif self.spacing == "trailing" or points == 1:
            rising = [_rounded(n * i, points) for i in range(1, points + 1)]
        else:
            rising = [_rounded((n - 1) * i + points - 1, points - 1) for i in range(points)]
        return rising[::-1]

    def times(self, sde: SDE, points: int) -> Tensor:
        times = torch.tensor([sde.T * n / self.levels for n in self.numbers(points)], dtype=torch.float64)
        if times[-1] < sde.t_train * (1 - 1e-9):  # where nobody knows the score
            raise InputError(
                f"levels: {self.levels} put a level at t = {float(times[-1]):.3g}, below t_train = {sde.t_train:g}; "
                f"give at most {int(sde.T / sde.t_train)}, or a smaller sde.t_train"
            )
        sigma = float(sde.sigma(times[0]))
        if times[0] < sde.T and abs(sigma / sde.prior_std - 1) > 0.1:
            raise InputError(
                f"spacing: {self.spacing!r} begins at t = {float(times[0]):.3g}, where sigma is {sigma:.3g}, but "
                f"samples start from a prior of {sde.prior_std:.3g}; use trailing or linspace"
            )
        return times.clamp(min=sde.t_train)


def _rounded(numerator: int, denominator: int) -> int:
    """numerator / denominator to the nearest integer, exactly; halves go to the even one, as in numpy."""
    below, rest = divmod(numerator, denominator)
    up = 2 * rest > denominator or (2 * rest == denominator and below % 2 == 1)
    return below + up


class Explicit(Grid):
    """The times that were given.

    Args:
        times: strictly decreasing from sde.T, not below sde.t_min; as many as the sampler has steps (one more with
            denoise=False).

    Raises:
        InputError: from a call whose number of points is another, or if the times do not fit the SDE.
    """

    def __init__(self, times: Sequence[float]) -> None:
        require(len(times) >= 1, "times", list(times), "give at least one time")
        for before, after in pairwise(times):
            require(after < before, "times", list(times), f"they must decrease, but {before} is followed by {after}")
        self._times = torch.tensor([float(t) for t in times], dtype=torch.float64)

    def times(self, sde: SDE, points: int) -> Tensor:
        given, first, last = len(self._times), float(self._times[0]), float(self._times[-1])
        require(first == sde.T, "times", first, f"the first must be T = {sde.T:g} of the SDE")
        require(last >= sde.t_min, "times", last, f"the last must not be below t_min = {sde.t_min:g} of the SDE")
        if given != points:
            raise InputError(
                f"times: {given} are given, but the steps of the sampler ask for {points}; "
                f"use steps={given} ({given - 1} with denoise=false) or give {points} times"
            )
        return self._times.clone()
