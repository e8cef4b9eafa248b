"""Time grids, and if asked for coefficients, that make the endpoint error of a multistep rule small on a model.

The coefficients of `ExponentialMultistep` are differentiable in the times, so the mean endpoint error over a pilot
batch has a gradient through the whole sampler. Noise that the optimiser never saw decides between the start and what it
found.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.errors import InputError, require
from scoresde.evaluations import count_evaluations, evaluating
from scoresde.model import Model
from scoresde.sampling.exponential import ExponentialMultistep
from scoresde.sampling.grid import Grid, Karras, LambdaUniform, NoiseShareUniform
from scoresde.tuning.equal import equal_error
from scoresde.tuning.parameters import Parameters
from scoresde.tuning.pilot import Error, Pilot
from scoresde.tuning.search import OnStep, descend, try_out

_RULES = (
    ExponentialMultistep("velocity", "noise_share", predictor=3),
    ExponentialMultistep("velocity", "noise_share", predictor=4),
    ExponentialMultistep("eps", "lambda", predictor=3),
)
_GRIDS: tuple[Grid, ...] = (NoiseShareUniform(), LambdaUniform(), Karras())
_FEW = 64  # samples along whose path the local error is estimated


@dataclass(frozen=True)
class Tuning:
    """What tuning found.

    Attributes:
        rule: the multistep rule.
        times: of the grid (N,), float64.
        coefficients: rows of `ExponentialMultistep.coefficients` that take the place of the rule's own; None for these.
        before, after: errors of the start and of this on held-out noise.
        start: the grid that it started from.
        evaluations: of the model, that tuning took in all.
    """

    rule: ExponentialMultistep
    times: Tensor
    coefficients: Tensor | None
    before: Error
    after: Error
    start: str
    evaluations: int


def tune(
    model: Model,
    event_shape: Sequence[int],
    steps: int,
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

    by Adam on the pilot batch, from the rule and grid that are best before. The mean of the error, not of its square: a
    few starts near the border of two basins would rule a small pilot.

    Args:
        model: what predicts; its parameters stay as they are.
        event_shape: of one sample.
        steps: of the sampler, the denoising included.
        coefficients: tune the weights of the multistep rule too.
        n: starts in the pilot batch; half as many decide at the end.
        iterations, batch_size, rate: of the optimiser.
        seed: of the starts.
        fine: steps of the reference, four evaluations each.
        gradient: go down the gradient, which takes the memory of `steps` evaluations; False tries without, for large
            networks: an iteration is then the error of the whole pilot, and batch_size and rate have no meaning.
        on_step: called after each iteration with its number and the error.

    Raises:
        InputError: for numbers out of range, and a model that returns NaN.
    """
    require(steps >= 3, "steps", steps, "give an integer >= 3; with fewer there is nothing to tune")
    require(n >= 16, "n", n, "give at least 16 starts")
    require(iterations >= 0, "iterations", iterations, "give an integer >= 0")
    with evaluating(model), _frozen(model), count_evaluations() as spent:
        pilot = Pilot.of(model, event_shape, seed, 0, n, fine)
        judge = Pilot.of(model, event_shape, seed, n, max(n // 2, 16), fine)
        rule, name, times = _start(model, pilot, steps)
        start = Parameters(model, rule, times, False)
        first = judge.error(model, rule, times, start.rows(times).detach())
        found: list[tuple[Error, Tensor, Tensor | None]] = [(first, times, None)]
        for with_weights in [False, True] if coefficients else [False]:
            parameters = Parameters(model, rule, found[-1][1] if with_weights else times, with_weights)
            if gradient:
                descend(parameters, model, rule, pilot, iterations, batch_size, rate, on_step)
            elif iterations:
                try_out(parameters, model, rule, pilot, iterations, on_step)
            with torch.no_grad():
                tuned = parameters.grid()
                rows = parameters.rows(tuned)
            found.append((judge.error(model, rule, tuned, rows), tuned, rows if with_weights else None))
        best = min(found, key=lambda f: f[0].mean)
        return Tuning(rule, best[1], best[2], first, best[0], name, spent.samples)


@contextmanager
def _frozen(model: Model) -> Iterator[None]:
    """The parameters of the model ask for no gradient within the block."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_()


def _start(model: Model, pilot: Pilot, steps: int) -> tuple[ExponentialMultistep, str, Tensor]:
    """The rule and grid of the smallest error on the pilot, without tuning, and the name of the grid."""
    tried: list[tuple[float, int, ExponentialMultistep, str, Tensor]] = []
    for rule in _RULES:
        grids = {type(grid).__name__: grid(model.sde, steps) for grid in _GRIDS}
        few = pilot.x[:_FEW]
        grids["equal error"] = equal_error(pilot.told(model, torch.arange(len(few))), rule, few, steps)
        for name, times in grids.items():
            with torch.no_grad():
                error = pilot.error(model, rule, times, rule.coefficients(model.sde, times)).mean
            tried.append((error, len(tried), rule, name, times))
    error, _, rule, name, times = min(tried, key=lambda t: t[:2])
    if not math.isfinite(error):
        raise InputError("model: all samples of the pilot are NaN or infinite; give a checkpoint from before that")
    return rule, name, times
