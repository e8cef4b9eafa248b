"""The default solver and grid: chosen by the size of the steps in log-SNR alone.

The table comes from endpoint errors on exact scores, see benchmarks/solvers.py: no rule wins everywhere, and which one
leads depends far more on how large the steps are than on the data.
"""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from scoresde.dynamics import Eta
from scoresde.model import Model
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.exponential import ExponentialMultistep
from scoresde.sampling.grid import Grid, Karras, LambdaUniform, NoiseShareUniform
from scoresde.sampling.solver import NoiseSource, Path, Solver
from scoresde.sde import SDE


class Choice(NamedTuple):
    """A rule and a grid that go together, for mean steps in lam of at least `step`."""

    step: float
    rule: ExponentialMultistep
    grid: Grid


_ODE = (
    Choice(1.25, ExponentialMultistep("velocity", "noise_share", predictor=2), NoiseShareUniform()),
    Choice(0.8, ExponentialMultistep("eps", "lambda", predictor=3), LambdaUniform()),
    Choice(0.57, ExponentialMultistep("eps", "lambda", predictor=3), Karras()),
    Choice(0.235, ExponentialMultistep("eps", "lambda", predictor=4, weights="constant_step"), NoiseShareUniform()),
    Choice(0.0, ExponentialMultistep("x0", "lambda", predictor=3, corrector=4), LambdaUniform()),
)


def choice(sde: SDE, points: int, start: float | None = None, end: float | None = None) -> Choice:
    """What suits a grid of so many points between two times, T and t_min by default."""
    first, last = sde.t_start if start is None else start, sde.t_min if end is None else end
    span = abs(float(sde.lam(torch.tensor([first, last], dtype=torch.float64)).diff()))
    return next(c for c in _ODE if span / points >= c.step)


@dataclass(frozen=True, repr=False)
class Auto(Solver):
    """A multistep rule that suits the size of the steps; all take one evaluation a step.

        mean step in lam    rule at eta = 0
        above 1.25          Adams-Bashforth on the rectified velocity in sigma/(alpha + sigma), order 2
        above 0.57          eps in lambda, order 3
        above 0.235         eps with the Adams-Bashforth numbers of equal steps, order 4 (iPNDM)
        below               x0 in lambda, order 3 with a corrector of 4 values (UniPC)

    With noise it is the exponential rule of order 2 on x0 in lambda (SDE-DPM-Solver++(2M)). Without a grid it takes
    the one that goes with the rule.

    Args:
        eta: noise level: 0 for the probability-flow ODE, 1 for the reverse SDE, or a function of lam.

    Raises:
        InputError: for a negative eta.
    """

    eta: Eta = 0.0

    @property
    def extrapolates(self) -> bool:
        return self.eta == 0

    @property
    def default_grid(self) -> Grid:
        return AutoGrid(stochastic=self.eta != 0)

    def rule(self, sde: SDE, times: Tensor) -> ExponentialMultistep:
        """The rule for the steps of a grid (N,)."""
        if self.eta != 0:
            return ExponentialMultistep(predictor=2, eta=self.eta)
        start, end, points = float(times[0]), float(times[-1]), len(times)
        # a grid from T down covers the whole path, since the denoising step takes what is left of it
        whole = start >= sde.t_start and end < start
        found = choice(sde, points, start, None if whole else end).rule
        return dataclasses.replace(found, predictor=max(1, min(found.predictor, points - 1)))

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        return self.rule(model.sde, times).integrate(model, times, x, noise, corrector)


@dataclass(frozen=True, repr=False)
class AutoGrid(Grid):
    """The grid that goes with the rule of `Auto`: uniform in sigma/(alpha + sigma) or in lam, or that of Karras.

    Args:
        stochastic: whether the rule has noise; its grid is uniform in lam.
    """

    stochastic: bool = False

    def place(self, sde: SDE, points: int, start: float | None, end: float | None) -> Tensor:
        grid = LambdaUniform() if self.stochastic else choice(sde, points, start, end).grid
        return grid(sde, points, start, end)
