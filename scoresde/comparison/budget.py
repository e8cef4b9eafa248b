"""How many steps a budget of network evaluations allows, by counting what a sampler spends."""

import copy
import functools
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from scoresde.control import Wrapper
from scoresde.errors import refuse
from scoresde.evaluations import count_evaluations
from scoresde.model import Model
from scoresde.nets.condition import Cond, Condition
from scoresde.noise import Noise
from scoresde.prediction import Prediction
from scoresde.sampling import Auto, Corrector, Grid, Sampler, Solver, Tuned
from scoresde.sde import SDE

_POINT = 0.01  # not zero, since a score may not vanish where a solver divides by its length


@dataclass(frozen=True)
class Candidate:
    """A named solver with its grid and corrector: a sampler without its number of steps.

    Attributes:
        name: for tables and plots.
        solver, grid, corrector: see `scoresde.sampling.Sampler`.
        tolerance: of an adaptive solver, for the table; None for others.
        method: what the problem makes of its model, see `Problem.asked`: a method of posterior sampling, `exact`, or a
            `scoresde.comparison.Guidance`; None for the model itself.
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


class _Point(Model):
    """A model that predicts one point under all conditions: what stands in for a network to count its calls."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.sde)
        self.sigma_data, self.event_shape, self.states = model.sigma_data, model.event_shape, model.states
        self._conditions = model.conditions

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return self._conditions

    def under(self, sde: SDE) -> Self:
        other = copy.copy(self)
        other.sde = sde
        return other

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        return Prediction.of(x, self.sde, t, x0=_POINT + 0 * x)


def costing(model: Model) -> Model:
    """A model with points in place of its networks: it is called as often, at next to no cost."""
    if not isinstance(model, Wrapper):
        return _Point(model)
    other = copy.copy(model)
    inner = {k: costing(m) if isinstance(m, Model) else m for k, m in model._modules.items()}
    other._modules = inner
    return other


def spent(sampler: Sampler, model: Model, event_shape: tuple[int, ...], n: int = 1) -> int:
    """Evaluations per sample of a sampler of a model, counted with points in place of its networks; rounded up.

    Args:
        sampler: with its steps.
        model: with all that wraps it.
        event_shape: of one sample.
        n: samples that share their evaluations.
    """
    model, start = costing(model), torch.ones((n, *event_shape), device=model.device) * model.sde.prior_std
    with torch.no_grad(), count_evaluations() as counted:
        deque(model.suits(sampler).path(model.of_samples(torch.arange(n)), start, Noise(0)), maxlen=0)
    return math.ceil(counted.samples / n)


def fitting(candidate: Candidate, budget: int, model: Model, event_shape: tuple[int, ...]) -> int:
    """The largest number of steps that spends at most `budget` evaluations per sample; at least 2 and `least_steps`.

    With guidance a call of the model costs two evaluations, at the levels where it acts, so fewer steps fit. Of `Tuned`
    it is a number that was tuned after which one more step, of average cost, would not fit.

    Args:
        candidate: what is to be sampled with.
        budget: evaluations per sample.
        model: with all that wraps it; only its wrappers are called.
        event_shape: of one sample.

    Raises:
        InputError: the budget is too small; the message says how many evaluations the solver needs at least.
    """
    n = getattr(candidate.method, "draws", 1)
    nfe = functools.cache(lambda steps: spent(candidate.sampler(steps), model, event_shape, n))
    if isinstance(candidate.solver, Tuned):  # only numbers of steps that were tuned work
        known = [k for k in candidate.solver.tuned if k <= budget and budget * k // nfe(k) == k]
        other = replace(candidate, solver=Auto(), grid=None)  # of whose number of steps the sampler says how to tune it
        return max(known) if known else fitting(other, budget, model, event_shape)
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
