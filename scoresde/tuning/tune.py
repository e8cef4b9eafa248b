"""Tuned time grids, and on request coefficients, that make the endpoint error of a multistep rule small on a model.

The coefficients of `ExponentialMultistep` are differentiable in the times, so the mean endpoint error over a pilot
batch has a gradient through the whole sampler. Noise that the optimiser has not seen decides between the start and the
result.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor

from scoresde.errors import InputError, require
from scoresde.evaluations import count_evaluations, evaluating
from scoresde.model import Model
from scoresde.named import name_of
from scoresde.sampling.exponential import ExponentialMultistep
from scoresde.sampling.grid import Grid, Karras, LambdaUniform, NoiseShareUniform
from scoresde.sampling.listed import Explicit
from scoresde.sampling.sampler import Sampler
from scoresde.sampling.tuned import GivenRows
from scoresde.tuning.pilot import Error, Pilot, equal_error
from scoresde.tuning.search import OnStep, Parameters, descend, search

_RULES = (
    ExponentialMultistep("velocity", "noise_share", predictor=3),
    ExponentialMultistep("velocity", "noise_share", predictor=4),
    ExponentialMultistep("eps", "lambda", predictor=3),
)
_GRIDS: tuple[Grid, ...] = (NoiseShareUniform(), LambdaUniform(), Karras())
_FEW = 64  # samples along whose trajectory the local error is estimated


@dataclass(frozen=True)
class Tuning:
    """The result of `tune`.

    Attributes:
        rule: the multistep rule.
        times: of the grid (N,), float64.
        coefficients: rows of `ExponentialMultistep.coefficients` in place of those of the rule, or None.
        before, after: errors of the start and of the result on held-out noise.
        start: the grid from which the optimiser started.
        evaluations: of the model, by the whole tuning.
    """

    rule: ExponentialMultistep
    times: Tensor
    coefficients: Tensor | None
    before: Error
    after: Error
    start: str
    evaluations: int

    @property
    def sampler(self) -> Sampler:
        """A sampler with the tuned grid and coefficients."""
        rule = self.rule if self.coefficients is None else GivenRows(self.rule, self.coefficients.tolist())
        return Sampler(rule, Explicit(self.times.tolist()), len(self.times))

    def __str__(self) -> str:
        before, after = self.before.mean, self.after.mean
        better = f"{before / after:.1f} times smaller than the" if after < before else "no better than the"
        return (
            f"{len(self.times)} steps  mean endpoint error {after:.3g} on held-out noise, "
            f"{better} {before:.3g} on {self.start}\ncost     {self.evaluations:,} evaluations"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def tune(
    model: Model,
    event_shape: Sequence[int] | None = None,
    steps: int = 10,
    *,
    coefficients: bool = False,
    n: int = 1000,
    iterations: int = 300,
    batch_size: int = 256,
    rate: float = 0.03,
    seed: int = 0,
    fine: int = 100,
    gradient: bool = True,
    on_step: OnStep | None = None,
) -> Tuning:
    """Find the grid of `steps` steps with the smallest mean endpoint error.

        minimise over grids   E |x_N(z) - x_exact(z)|,   z ~ prior

    by Adam on the pilot batch, from the best untuned rule and grid. The mean of the error, not of its square: a few
    starts near the border of two basins would dominate a small pilot batch.

    Args:
        model: what predicts; its parameters do not change.
        event_shape: of one sample; by default that of the model.
        steps: of the sampler, the denoising included.
        coefficients: also tune the weights of the multistep rule.
        n: starts in the pilot batch; half as many decide at the end.
        iterations: of the optimiser.
        batch_size: starts in one iteration.
        rate: learning rate.
        seed: of the starts.
        fine: steps of the reference, four evaluations each.
        gradient: optimise by gradients, which takes the memory of `steps` evaluations; False optimises without, for
            large networks: one iteration is then the error of the whole pilot, and batch_size and rate are not used.
        on_step: called after each iteration with its number and the error.

    Raises:
        InputError: for numbers out of range, and a model that returns NaN.
    """
    require(steps >= 3, "steps", steps, "give an integer >= 3; with fewer there is nothing to tune")
    require(n >= 16, "n", n, "give at least 16 starts")
    require(iterations >= 0, "iterations", iterations, "give an integer >= 0")
    with evaluating(model), _frozen(model), count_evaluations() as spent:
        pilot = Pilot.of(model, event_shape, seed, range(n), fine)
        judge = Pilot.of(model, event_shape, seed, range(n, n + max(n // 2, 16)), fine)
        rule, name, times = _start(pilot, steps)
        first = judge.error(rule, times, rule.coefficients(model.sde, times))
        found: list[tuple[Error, Tensor, Tensor | None]] = [(first, times, None)]
        for with_weights in [False, True] if coefficients else [False]:
            parameters = Parameters(model.sde, rule, found[-1][1] if with_weights else times, with_weights)
            if gradient:
                descend(parameters, pilot, iterations, batch_size, rate, on_step)
            elif iterations:
                search(parameters, pilot, iterations, on_step)
            with torch.no_grad():
                tuned, rows = parameters()
            found.append((judge.error(rule, tuned, rows), tuned, rows if with_weights else None))
        best = min(found, key=lambda f: f[0].mean)
        return Tuning(rule, best[1], best[2], first, best[0], name, spent.samples)


@contextmanager
def _frozen(model: Model) -> Iterator[None]:
    """The parameters of the model require no gradient within the block."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_()


def _start(pilot: Pilot, steps: int) -> tuple[ExponentialMultistep, str, Tensor]:
    """The rule and grid of the smallest error on the pilot, without tuning, and the name of the grid."""
    tried: list[tuple[float, ExponentialMultistep, str, Tensor]] = []
    sde, few = pilot.model.sde, pilot.model.of_samples(pilot.rows[:_FEW])
    for rule in _RULES:
        grids = {name_of("grid", grid): grid(sde, steps) for grid in _GRIDS}
        grids["equal error"] = equal_error(few, rule, pilot.x[:_FEW], steps)
        for name, times in grids.items():
            tried.append((pilot.error(rule, times, rule.coefficients(sde, times)).mean, rule, name, times))
    error, rule, name, times = min(tried, key=lambda t: t[0])
    if not math.isfinite(error):
        raise InputError("model: all samples of the pilot are NaN or infinite; give a checkpoint from before that")
    return rule, name, times
