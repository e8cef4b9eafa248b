"""A grid of `Auto` and changes of its coefficients as free numbers, and an optimiser of them without gradients."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scoresde.model import Model
from scoresde.sampling.candidates import LEVELS
from scoresde.tuning.pilot import Kept, Pilot

_LENGTH, _SHIFT = 0.02, 0.005  # changes for differences: of the log of a step, of a shift in its unit
_LAST = 0.999  # of the share of the way, at the start
_FAR = 0.7  # of the log of a step at once
_TRIALS = 5  # of the damping, before a round is given up
_LEAST = 1e-4  # of the damping
_GAIN = 0.005  # of the error: less ends the rounds


def places(steps: int) -> list[tuple[int, int]]:
    """(k, j) of the shifts: in step k, of the evaluation j levels before."""
    return [(k, j) for k in range(steps) for j in range(min(k + 1, LEVELS))]


def spent(steps: int, shifts: bool, radius: float = 0.0) -> int:
    """Evaluations for each start in one round of `fit`, with one trial."""
    grid = sum(steps - 1 - k for k in range(steps - 1))
    moving = 3 * steps if radius > 0 else 0
    return moving + grid + steps + (sum(steps - 1 - k for k, _ in places(steps)) if shifts else 0)


class Free:
    """A grid of N times from T, and shifts of the coefficients of `Combination` on it, as a vector.

    The logs of the N - 1 steps in -log(1 - s), s the share of the way in lam from T to t_train, which no grid leaves;
    then, if wanted, the shifts in units of the weight that x0_hat has in a step if it is held.

    Args:
        model: on whose path.
        times: the start (N,), the last above 0.
        shifts: whether coefficients are free too.

    Attributes:
        values: the start (P,).
        change: of each value in differences (P,).
        since: the first step that each value takes part in.
    """

    def __init__(self, model: Model, times: Tensor, shifts: bool) -> None:
        self.model, self.first = model, times[:1]
        self.lam = model.sde.lam(torch.tensor([float(times[0]), model.sde.t_train], dtype=torch.float64))
        n, share = len(times), (model.sde.lam(times) - self.lam[0]) / self.lam.diff()
        lengths = torch.log1p(-share.clamp(max=_LAST)).diff().neg().log()
        self.places = places(n) if shifts else []
        self.values = torch.cat((lengths, torch.zeros(len(self.places), dtype=torch.float64)))
        self.change = torch.tensor([_LENGTH] * (n - 1) + [_SHIFT] * len(self.places), dtype=torch.float64)
        self.since = [*range(n - 1), *(k for k, _ in self.places)]

    def times(self, values: Tensor) -> Tensor:
        """The grid (N,)."""
        way = values[: len(values) - len(self.places)].exp().cumsum(0)
        return torch.cat((self.first, self.model.sde.t_of_lam(self.lam[0] - self.lam.diff() * torch.expm1(-way))))

    def shifts(self, values: Tensor) -> list[list[float]] | None:
        """Those of `Combination`."""
        if not self.places:
            return None
        times, sde, rows = self.times(values), self.model.sde, torch.tensor(self.places)
        lam = torch.cat((sde.lam(times), torch.full((1,), math.inf, dtype=torch.float64)))
        alpha = torch.cat((sde.alpha(times[1:]), torch.ones(1, dtype=torch.float64)))
        unit = alpha * -torch.expm1(-lam.diff())  # the weight of x0_hat, if it were held
        found = torch.zeros(len(times), LEVELS, dtype=torch.float64)
        return found.index_put(tuple(rows.T), values[-len(rows) :] * unit[rows[:, 0]]).tolist()

    def __call__(self, values: Tensor | None = None) -> tuple[Tensor, list[list[float]] | None]:
        """The grid and the shifts, of the values so far unless others are given."""
        values = self.values if values is None else values
        return self.times(values), self.shifts(values)


def fit(
    free: Free,
    pilot: Pilot,
    rounds: int,
    tell: Callable[[float], None] = lambda error: None,
    radius: float = 0.0,
) -> float:
    """Make the mean endpoint error small, by Levenberg and Marquardt's method with differences; returns it.

        minimise  sum_i w_i |e_i + J_i d|^2 + mu sum_p A_pp d_p^2,   A = sum_i w_i J_i^T J_i

    with w_i the inverse of |e_i| and of the largest change, so that the sum is one of distances, and a start near the
    border of two basins weighs no more than others. A difference goes on from the first step that its value takes part
    in. Marquardt 1963 (doi 10.1137/0111030). With a radius starts move before each round, see `Pilot.moved`.
    """
    kept, start = list[Kept](), pilot
    errors = pilot.missed(*free(), keep=kept)
    mean, damping = _mean(errors), 0.01
    for _ in range(rounds):
        if radius > 0:
            kept, pilot = list[Kept](), pilot.moved(start.x, radius, *free())
            errors = pilot.missed(*free(), keep=kept)
            mean = _mean(errors)
        slopes = torch.stack([_change(free, pilot, p, errors, kept) for p in range(len(free.values))], dim=2)
        normal, gradient = _normal(slopes, errors)
        before = mean
        for _ in range(_TRIALS):
            step = torch.linalg.solve(normal + damping * normal.diagonal().diag(), -gradient) * free.change
            values, trial = free.values + step.clamp(-_FAR, _FAR), list[Kept]()
            found = pilot.missed(*free(values), keep=trial)
            if (now := _mean(found)) < mean:
                free.values, errors, kept, mean, damping = values, found, trial, now, max(damping / 5, _LEAST)
                break
            damping *= 5
        tell(mean)
        if mean > (1 - _GAIN) * before:
            break
    return mean


def _normal(slopes: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
    """A (P, P) and sum_i w_i J_i^T e_i (P,) of `fit`, from J (B, D, P) and e (B, D), over starts that are finite."""
    size = errors.norm(dim=1) + slopes.norm(dim=1).amax(1)
    fine = size.isfinite() & (size > 0)
    slopes, errors, root = slopes[fine], errors[fine], size[fine].rsqrt()[:, None]
    slopes, errors = (slopes * root[..., None]).flatten(0, 1), (errors * root).flatten()
    normal = slopes.T @ slopes
    normal.diagonal().clamp_(min=1e-12 * float(normal.diagonal().max()) + 1e-300)
    return normal.cpu(), (slopes.T @ errors).cpu()


def _mean(errors: Tensor) -> float:
    return float(errors.norm(dim=1).nan_to_num(nan=math.inf).mean())


def _change(free: Free, pilot: Pilot, p: int, errors: Tensor, kept: Sequence[Kept]) -> Tensor:
    """Of the errors (B, D), if value p changes by free.change[p]."""
    values = free.values.clone()
    values[p] += free.change[p]
    return pilot.missed(*free(values), kept=kept[: free.since[p] + 1]) - errors
