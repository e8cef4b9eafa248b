"""Time grids that are lists: the numbered levels of DDPM, and times of your own."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from scoresde.constraints import Count
from scoresde.errors import InputError, refuse, require
from scoresde.sampling.grid import Grid, falling
from scoresde.sde import SDE, LevelsVPSDE

Spacing = Literal["leading", "trailing", "linspace"]


@dataclass(frozen=True, repr=False)
class Discrete(Grid):
    """Times out of N equal ones, t_n = T n / N for n = 1 ... N: the spacings of DDPM samplers.

    A path through levels, such as `DiscreteVPSDE`, has its own: t_n = (n - 1) / (N - 1), where n is the step of the
    paper. Points that are all of them take every step of the chain, and linspace is the respacing of improved DDPM.

    With N levels and S points, in increasing order (Lin et al. 2023, arXiv 2305.08891, table 2):

        leading    1 + i floor(N/S),  i = 0 ... S-1    1, 101, ..., 901 of N = 1000, S = 10
        linspace   round(linspace(1, N, S))            1, 112, ..., 1000
        trailing   round(N - i N/S),  i = 0 ... S-1    100, 200, ..., 1000

    The grid is just these levels. Trailing ends at level N/S, and the last step of the sampler (or, with
    denoise=False, nothing) removes the noise that is left there. Leading begins at a level below T, yet the sampler
    starts from the prior of T: the flaw that the paper describes. It is harmless only where sigma has levelled off by
    then; where sigma is more than 10 % off the prior (on VE, mostly on EDM, and with a single point) it is refused. A
    single point of linspace is T.

    From a start below T, N is the number of that level. Between two given levels all spacings are that of linspace.
    Other libraries number the levels from 0, so that their level 0 is n = 1 here.

    Args:
        spacing: which of the three.
        levels: number of levels N; t_1 = T / N must not be below t_train. None for those of the path, or 1000.

    Raises:
        InputError: for another spacing, more points than levels, levels that do not fit the SDE as described above, or
            a start or end that is not a level.
    """

    spacing: Spacing = "trailing"
    levels: Count | None = None

    def numbers(
        self, points: int, first: int | None = None, last: int | None = None, levels: int = 1000, zero: int = 0
    ) -> list[int]:
        """The level numbers n from `first` (N) to `last`; exact, so that none is off by one, and halves to even.

        Halves of linspace on a chain are rounded as improved DDPM does it, which numbers levels from 0 (`zero` = 1).
        """
        n, end = (self.levels or levels) if first is None else first, 1 if last is None else last
        span = abs(n - end) + 1
        fewer = f"levels: {span} are fewer than the {points} points of the grid; use at most {span} steps"
        refuse(points > span, fewer)
        spacing = self.spacing if last is None else "linspace"
        leading, trailing = Fraction(n // points), Fraction(n, points)
        linspace = Fraction(n - end, max(points - 1, 1))
        step = {"leading": leading, "trailing": trailing, "linspace": linspace}[spacing]
        top = 1 + (points - 1) * step if spacing == "leading" else Fraction(n)
        shift = zero if spacing == "linspace" else 0
        return [shift + round(top - shift - i * step) for i in range(points)]

    def place(self, sde: SDE, points: int, start: float | None, end: float | None) -> Tensor:
        levels, zero = self._levels(sde)
        first, last = (self._number(sde, name, t) for name, t in (("start", start), ("end", end)))
        numbers = self.numbers(points, first, last, levels, zero)
        times = torch.tensor([sde.T * (n - zero) / (levels - zero) for n in numbers], dtype=torch.float64)
        if not zero and times.min() < sde.t_train * (1 - 1e-9):  # where no model knows the score
            raise InputError(
                f"levels: {levels} put a level at t = {float(times.min()):.3g}, below t_train = {sde.t_train:g}; "
                f"give at most {int(sde.T / sde.t_train)}, or a smaller sde.t_train"
            )
        if first is not None and numbers[0] != first:
            raise InputError(f"spacing: {self.spacing!r} does not begin at level {first}; use trailing or linspace")
        sigma = float(sde.sigma(times[0]))
        if start is None and times[0] < sde.T and abs(sigma / sde.prior_std - 1) > 0.1:
            raise InputError(
                f"spacing: {self.spacing!r} begins at t = {float(times[0]):.3g}, where sigma is {sigma:.3g}, but "
                f"samples start from a prior of {sde.prior_std:.3g}; use trailing or linspace"
            )
        times = times.clamp(min=sde.t_train)
        for i, t in ((0, start), (-1, end)):
            if t is not None:
                times[i] = t  # exactly
        return times

    def _number(self, sde: SDE, name: str, t: float | None) -> int | None:
        """The number of the level at time t."""
        if t is None:
            return None
        levels, zero = self._levels(sde)
        exact = zero + t / sde.T * (levels - zero)
        number = round(exact)
        level = sde.T * (max(number, 1) - zero) / (levels - zero)
        require(abs(exact - number) < 1e-6 * levels, name, t, f"give one of the {levels} levels, such as {level:g}")
        return number

    def _levels(self, sde: SDE) -> tuple[int, int]:
        """N, and the number of the level at t = 0."""
        if not isinstance(sde, LevelsVPSDE):
            return self.levels or 1000, 0
        own = sde.last_level + 1
        require(self.levels in (None, own), "levels", self.levels, f"the path has {own}; leave levels out")
        return own, 1


@dataclass(frozen=True, repr=False)
class Explicit(Grid):
    """The given times.

    Args:
        times: strictly falling or rising; the first is T or the start, the last not below t_train or exactly the end;
            as many as the sampler has steps (one more without denoising at the end).

    Raises:
        InputError: from a call whose number of points is another, or if the times do not fit the SDE and the levels.
    """

    times: Sequence[float]

    def __post_init__(self) -> None:
        require(len(self.times) >= 1, "times", self.times, "give at least one time")
        falling(torch.tensor(self.times, dtype=torch.float64))

    def place(self, sde: SDE, points: int, start: float | None, end: float | None) -> Tensor:
        times = torch.tensor(list(self.times), dtype=torch.float64)
        given, first, last = len(times), float(times[0]), float(times[-1])
        wanted = f"T = {sde.T:g} of the SDE" if start is None else f"the start {start:g}"
        require(first == (sde.T if start is None else start), "times", first, f"the first must be {wanted}")
        if end is None:
            least = f"the last must not be below t_train = {sde.t_train:g} of the SDE"
            require(last >= sde.t_train, "times", last, least)
        else:
            require(last == end, "times", last, f"the last must be the end {end:g}")
        if given != points:
            raise InputError(
                f"times: {given} are given, but the steps of the sampler ask for {points}; "
                f"use steps={given} ({given - 1} with denoise=false) or give {points} times"
            )
        return times
