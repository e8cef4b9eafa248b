"""How many steps a budget of network evaluations allows, by counting what a sampler really calls."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.errors import InputError
from scoresde.evaluations import count_evaluations
from scoresde.model import Model
from scoresde.nets.condition import Cond
from scoresde.noise import Noise
from scoresde.prediction import Prediction
from scoresde.sampling import Corrector, Grid, Sampler, Solver, Tuned
from scoresde.sde import SDE

_SAMPLES = 2


class CheapModel(Model):
    """Costs nothing: the exact model of data that are all zero.

    Args:
        sde: the path.
        event_shape: of a sample.
    """

    def __init__(self, sde: SDE, event_shape: tuple[int, ...]) -> None:
        super().__init__(sde)
        self.event_shape = event_shape

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        # of data spread a little, since a score may not vanish where a rule divides by its length
        return Prediction.of(x, self.sde, t, x0=torch.full_like(x, 0.01))


@dataclass(frozen=True)
class Candidate:
    """A solver with its grid and corrector, under a name: all of a sampler but the number of steps.

    Attributes:
        name: for tables and plots.
        solver, grid, corrector: see `scoresde.sampling.Sampler`.
        tolerance: of an adaptive solver, for the table; None for others.
    """

    name: str
    solver: Solver
    grid: Grid | None = None
    corrector: Corrector | None = None
    tolerance: float | None = None

    def sampler(self, steps: int = 50) -> Sampler:
        """With so many steps, the denoising at the end included."""
        return Sampler(self.solver, self.grid, steps, corrector=self.corrector)


class _Recording:
    """A noise source that remembers whether it was asked."""

    def __init__(self) -> None:
        self.asked = False

    def normal(self, purpose: str, step: int, shape: tuple[int, ...], device: object, dtype: torch.dtype) -> Tensor:
        self.asked = True
        return Noise(0).normal(purpose, step, shape, "cpu", dtype)


def spent(
    candidate: Candidate, steps: int, sde: SDE, event_shape: tuple[int, ...], cost: int = 1
) -> tuple[float, bool]:
    """Evaluations per sample with so many steps, counted at the model, and whether noise was asked for."""
    model, noise = CheapModel(sde, event_shape), _Recording()
    x = torch.ones((_SAMPLES, *event_shape)) * sde.prior_std
    with torch.no_grad(), count_evaluations() as spent:
        for _ in candidate.sampler(steps).path(model, x, noise):  # type: ignore[arg-type]
            pass
    return cost * spent.samples / _SAMPLES, noise.asked


def fitting(candidate: Candidate, budget: int, sde: SDE, event_shape: tuple[int, ...], cost: int = 1) -> int:
    """The largest number of steps that spends at most `budget` evaluations per sample; at least 2 and `least_steps`.

    With guidance each call of the model costs two, so that about half as many steps fit.

    Raises:
        InputError: not even one step of the solver and the denoising fit; says what they need.
    """

    @functools.cache
    def nfe(steps: int) -> float:
        return spent(candidate, steps, sde, event_shape, cost)[0]

    if isinstance(candidate.solver, Tuned):
        return budget // cost  # one call a step, and for no other number of steps
    least = max(2, candidate.solver.least_steps)
    if nfe(least) > budget:
        raise InputError(f"budgets: {budget} is too small for {candidate.name}; it needs at least {nfe(least):g}")
    slope = max((nfe(least + 6) - nfe(least)) / 6, 1e-9)
    steps = max(least, min(budget, int(least + (budget - nfe(least)) / slope)))
    # the count need not be linear in the steps: first steps of a multistep rule may cost more
    return _settled(nfe, steps, budget, least)


def _settled(nfe: Callable[[int], float], steps: int, budget: int, least: int) -> int:
    while steps > least and nfe(steps) > budget:
        steps -= 1
    while steps < budget and nfe(steps + 1) <= budget:
        steps += 1
    return steps
