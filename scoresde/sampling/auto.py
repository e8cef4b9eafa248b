"""The default solver: it combines candidate rules by how well each foresaw the evaluations that came."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scoresde._shapes import expand, flat
from scoresde.dynamics import Eta
from scoresde.model import Model
from scoresde.prediction import Prediction
from scoresde.sampling.bits import BitFlips
from scoresde.sampling.candidates import FIRST, LEVELS, ONLY, candidates, rows, shifted
from scoresde.sampling.choices import note
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.grid import Grid, Terminal, widest
from scoresde.sampling.pilot import PilotGrid
from scoresde.sampling.solver import Draw, GridSolver, NoiseSource, Path, Solver, Step, add
from scoresde.sde import SDE

_MEMORY = 0.8  # of an error, from one level to the next
_RIDGE = 0.3  # share of an error that its candidate has to itself
_LONGEST = 1.5  # root mean square of an x0_hat that is believed, in max(1, sigma_data)


@dataclass(frozen=True, repr=False)
class Auto(Solver):
    """A multistep rule that weighs candidates by their errors as it goes, for each sample by itself.

    All candidates, see `scoresde.sampling.candidates`, are polynomials through the same evaluations: x0 in
    log(r^2 + 0.1^2), and v in the angle atan(r), each of order 2 and 4, r = sigma / (alpha sigma_data). So when x0_hat
    comes at a new level, what each candidate expected there is known at no cost.
    With e_c the expectation less what came, and S_cd a running mean of <e_c, e_d>, the step before is made again with
    the value that came (as a corrector) and the next one is made by sum_c w_c (candidate c), where w is close to

        minimise w^T S w   over   w >= 0, sum_c w_c = 1

    The last step goes from the last level to noise zero. On the way there, x0_hat of networks that predict noise is
    cut to the length of data near pure noise, where it is many times the error of the noise: see `_believed`. Between
    two levels with noise nothing is cut. Without a grid it takes `Terminal`, with the levels that
    `PilotGrid` finds for a run and eta = 0.

    With noise, a step of length h in lam goes d = min(eta^2 h, 0.16) beyond the next level on the probability-flow
    ODE, and returns to it by the forward process, that is, with fresh noise. So distributions are right if the ODE is
    solved, however long the step, and as h -> 0 this is the reverse process of level eta. Of longer steps than
    0.16 / eta^2 it takes less noise than that process. The candidates are then of order 1 and 2, and no step is made
    again.

    For a chain of bits it stands for `BitFlips`.

    Args:
        eta: noise level: 0 for the probability-flow ODE, 1 for the reverse SDE, or a function of lam.
        run: the folder of the run that is sampled, if there is one.

    Raises:
        InputError: for a negative eta.
    """

    eta: Eta = 0.0
    run: pathlib.Path | str | None = None

    extrapolates = reaches_zero = True

    @property
    def default_grid(self) -> Grid:
        return Terminal() if self.run is None or self.eta != 0 else PilotGrid(self.run)

    def suited(self, model: Model) -> Solver:
        return BitFlips() if model.states == "bits" else super().suited(model)

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        # noise and correctors move x, so that the step before cannot be made again
        rule = Combination(model.sigma_data, corrector is None and self.eta == 0, self.eta)
        return rule.carry(model, times, x, noise, corrector)


class _State(NamedTuple):
    """What the evaluations so far leave behind.

    Attributes:
        number: of the step.
        rows: `candidates.rows`, in the dtype and on the device of x.
        seen: x, then x0_hat, of the last levels, (2 LEVELS, B, D), in the places of `candidates.rows`.
        mean: S, the running mean of the products of errors (C, C, B); None before the second evaluation.
    """

    number: int
    rows: Tensor
    seen: Tensor
    mean: Tensor | None = None


@dataclass(frozen=True, repr=False)
class Combination(GridSolver):
    """The rule of `Auto`.

    Args:
        sigma_data: standard deviation of the data.
        again: make the step before again.
        eta: noise level.
        shifts: for one grid of N levels, what is added to the weights of the last x0_hat in the next x, (N, LEVELS),
            the newest first; None for nothing.
    """

    sigma_data: float
    again: bool = True
    eta: Eta = 0.0
    shifts: Sequence[Sequence[float]] | None = None

    extrapolates, reaches_zero = Auto.extrapolates, Auto.reaches_zero

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        found, stds = rows(sde, times, self.sigma_data, self.eta)
        if self.shifts is not None:
            found = shifted(found, torch.tensor(self.shifts, dtype=torch.float64))
        clean = bool(times[-1] <= 0)
        return [(t, found, std, clean) for t, std in zip(times.tolist(), stds.tolist(), strict=False)]

    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Draw) -> Step:
        t, found, std, clean = plan
        number, coefficients, seen, mean = state or _start(found, x)
        expected, again, ahead = coefficients[number]
        place = number % LEVELS
        seen = _put(seen, place, x)
        prediction = model(x, t)
        seen = _put(seen, place + LEVELS, _believed(prediction, self.sigma_data) if clean else prediction.x0)
        if number:
            mean = _mean(mean, _products(expected, seen))
            weights = _weights(mean)
            if self.again:
                seen = _put(seen, place, _combined(again, weights, seen))
        else:
            # v held constant is exact for Gaussian data, x0 for a step from pure noise to none
            weights = x.new_zeros(len(ahead), len(x))
            weights[FIRST if len(coefficients) > 1 else ONLY] = 1
        note(model.sde, t, candidates(self.eta), weights)
        x = _combined(ahead, weights, seen).view(x.shape)
        return Step(add(x, std, noise()) if std else x, _State(number + 1, coefficients, seen, mean))


def _believed(prediction: Prediction, sigma_data: float) -> Tensor:
    """x0_hat, cut to the length of data where it is a small difference of large numbers.

        x0_hat min(1, R sqrt(D) / |x0_hat|),   R = 1.5 max(1, sigma_data),   if sigma c_skip > (2 + sqrt(D)) sigma_data

    Near pure noise x0_hat = (x - sigma eps) / alpha has sigma / alpha times the error of eps, and solutions of the ODE
    carry it down to the data. The posterior mean is in that ball where the noise is so large, even of data that vary in
    one direction only, so a cut brings x0_hat nearer to it. What predicts x0, v or with precond=edm is left alone.
    """
    x0 = prediction.x0
    size = x0[0].numel()
    large = prediction.cancelled > widest(size) * sigma_data
    if not isinstance(large, Tensor) and not large:
        return x0
    longest = _LONGEST * max(1.0, sigma_data) * size**0.5
    part = longest / flat(x0).norm(dim=1).clamp(min=longest)
    return x0 * expand(torch.where(large, part, 1.0) if isinstance(large, Tensor) else part, x0)


def _start(coefficients: Tensor, x: Tensor) -> _State:
    return _State(0, coefficients.to(x), x.new_zeros(2 * LEVELS, len(x), x[0].numel()))


def _put(seen: Tensor, place: int, value: Tensor) -> Tensor:
    """`seen` with another value in a place; a copy where gradients may be wanted, which need what was there."""
    seen = seen.clone() if torch.is_grad_enabled() else seen
    seen[place] = value.reshape(seen.shape[1:])
    return seen


def _products(expected: Tensor, seen: Tensor) -> Tensor:
    """The products (C, C, B) of the errors of each sample, which are rows (C, M) times what was seen (M, B, D)."""
    _, batch, size = seen.shape
    errors = (expected @ seen.flatten(1)).view(-1, batch, size)
    if size >= len(expected):
        return torch.bmm(errors.transpose(0, 1), errors.permute(1, 2, 0)).permute(1, 2, 0).contiguous()
    first, *others = errors.permute(2, 0, 1).contiguous()  # where a batched product takes longer
    products: Tensor = first[:, None] * first
    for one in others:
        products = torch.addcmul(products, one[:, None], one)
    return products


def _mean(before: Tensor | None, products: Tensor) -> Tensor:
    """The running mean of the products of errors (C, C, B), each level's relative to its typical square."""
    tiny = torch.finfo(products.dtype).tiny ** 0.5
    now = products / products.diagonal().T.clamp(min=tiny).log().mean(0).exp()
    return now if before is None else torch.lerp(now, before, _MEMORY)


