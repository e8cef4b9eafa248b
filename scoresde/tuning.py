"""Time grids, and if asked for coefficients, that make the endpoint error of a multistep rule small on a model.

The coefficients of `ExponentialMultistep` are differentiable in the times, so the mean endpoint error over a pilot
batch has a gradient through the whole sampler. Noise that the optimiser never saw decides between the start and what it
found.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scoresde.errors import InputError, require
from scoresde.model import Model
from scoresde.noise import Noise
from scoresde.sampling.coordinates import parts, variable
from scoresde.sampling.exponential import ExponentialMultistep
from scoresde.sampling.grid import Grid, Karras, LambdaUniform, NoiseShareUniform
from scoresde.sampling.last_step import clean, first_x0
from scoresde.sampling.runge_kutta import RungeKutta
from scoresde.sampling.sampler import Sampler

_RULES = (
    ExponentialMultistep("velocity", "noise_share", order=3),
    ExponentialMultistep("velocity", "noise_share", order=4),
    ExponentialMultistep("eps", "lambda", order=3),
)
_GRIDS: tuple[Grid, ...] = (NoiseShareUniform(), LambdaUniform(), Karras())
_FEW = 64  # samples along whose path the local error is estimated
_GROWTH = 0.5  # of a step at most, in units of the one before
_SMALLEST = 1e-3  # of a step, as a share of the mean step: two times may not meet


@dataclass(frozen=True)
class Error:
    """Endpoint errors |x - x_exact| over a batch, in model units."""

    mean: float
    median: float
    rms: float
    p95: float

    @classmethod
    def of(cls, apart: Tensor) -> "Error":
        """From the distances (B,)."""
        rms = float(apart.square().mean().sqrt())
        return cls(float(apart.mean()), float(apart.median()), rms, float(apart.quantile(0.95)))


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


def endpoint(model: Model, rule: ExponentialMultistep, times: Tensor, rows: Tensor, x: Tensor) -> Tensor:
    """The sample from x (B, *event), denoised at the end; differentiable in times (N,) and rows (N - 1, C)."""
    state, before = None, None
    for row in rows:
        t, *rest = row.unbind()
        with first_x0(model) as seen:
            x, state = rule.step(model, x, [t.expand(len(x)).to(x.device), *rest], state, _no_noise)
        before = seen[0]
    return clean(model, x, times[-1].expand(len(x)).to(x.device), before, times)


def _no_noise(k: int = 0) -> Tensor:
    raise AssertionError("only rules without noise are tuned")


@dataclass
class _Pilot:
    """Starts and their endpoints by a fine rule."""

    x: Tensor
    exact: Tensor

    @classmethod
    def of(cls, model: Model, event_shape: Sequence[int], seed: int, first: int, n: int, fine: int) -> "_Pilot":
        sampler = Sampler(RungeKutta("rk4", "noise_share"), steps=fine)
        with torch.no_grad():
            x = sampler.prior(model, event_shape, n, Noise(seed, first))
            ends = []
            for part in torch.split(x, 500):
                *_, (_, end) = sampler.path(model, part, Noise(seed))
                ends.append(end)
        return cls(x, torch.cat(ends))

    def error(self, model: Model, rule: ExponentialMultistep, times: Tensor, rows: Tensor) -> Error:
        with torch.no_grad():
            found = torch.cat([endpoint(model, rule, times, rows, part) for part in torch.split(self.x, 500)])
        apart = (found - self.exact).flatten(1).norm(dim=1).double()
        return Error.of(torch.nan_to_num(apart, nan=math.inf))


class _Parameters:
    """A grid and coefficients as free numbers: steps in lam as logits, changes of the weights as offsets."""

    def __init__(self, model: Model, rule: ExponentialMultistep, times: Tensor, coefficients: bool) -> None:
        self._model, self._rule = model, rule
        lam = model.sde.lam(times)
        self._first, self._span = float(lam[0]), float(lam[-1] - lam[0])
        shares = torch.cat((lam.diff() / self._span, torch.tensor([0.01], dtype=torch.float64)))
        self.logits = torch.log(shares).requires_grad_()
        self.offsets = torch.zeros(len(times) - 1, rule.order, dtype=torch.float64, requires_grad=coefficients)

    def grid(self) -> Tensor:
        """Times; the last share is what is left before t_min, so the grid may end earlier."""
        share = torch.softmax(self.logits, 0) + _SMALLEST / len(self.logits)
        lam = self._first + self._span * torch.cumsum(share / share.sum(), 0)[:-1]
        inner = self._model.sde.t_of_lam(lam)
        return torch.cat((torch.tensor([self._model.sde.T], dtype=torch.float64), inner))

    def rows(self, times: Tensor) -> Tensor:
        rows = self._rule.coefficients(self._model.sde, times)
        if not self.offsets.requires_grad:
            return rows
        whole = rows[:, 5 : 5 + self._rule.order].sum(1, keepdim=True).detach()
        used = (rows[:, 5 : 5 + self._rule.order] != 0).to(rows.dtype)
        return torch.cat((rows[:, :5], rows[:, 5:] + self.offsets * whole * used), dim=1)


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
    on_step: Callable[[int, float], None] | None = None,
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
        on_step: called after each iteration with its number and the error.

    Raises:
        InputError: for numbers out of range, and a model that returns NaN.
    """
    require(steps >= 3, "steps", steps, "give an integer >= 3; with fewer there is nothing to tune")
    require(n >= 16, "n", n, "give at least 16 starts")
    require(iterations >= 0, "iterations", iterations, "give an integer >= 0")
    before_all, training = model.evaluations, model.training
    frozen = [p for p in model.parameters() if p.requires_grad]
    model.eval().requires_grad_(False)
    try:
        pilot = _Pilot.of(model, event_shape, seed, 0, n, fine)
        judge = _Pilot.of(model, event_shape, seed, n, max(n // 2, 16), fine)
        rule, name, times = _start(model, pilot, steps)
        start = _Parameters(model, rule, times, False)
        first = judge.error(model, rule, times, start.rows(times).detach())
        found: list[tuple[Error, Tensor, Tensor | None]] = [(first, times, None)]
        for with_weights in [False, True] if coefficients else [False]:
            parameters = _Parameters(model, rule, found[-1][1] if with_weights else times, with_weights)
            _descend(parameters, model, rule, pilot, iterations, batch_size, rate, on_step)
            with torch.no_grad():
                tuned = parameters.grid()
                rows = parameters.rows(tuned)
            found.append((judge.error(model, rule, tuned, rows), tuned, rows if with_weights else None))
        best = min(found, key=lambda f: f[0].mean)
        used = model.evaluations - before_all
        return Tuning(rule, best[1], best[2], first, best[0], name, used)
    finally:
        model.train(training)
        for p in frozen:
            p.requires_grad_()


def _start(model: Model, pilot: _Pilot, steps: int) -> tuple[ExponentialMultistep, str, Tensor]:
    """The rule and grid of the smallest error on the pilot, without tuning, and the name of the grid."""
    tried: list[tuple[float, int, ExponentialMultistep, str, Tensor]] = []
    for rule in _RULES:
        grids = {type(grid).__name__: grid(model.sde, steps) for grid in _GRIDS}
        grids["equal error"] = equal_error(model, rule, pilot.x[:_FEW], steps)
        for name, times in grids.items():
            with torch.no_grad():
                error = pilot.error(model, rule, times, rule.coefficients(model.sde, times)).mean
            tried.append((error, len(tried), rule, name, times))
    error, _, rule, name, times = min(tried, key=lambda t: t[:2])
    if not math.isfinite(error):
        raise InputError("model: all samples of the pilot are NaN or infinite; give a checkpoint from before that")
    return rule, name, times


@torch.no_grad()
def equal_error(model: Model, rule: ExponentialMultistep, x: Tensor, points: int, fine: int = 200) -> Tensor:
    """Times (points,) with about the same local error of the rule in every step, without optimisation.

    A rule of order p on the quantity P in the variable w makes a local error of about dw^(p+1) |P^(p)(w)|, so points
    lie with density |P^(p)|^(1/(p+1)) in w. The derivative is a divided difference along a fine path of a few samples.

    Args:
        model: what predicts.
        rule: whose local error it is.
        x: starts (B, *event); a few are enough.
        points: number of times, from T to t_min.
        fine: steps of that path, one evaluation each.
    """
    sde = model.sde
    times = LambdaUniform()(sde, fine)
    levels, values, here = sde.remember(times), [], x
    walk = ExponentialMultistep("velocity", "noise_share", order=3)
    state = None
    for row, level in zip(walk.plan(sde, times), levels[:-1], strict=True):
        of_x0, of_eps = parts(rule.predict, level.alpha, level.sigma)
        values.append(model(here, row[0]).combine(x0=of_x0, eps=of_eps))
        here, state = walk.step(model, here, row, state, _no_noise)
    w = variable(rule.variable, sde, sde.lam(times[:-1]))
    difference = torch.stack(values).flatten(1).double()
    for k in range(1, rule.order + 1):  # divided differences of order p, up to a factor
        difference = difference.diff(dim=0) / (w[k:] - w[:-k]).abs()[:, None].to(difference.device)
    size = difference.square().mean(1).sqrt().cpu()
    middle = torch.nn.functional.pad(
        size[None, None], (rule.order // 2, rule.order - rule.order // 2), mode="replicate"
    )
    smooth = torch.nn.functional.avg_pool1d(middle, 9, 1, 4, count_include_pad=False)[0, 0]
    density = smooth[1:] ** (1 / (rule.order + 1))
    length = w.diff().abs()
    # the polynomial of a step passes through the values of those before it, so steps may only grow by degrees
    apart = (w[1:, None] - w[None, 1:]).abs()
    step = (density * length).sum() / ((points - 1) * density.clamp(min=1e-12 * density.max()))
    step = (step + _GROWTH * apart).amin(1)
    mass = torch.cat((torch.zeros(1, dtype=torch.float64), torch.cumsum(length / step, 0)))
    lam = np.interp(np.linspace(0, float(mass[-1]), points), mass.numpy(), sde.lam(times[:-1]).numpy())
    found = sde.t_of_lam(torch.from_numpy(lam))
    found[0], found[-1] = sde.T, sde.t_min
    return found


def _descend(
    parameters: _Parameters,
    model: Model,
    rule: ExponentialMultistep,
    pilot: _Pilot,
    iterations: int,
    batch_size: int,
    rate: float,
    on_step: Callable[[int, float], None] | None,
) -> None:
    """Adam with a rate that falls to zero."""
    free = [p for p in (parameters.logits, parameters.offsets) if p.requires_grad]
    optimizer = torch.optim.Adam(free, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(iterations, 1))
    for k in range(iterations):
        rows = (torch.arange(batch_size) + k * batch_size) % len(pilot.x)
        times = parameters.grid()
        found = endpoint(model, rule, times, parameters.rows(times), pilot.x[rows])
        loss = (found - pilot.exact[rows]).flatten(1).norm(dim=1).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for p in free:
            if p.grad is None or not bool(torch.isfinite(p.grad).all()):
                return  # what was found until here is judged like the rest
        optimizer.step()
        schedule.step()
        if on_step is not None:
            on_step(k + 1, float(loss.detach()))
