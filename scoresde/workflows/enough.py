"""What the end of a training finds out for the default solver: how many evaluations it needs, and its grids."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from scoresde._shapes import flat
from scoresde.errors import InputError
from scoresde.model import Model
from scoresde.sampling import Auto, Sampler, Samples

USUAL = (10, 20)
TRIED = (5, 8, 10, 15, 20, 35, 50)
MOST = 100
_SHARE = 0.01


def enough_evaluations(model: Model, event_shape: Sequence[int], n: int, seed: int) -> int | None:
    """The first N of `TRIED` with which samples are where those of 100 evaluations are, to 1 % of their spread.

        mean_k |x_k(N) - x_k(100)| <= 0.01 sqrt(mean_k |x_k(100) - mean x(100)|^2)

    x_k(N) is sample k of `Auto` with N evaluations, from the same noise for all N. The left side is no less than the
    Wasserstein distance between the samples of N and those of 100 evaluations, so no distance to data that is bounded
    by it (each sliced one is) changes by more. Costs n (100 + 5 + ... + N) evaluations.

    Args:
        model: what to sample from.
        event_shape: of one sample.
        n: number of samples.
        seed: of the samples.

    Returns:
        N; None if 50 are not enough, or the samples of 100 are not finite.
    """

    def drawn(steps: int) -> Tensor:
        return flat(Samples.joined(Sampler(steps=steps).batches(model, event_shape, n, seed=seed)).x.cpu()).double()

    with suppress(InputError, ArithmeticError):
        last = drawn(MOST)
        spread = (last - last.mean(0)).square().sum(1).mean().sqrt()
        for steps in TRIED:
            with suppress(InputError, ArithmeticError):
                if (drawn(steps) - last).norm(dim=1).mean() <= _SHARE * spread:
                    return steps
    return None


def keep_grids(run: Path, model: Model, event_shape: Sequence[int]) -> None:
    """Look up the grids of `Auto` for the usual numbers of steps, see `PilotGrid`, and keep them in the run."""
    for steps in USUAL:
        with suppress(InputError, ArithmeticError):  # sampling will say so
            Sampler(Auto(run=run), steps=steps).suited(model, event_shape)
