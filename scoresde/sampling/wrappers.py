"""Noise added again between steps: wrappers of a solver in which the errors of earlier steps contract."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from scoresde.constraints import Count, NonNegative, Positive
from scoresde.errors import InputError, require
from scoresde.model import Model
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.one_step import Heun
from scoresde.sampling.solver import Draw, GridSolver, NoiseSource, Path, Solver, Step
from scoresde.sde import SDE


@dataclass(frozen=True, repr=False)
class Churn(GridSolver):
    """Before each step from r = sigma / alpha, noise is added up to r' = r (1 + gamma), and the step starts from there.

        x/alpha <- x/alpha + noise sqrt(r'^2 - r^2) z
        gamma = min(churn / N, sqrt(2) - 1) where lowest <= r <= highest, else 0

    With Heun's rule it is algorithm 2 of Karras et al. 2022 (arXiv 2206.00364). Noise never exceeds that of T.

    Args:
        solver: a one-step rule; Heun's unless given.
        churn: S_churn, the amount of noise over the whole trajectory.
        lowest: S_tmin, the lowest level at which noise is added, as sigma / alpha.
        highest: S_tmax, the highest one.
        noise: S_noise, factor of the added noise; 1 keeps the distribution.

    Raises:
        InputError: for a multistep rule, whose history the added noise would invalidate, and numbers out of range.
    """

    solver: GridSolver | None = None
    _: KW_ONLY
    churn: NonNegative = 40.0
    lowest: NonNegative = 0.05
    highest: float = 50.0
    noise: Positive = 1.0

    def __post_init__(self) -> None:
        require(self.lowest < self.highest, "lowest", self.lowest, f"give a ratio from 0 to {self.highest}")
        looks_back = self.inner.least_steps > 1 or getattr(self.inner, "corrector", None)
        if looks_back or not isinstance(self.inner, GridSolver):
            name = type(self.inner).__name__
            raise InputError(f"solver: churn needs a one-step rule, which {name} is not; use heun, dpmpp_2s or euler")

    bidirectional = False

    @property
    def inner(self) -> GridSolver:
        """The rule that takes the steps."""
        return Heun() if self.solver is None else self.solver

    @property
    def evaluations(self) -> int:
        return self.inner.evaluations

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        alpha, sigma = sde.alpha(times[:-1]), sde.sigma(times[:-1])
        r = sigma / alpha
        within = ((self.lowest <= r) & (r <= self.highest)).to(r.dtype)
        gamma = within * min(self.churn / max(len(r), 1), math.sqrt(2) - 1)
        top = float(torch.exp(-sde.lam(sde.t_start)))
        raised = torch.minimum(r * (1 + gamma), torch.full_like(r, top).maximum(r))
        starts = torch.where(raised > r, sde.t_of_lam(-torch.log(raised)), times[:-1])
        alphas, plans = sde.alpha(starts), []
        for i, (t, s) in enumerate(zip(starts, times[1:], strict=True)):
            std = float(alphas[i] * (raised[i] ** 2 - r[i] ** 2).clamp(min=0).sqrt()) * self.noise
            plans.append((float(alphas[i] / alpha[i]), std, self.inner.plan(sde, torch.stack((t, s)))[0]))
        sde.remember(starts)
        return plans

    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Draw) -> Step:
        scale, std, inner = plan  # a step that first goes up
        if std:
            x = torch.add(x * scale, noise(), alpha=std)
        return Step(self.inner.step(model, x, inner, None, lambda k=0: noise(k + 1)).x)


class Around(Solver):
    """Base of solvers from noise to data that run another one, `inner`, of their field `solver`.

    On which grid, in how many steps, with which corrector and for which models is as the inner one needs it.
    """

    bidirectional = False
    adaptive = property(attrgetter("inner.adaptive"))
    default_grid = property(attrgetter("inner.default_grid"))
    least_steps = property(attrgetter("inner.least_steps"))

    @property
    @abstractmethod
    def inner(self) -> Solver:
        """The solver that takes the steps."""

    def check(self, corrector: Corrector | None) -> None:
        self.inner.check(corrector)

    def check_levels(self, sde: SDE, times: Tensor, event_shape: Sequence[int] | None) -> None:
        self.inner.check_levels(sde, times, event_shape)

    def suited(self, model: Model) -> Solver:
        super().suited(model)
        solver = self.inner.suited(model)
        return self if solver is self.inner else replace(self, solver=solver)  # type: ignore[type-var]


@dataclass(frozen=True, repr=False)
class Restart(Around):
    """At `lowest`, noise is added up to `highest` and the interval is integrated again, `times` times.

    Xu et al. 2023 (arXiv 2306.14878), algorithm 1. Adding noise contracts the errors that have accumulated; in
    between an ODE solver runs, so that few steps are enough.

    Args:
        solver: any solver; Heun's rule unless given.
        lowest: lower end of the interval, as sigma / alpha; replaced by the nearest level of the grid.
        highest: upper end of the interval, as sigma / alpha.
        times: how often.
        steps: steps of each repetition, equal in lam.

    Raises:
        InputError: for numbers out of range.
    """

    solver: Solver | None = None
    _: KW_ONLY
    lowest: Positive = 0.1
    highest: float = 0.5
    times: Count = 2
    steps: int = 4

    def __post_init__(self) -> None:
        require(self.highest > self.lowest, "highest", self.highest, f"give a ratio > lowest = {self.lowest}")
        least = self.inner.least_steps
        require(self.steps >= least, "steps", self.steps, f"give an integer >= {least}, which the solver needs")

    @property
    def inner(self) -> Solver:
        return Heun() if self.solver is None else self.solver

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        sde = model.sde
        lam = sde.lam(times)
        bottom = int((lam + math.log(self.lowest)).abs().argmin())
        top = max(float(lam[0]), -math.log(self.highest))
        if bottom == 0 or float(lam[bottom]) <= top:  # the grid does not reach this interval
            yield from self.inner.integrate(model, times, x, noise, corrector)
            return
        last = float(times[0]), x
        for last in self.inner.integrate(model, times[: bottom + 1], x, noise, corrector):
            yield last
        again = sde.t_of_lam(torch.linspace(top, float(lam[bottom]), self.steps + 1, dtype=torch.float64))
        again[-1] = times[bottom]
        low, high = sde.at(float(again[-1])), sde.at(float(again[0]))
        std = math.sqrt(max(high.sigma**2 - (high.alpha / low.alpha * low.sigma) ** 2, 0.0))
        for k in range(self.times):
            z = noise.normal("restart", k, x.shape, x.device, x.dtype)
            x = torch.add(last[1] * (high.alpha / low.alpha), z, alpha=std)
            for last in self.inner.integrate(model, again, x, Renamed(noise, f"restart {k} "), corrector):
                yield last
        yield from self.inner.integrate(model, times[bottom:], last[1], Renamed(noise, "after "), corrector)


@dataclass(frozen=True)
class Renamed:
    """A noise source with other numbers than in the part of the trajectory before."""

    noise: NoiseSource
    prefix: str

    def normal(
        self, purpose: str, step: int, shape: Sequence[int], device: torch.device | str, dtype: torch.dtype
    ) -> Tensor:
        return self.noise.normal(self.prefix + purpose, step, shape, device, dtype)
