"""Time grids and coefficients of `Auto` that make its endpoint error small on one model, for one number of steps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor

from scoresde.errors import refuse, require
from scoresde.evaluations import count_evaluations, evaluating
from scoresde.model import Model
from scoresde.sampling.auto import Auto, Combination
from scoresde.sampling.grid import Grid
from scoresde.sampling.listed import Explicit
from scoresde.sampling.pilot import PilotGrid
from scoresde.sampling.sampler import Sampler
from scoresde.tuning import dynamic
from scoresde.tuning.pilot import Error, Pilot
from scoresde.tuning.search import Free, fit, spent

WORTH = 1.3  # the smallest gain that is worth a grid of one's own
_FEW = 32  # samples along whose path local errors are measured
_TRIED = 2  # starts from which a grid is optimised
_RESAMPLED = 1000


@dataclass(frozen=True)
class Tuning:
    """The result of `tune`.

    Attributes:
        sigma_data: of the model.
        times: of the grid (N,), float64; a last step from there leads to noise zero.
        coefficients: shifts of `scoresde.sampling.auto.Combination`, or None.
        before, after: errors of `Auto` and of the result on held-out noise.
        gain: the ratio of their means, and its 95 % interval over resampled starts.
        start: the grid from which the best was reached.
        evaluations: of the model, by the whole tuning.
    """

    sigma_data: float
    times: Tensor
    coefficients: list[list[float]] | None
    before: Error
    after: Error
    gain: tuple[float, float, float]
    start: str
    evaluations: int

    @property
    def sampler(self) -> Sampler:
        """A sampler with the tuned grid and coefficients."""
        return Sampler(
            Combination(self.sigma_data, shifts=self.coefficients), Explicit(self.times.tolist()), len(self.times)
        )

    def __str__(self) -> str:
        gain, low, high = self.gain
        worth = "" if gain >= WORTH else "not worth it: solver=auto is as good\n"
        return (
            f"{len(self.times)} steps  mean endpoint error {self.after.mean:.3g} on held-out noise, "
            f"{gain:.2f} ({low:.2f} to {high:.2f}) times smaller than the {self.before.mean:.3g} of auto\n"
            f"{worth}cost     {self.evaluations:,} evaluations"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


OnStep = Callable[[int, float], None]


def planned(
    steps: int,
    *,
    coefficients: bool = True,
    n: int = 192,
    iterations: int = 8,
    fine: int = 100,
    radius: float = 0.0,
) -> int:
    """Evaluations of a tuning if no round of the optimiser ends early; arguments as for `tune`."""
    references, paths = 2 * n * fine, _FEW * (dynamic.FINE + dynamic.LEVELS)
    trials = (1 + len(dynamic.GROWTH) + _TRIED + coefficients + 2 + coefficients) * steps
    rounds = iterations * (_TRIED * spent(steps, False, radius) + coefficients * spent(steps, True, radius))
    return references + paths + n * (trials + rounds)


def tune(
    model: Model,
    event_shape: Sequence[int] | None = None,
    steps: int = 10,
    *,
    grid: Grid | None = None,
    coefficients: bool = True,
    n: int = 192,
    iterations: int = 8,
    seed: int = 0,
    fine: int = 100,
    radius: float = 0.0,
    on_step: OnStep | None = None,
) -> Tuning:
    """Find the grid, and the coefficients on it, with which `Auto` has the smallest mean endpoint error.

        minimise   E |x_N(z) - x_exact(z)|,   z ~ prior

    without gradients, see `scoresde.tuning.search.fit`, from the grid of `Auto` and from grids of equal local error,
    see `scoresde.tuning.dynamic`. The mean of the error, not of its square: a few starts near the border of two basins
    would dominate. As many starts that the optimiser has not seen choose between `Auto` and the results.

    Args:
        model: what predicts; its parameters do not change.
        event_shape: of one sample; by default that of the model.
        steps: of the sampler, one evaluation each.
        grid: that of `Auto`; by default `PilotGrid`.
        coefficients: also tune the weights of the last evaluations in each step.
        n: starts of the optimiser, and as many that decide at the end, all at once.
        iterations: of the optimiser at most, for each of two grids and for the coefficients.
        seed: of the starts.
        fine: steps of the reference.
        radius: of a ball around each start, over prior_std sqrt(D). Within it the optimiser moves the start while the
            endpoint stays, by gradients of the model, see `scoresde.tuning.pilot.Pilot.moved`; 0 for none.
        on_step: called after each iteration with the evaluations so far and the error.

    Raises:
        InputError: for numbers out of range, and a model that returns NaN.
    """
    require(steps >= 3, "steps", steps, "give an integer >= 3; with fewer there is nothing to tune")
    require(n >= 16, "n", n, "give at least 16 starts")
    require(0 <= radius <= 1, "radius", radius, "give a number from 0 to 1, such as 0.003")
    require(iterations >= 0, "iterations", iterations, "give an integer >= 0")
    with evaluating(model), torch.no_grad(), count_evaluations() as counted:

        def tell(error: float) -> None:
            if on_step is not None:
                on_step(counted.samples, error)

        pilot, judge = (Pilot.of(model, event_shape, seed, rows, fine) for rows in (range(n), range(n, 2 * n)))
        few = model.of_samples(torch.arange(min(n, _FEW)))
        auto = Sampler(Auto(), grid or PilotGrid(), steps).suited(model, event_shape)
        starts = [("auto", auto.times(model, event_shape=event_shape))]
        starts += [("equal local errors", times) for times in dynamic.grids(few, pilot.x[:_FEW], steps)]
        errors = [float(pilot.distances(times).mean()) for _, times in starts]
        refuse(math.isinf(min(errors)), "model: all grids give NaN; give a checkpoint from before training diverged")
        nearest = [starts[i] for i in sorted(range(len(starts)), key=errors.__getitem__)[:_TRIED]]
        found = [(name, Free(model, times, False)) for name, times in nearest]
        name, free = min(found, key=lambda f: fit(f[1], pilot, iterations, tell, radius))
        tuned = [free()]
        if coefficients:
            free = Free(model, tuned[0][0], True)
            fit(free, pilot, iterations, tell, radius)
            tuned.append(free())
        results = [("auto", starts[0][1], None), *((name, *result) for result in tuned)]
        judged = [judge.distances(times, shifts) for _, times, shifts in results]
    best = min(range(len(results)), key=lambda i: float(judged[i].mean()))
    name, times, shifts = results[best]
    before, after = Error.of(judged[0]), Error.of(judged[best])
    return Tuning(model.sigma_data, times, shifts, before, after, gain(judged[0], judged[best]), name, counted.samples)


def gain(before: Tensor, after: Tensor) -> tuple[float, float, float]:
    """The ratio of the means of distances (n,) from the same starts, and its 95 % interval over resampled starts."""
    n, generator = len(before), torch.Generator().manual_seed(0)
    rows = torch.randint(n, (_RESAMPLED, n), generator=generator)
    ratios = before[rows].mean(1) / after[rows].mean(1)
    low, high = ratios.quantile(torch.tensor([0.025, 0.975], dtype=ratios.dtype)).tolist()
    return float(before.mean() / after.mean()), low, high
