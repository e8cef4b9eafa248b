"""The default solver: it combines candidate rules by how well each foresaw the evaluations that came."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scoresde.dynamics import Eta
from scoresde.model import Model
from scoresde.sampling.candidates import FIRST, LEVELS, ONLY, rows
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.exponential import ExponentialMultistep
from scoresde.sampling.grid import Grid, LambdaUniform, Terminal
from scoresde.sampling.solver import Draw, GridSolver, NoiseSource, Path, Solver, Step
from scoresde.sde import SDE

_MEMORY = 0.8  # of an error, from one level to the next
_RIDGE = 0.3  # share of an error that its candidate has to itself


@dataclass(frozen=True, repr=False)
class Auto(Solver):
    """A multistep rule that weighs candidates by their errors as it goes, for each sample by itself.

    All candidates, see `scoresde.sampling.candidates`, are polynomials through the same evaluations: x0 in
    log(r^2 + s^2) for s = 0.1 and 0.01, and v in the angle atan(r), each of order 2 and 4, r = sigma / (alpha
    sigma_data). So when x0_hat comes at a new level, what each candidate expected there is known at no cost.
    With e_c the expectation less what came, and S_cd a running mean of <e_c, e_d>, the step before is made again with
    the value that came (as a corrector) and the next one is made by sum_c w_c (candidate c), where w is close to

        minimise w^T S w   over   w >= 0, sum_c w_c = 1

    The last step goes from the last level to noise zero. With noise it is the exponential rule of order 2 on x0 in lam
    (SDE-DPM-Solver++(2M)). Without a grid it takes `Terminal`.

    Args:
        eta: noise level: 0 for the probability-flow ODE, 1 for the reverse SDE, or a function of lam.

    Raises:
        InputError: for a negative eta.
    """

    eta: Eta = 0.0

    @property
    def extrapolates(self) -> bool:
        return self.eta == 0

    reaches_zero = extrapolates

    @property
    def default_grid(self) -> Grid:
        return Terminal() if self.eta == 0 else LambdaUniform()

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        rule = ExponentialMultistep(predictor=2, eta=self.eta) if self.eta != 0 else None
        # a corrector moves x, so that the step before cannot be made again
        found = rule or _Combination(model.sigma_data, again=corrector is None)
        return found.carry(model, times, x, noise, corrector)


class _State(NamedTuple):
    """What the evaluations so far leave behind.

    Attributes:
        number: of the step.
        seen: y = x / alpha, then x0_hat, of the last levels, (2 LEVELS, B, D), in the places of `candidates.rows`.
        mean: S, the running mean of the products of errors (B, C, C); None before the second evaluation.
    """

    number: int
    seen: Tensor
    mean: Tensor | None


@dataclass(frozen=True, repr=False)
class _Combination(GridSolver):
    """The rule at eta = 0, for data of some standard deviation."""

    sigma_data: float
    again: bool

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        alpha = [*sde.alpha(times[:-1]).tolist(), sde.at(float(times[-1])).alpha if times[-1] > 0 else 1.0]
        # v held constant is exact for Gaussian data, x0 for a step from pure noise to none
        first = [FIRST if len(times) > 2 else ONLY] * len(times)
        return list(zip(times.tolist(), alpha, alpha[1:], rows(sde, times, self.sigma_data), first, strict=False))

    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Draw) -> Step:
        t, alpha, alpha_after, coefficients, first = plan
        number, seen, mean = state or _State(0, x.new_zeros(2 * LEVELS, len(x), x[0].numel()), None)
        expected, again, ahead = coefficients.to(x)
        place = number % LEVELS
        seen = _put(seen, place, x.reshape(seen[0].shape) / alpha)
        seen = _put(seen, place + LEVELS, model(x, t).x0.reshape(seen[0].shape))
        if number:
            missed = (expected @ seen.flatten(1)).view(-1, *seen[0].shape).transpose(0, 1)
            mean = _mean(mean, missed @ missed.mT)
            weights = _weights(mean)
            if self.again:
                seen = _put(seen, place, _combined(weights @ again, seen))
            y = _combined(weights @ ahead, seen)
        else:
            y = _combined(ahead[None, first].expand(len(x), -1), seen)
        return Step(y.mul_(alpha_after).view(x.shape), _State(number + 1, seen, mean))


def _put(seen: Tensor, place: int, value: Tensor) -> Tensor:
    """`seen` with another value in a place; a copy where gradients may be wanted, which need what was there."""
    seen = seen.clone() if torch.is_grad_enabled() else seen
    seen[place] = value
    return seen


def _mean(before: Tensor | None, products: Tensor) -> Tensor:
    """The running mean of the products of errors (B, C, C), each level's relative to its typical square."""
    tiny = torch.finfo(products.dtype).tiny ** 0.5
    size = products.diagonal(dim1=1, dim2=2).clamp(min=tiny).log().mean(1).exp()
    now = products / size[:, None, None]
    return now if before is None else torch.lerp(now, before, _MEMORY)


def _weights(mean: Tensor) -> Tensor:
    """Weights (B, C) that are positive, sum to one and make w^T S w small, for S = mean (B, C, C).

    Inverse squares of the errors, which would be right for errors that are independent, then one multiplicative step
    w <- w (w^T S w + S^- w) / (S^+ w) towards the minimum, S^+ and S^- the positive and the negative part of S.
    """
    squares = mean.diagonal(dim1=1, dim2=2)
    squares = squares.clamp(min=torch.finfo(mean.dtype).eps ** 2)
    w = 1 / squares
    w = w / w.sum(1, keepdim=True)
    up = (mean.clamp(min=0) @ w[..., None])[..., 0] + _RIDGE * squares * w
    down = (mean.clamp(max=0) @ w[..., None])[..., 0].neg()
    w = w * ((w * (up - down)).sum(1, keepdim=True).clamp(min=0) + down) / up
    return w / w.sum(1, keepdim=True)


def _combined(coefficients: Tensor, seen: Tensor) -> Tensor:
    """Sums (B, D) of what was seen (M, B, D), with the coefficients (B, M) of each sample."""
    return torch.einsum("bm,mbd->bd", coefficients, seen)
