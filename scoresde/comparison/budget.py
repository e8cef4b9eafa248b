"""How many steps a budget of network evaluations allows, by counting what a sampler spends."""

import functools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scoresde.analytic import ExactModel
from scoresde.control import Wrapper
from scoresde.errors import refuse
from scoresde.evaluations import count_evaluations
from scoresde.model import Model
from scoresde.nets.condition import Cond
from scoresde.noise import Noise
from scoresde.prediction import Prediction
from scoresde.sampling import Auto, Corrector, Grid, Sampler, Solver, Tuned
from scoresde.sde import SDE

Asked = Callable[[Model], Model]  # a prior to its posterior by the method of a candidate
Cost = Callable[[float], int]  # `Model.cost_at`


@dataclass(frozen=True)
class Candidate:
    """A named solver with its grid and corrector: a sampler without its number of steps.

    Attributes:
        name: for tables and plots.
        solver, grid, corrector: see `scoresde.sampling.Sampler`.
        tolerance: of an adaptive solver, for the table; None for others.
        method: of posterior sampling, or `exact`; None where nothing is observed.
    """

    name: str
    solver: Solver
    grid: Grid | None = None
    corrector: Corrector | None = None
    tolerance: float | None = None
    method: Any = None

    def sampler(self, steps: int | None) -> Sampler:
        """The sampler with this number of steps, the denoising at the end included; None for an adaptive solver."""
        return Sampler(self.solver, self.grid, steps or 50, corrector=self.corrector)


class _Costly(Wrapper):
    """A model each of whose calls counts as so many."""

    def __init__(self, model: Model, cost: Cost) -> None:
        super().__init__(model)
        self.cost_of = cost

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        times = self.cost_of(float(torch.as_tensor(t).flatten()[0]))
        return [self.model(x, t, cond) for _ in range(times)][-1]


def _same(model: Model) -> Model:
    return model


def _once(t: float) -> int:
    return 1


def spent(
    candidate: Candidate, steps: int, sde: SDE, event_shape: tuple[int, ...], cost: Cost = _once, asked: Asked = _same
) -> int:
    """Evaluations per sample with this number of steps, counted at a model of one point; rounded up."""
    # away from zero, since a score may not vanish where a solver divides by its length
    point = ExactModel(torch.full((1, *event_shape), 0.01), sde)
    sampler, model = candidate.sampler(steps), asked(_Costly(point, cost))
    sampler = sampler if asked is _same else sampler.suited(model, event_shape)
    n = getattr(candidate.method, "draws", 1)
    start = torch.ones((n, *event_shape)) * sde.prior_std
    with torch.no_grad(), count_evaluations() as counted:
        deque(sampler.path(model, start, Noise(0)), maxlen=0)
    return math.ceil(counted.samples / n)


def fitting(
    candidate: Candidate, budget: int, sde: SDE, event_shape: tuple[int, ...], cost: Cost = _once, asked: Asked = _same
) -> int:
    """The largest number of steps that spends at most `budget` evaluations per sample; at least 2 and `least_steps`.

    With guidance a call of the model costs two evaluations, at the levels where it acts, so fewer steps fit. Of `Tuned`
    it is a number that was tuned after which one more step, of average cost, would not fit.

    Raises:
        InputError: the budget is too small; the message says how many evaluations the solver needs at least.
    """
    nfe = functools.cache(lambda steps: spent(candidate, steps, sde, event_shape, cost, asked))
    if isinstance(candidate.solver, Tuned):  # only numbers of steps that were tuned work
        known = [n for n in candidate.solver.tuned if n <= budget and budget * n // nfe(n) == n]
        other = replace(candidate, solver=Auto(), grid=None)  # of whose number of steps the sampler says how to tune it
        return max(known) if known else fitting(other, budget, sde, event_shape, cost, asked)
    least = max(2, candidate.solver.least_steps)
    refuse(nfe(least) > budget, f"budgets: {budget} is too small for {candidate.name}; it needs at least {nfe(least)}")
    slope = max((nfe(least + 6) - nfe(least)) / 6, 1e-9)
    steps = max(least, min(budget, int(least + (budget - nfe(least)) / slope)))
    # the count need not be linear in the steps: first steps of a multistep solver may cost more
    while steps > least and nfe(steps) > budget:
        steps -= 1
    while steps < budget and nfe(steps + 1) <= budget:
        steps += 1
    return steps
