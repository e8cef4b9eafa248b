"""Starts whose endpoints are known, and the errors of a rule, a grid and coefficients on them."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.model import Model
from scoresde.noise import chunks
from scoresde.sampling.exponential import ExponentialMultistep
from scoresde.sampling.last_step import clean, first_x0
from scoresde.sampling.runge_kutta import RungeKutta
from scoresde.sampling.sampler import Sampler

_BATCH = 500  # starts at once


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


def endpoint(model: Model, rule: ExponentialMultistep, times: Tensor, rows: Tensor, x: Tensor) -> Tensor:
    """The sample from x (B, *event), denoised at the end; differentiable in times (N,) and rows (N - 1, C)."""
    state, seen = None, list[Tensor]()
    for k, row in enumerate(rows):
        t, *rest = row.unbind()
        with first_x0() if k == len(rows) - 1 else nullcontext(seen) as seen:
            x, state = rule.step(model, x, [t.expand(len(x)).to(x.device), *rest], state, no_noise)
    return clean(model, x, times[-1].expand(len(x)).to(x.device), seen[0], times)


def no_noise(k: int = 0) -> Tensor:
    raise AssertionError("only rules without noise are tuned")


@dataclass
class Pilot:
    """Starts and their endpoints by a fine rule.

    Attributes:
        x, exact: both (B, *event).
        first: number of the first sample, for models that tell samples apart.
    """

    x: Tensor
    exact: Tensor
    first: int

    def told(self, model: Model, rows: Tensor) -> Model:
        """The model for some rows of x."""
        return model.of_samples(self.first + rows)

    @classmethod
    def of(cls, model: Model, event_shape: Sequence[int], seed: int, first: int, n: int, fine: int) -> "Pilot":
        sampler = Sampler(RungeKutta("rk4", "noise_share"), steps=fine)
        ends = []
        for rows in chunks(range(first, first + n), _BATCH):
            (_, x), *_, (_, end) = sampler.trajectory(model, event_shape, rows=rows, seed=seed)
            ends.append((x, end))
        x, exact = (torch.cat(parts) for parts in zip(*ends, strict=True))
        return cls(x, exact, first)

    def error(self, model: Model, rule: ExponentialMultistep, times: Tensor, rows: Tensor) -> Error:
        parts = torch.split(torch.arange(len(self.x)), _BATCH)
        with torch.no_grad():
            found = [endpoint(self.told(model, part), rule, times, rows, self.x[part]) for part in parts]
        apart = (torch.cat(found) - self.exact).flatten(1).norm(dim=1).double()
        return Error.of(torch.nan_to_num(apart, nan=math.inf))