def _weights(mean: Tensor) -> Tensor:
    """Weights (C, B) that are positive, sum to one and make w^T S w small, for S = mean (C, C, B).

    Inverse squares of the errors, u_c = 1 / S_cc, which would be right for errors that are independent, then one
    multiplicative step towards the minimum,

        w_c ~ u_c (1 + (m - (S u)_c) / ((S^+ u)_c + ridge)),   m = u^T S u / sum_c u_c

    with S^+ the positive part of S: w <- w (w^T S w + S^- w) / (S^+ w) of the normalised u.
    """
    u = mean.diagonal().T.clamp(min=torch.finfo(mean.dtype).eps ** 2).reciprocal()
    pulls = mean * u
    slope = pulls.sum(1)
    excess = slope - torch.linalg.vecdot(u, slope, dim=0) / u.sum(0)
    w = torch.addcdiv(u, u * excess, pulls.clamp(min=0).sum(1) + _RIDGE, value=-1)
    return w / w.sum(0)


def _combined(candidates: Tensor, weights: Tensor, seen: Tensor) -> Tensor:
    """Sums (B, D) of what was seen (M, B, D), by the rows (C, M) of the candidates with the weights (C, B)."""
    return torch.bmm((weights.T @ candidates)[:, None], seen.transpose(0, 1))[:, 0]
