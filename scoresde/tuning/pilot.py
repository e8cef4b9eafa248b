"""Starts whose endpoints are known, and the errors of a rule, a grid and coefficients: local ones, and at the end."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scoresde.evaluations import first_x0
from scoresde.model import Model
from scoresde.noise import Noise, chunks
from scoresde.sampling.coordinates import parts, variable
from scoresde.sampling.exponential import ExponentialMultistep
from scoresde.sampling.grid import LambdaUniform
from scoresde.sampling.last_step import clean
from scoresde.sampling.one_step import RungeKutta
from scoresde.sampling.sampler import Sampler

_BATCH = 500  # starts at once
_GROWTH = 0.5  # of a step at most, in units of the one before


@dataclass(frozen=True)
class Error:
    """Endpoint errors |x - x_exact| over a batch, in model units."""

    mean: float
    median: float
    rms: float
    p95: float

    @classmethod
    def of(cls, distances: Tensor) -> "Error":
        """From the distances (B,)."""
        rms = float(distances.square().mean().sqrt())
        return cls(float(distances.mean()), float(distances.median()), rms, float(distances.quantile(0.95)))


def endpoint(model: Model, rule: ExponentialMultistep, times: Tensor, coefficients: Tensor, x: Tensor) -> Tensor:
    """The sample from x (B, *event), denoised at the end; differentiable in times (N,) and coefficients (N - 1, C)."""
    state, seen = None, list[Tensor]()
    for k, row in enumerate(coefficients):
        t, *rest = row.unbind()
        with first_x0() if k == len(coefficients) - 1 else nullcontext(seen) as seen:
            x, state = rule.step(model, x, [t.expand(len(x)).to(x.device), *rest], state, no_noise)
    return clean(model, x, times[-1].expand(len(x)).to(x.device), seen[0], times)


def no_noise(k: int = 0) -> Tensor:
    raise AssertionError("only rules without noise are tuned")


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
        fine: steps of that path, two evaluations each.
    """
    sde = model.sde
    times, values = LambdaUniform()(sde, fine)[:-1], []
    walk = ExponentialMultistep("velocity", "noise_share", predictor=3)
    for t, here in [(sde.t_start, x), *walk.integrate(model, times, x, Noise(0))]:
        of_x0, of_eps = parts(rule.predict, sde.at(t).alpha, sde.at(t).sigma)
        values.append(model(here, t).combine(x0=of_x0, eps=of_eps))
    w = variable(rule.variable, sde, sde.lam(times))
    difference = torch.stack(values).flatten(1).double()
    for k in range(1, rule.predictor + 1):  # divided differences of order p, up to a factor
        difference = difference.diff(dim=0) / (w[k:] - w[:-k]).abs()[:, None].to(difference.device)
    size = difference.square().mean(1).sqrt().cpu()
    lost = rule.predictor // 2, rule.predictor - rule.predictor // 2  # at each end
    middle = torch.nn.functional.pad(size[None, None], lost, mode="replicate")
    smooth = torch.nn.functional.avg_pool1d(middle, 9, 1, 4, count_include_pad=False)[0, 0]
    density = smooth[1:] ** (1 / (rule.predictor + 1))
    length = w.diff().abs()
    # the polynomial of a step passes through the values of those before it, so steps may only grow by degrees
    apart = (w[1:, None] - w[None, 1:]).abs()
    step = (density * length).sum() / ((points - 1) * density)
    step = (step + _GROWTH * apart).amin(1)
    mass = torch.cat((torch.zeros(1, dtype=torch.float64), torch.cumsum(length / step, 0)))
    lam = np.interp(np.linspace(0, float(mass[-1]), points), mass.numpy(), sde.lam(times).numpy())
    found = sde.t_of_lam(torch.from_numpy(lam))
    found[0], found[-1] = sde.t_start, sde.t_min
    return found


@dataclass
class Pilot:
    """Starts and their endpoints by a fine rule.

    Attributes:
        model: what predicts.
        rows: the numbers of the samples.
        x, exact: starts and endpoints, both (B, *event).
    """

    model: Model
    rows: Tensor
    x: Tensor
    exact: Tensor

    @classmethod
    def of(cls, model: Model, event_shape: Sequence[int] | None, seed: int, rows: range, fine: int) -> "Pilot":
        """The samples number `rows` of a seed, with a reference of `fine` steps."""
        sampler = Sampler(RungeKutta("rk4", "noise_share"), steps=fine)
        ends = []
        for mine in chunks(rows, _BATCH):
            (_, x), *_, (_, end) = sampler.trajectory(model, event_shape, rows=mine, seed=seed)
            ends.append((x, end))
        x, exact = (torch.cat(parts) for parts in zip(*ends, strict=True))
        return cls(model, torch.tensor(rows), x, exact)

    def distances(self, rule: ExponentialMultistep, times: Tensor, coefficients: Tensor, which: Tensor) -> Tensor:
        """Endpoint errors of some of the starts; differentiable in times and coefficients."""
        found = endpoint(self.model.of_samples(self.rows[which]), rule, times, coefficients, self.x[which])
        distances: Tensor = (found - self.exact[which]).flatten(1).norm(dim=1)
        return distances

    @torch.no_grad()
    def error(self, rule: ExponentialMultistep, times: Tensor, coefficients: Tensor) -> Error:
        """Over all starts."""
        parts = torch.split(torch.arange(len(self.x)), _BATCH)
        distances = torch.cat([self.distances(rule, times, coefficients, part) for part in parts]).double()
        return Error.of(torch.nan_to_num(distances, nan=math.inf))
