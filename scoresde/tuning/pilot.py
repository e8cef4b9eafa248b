"""Starts whose endpoints are known, and the errors of a rule, a grid and coefficients on them."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.model import Model
from scoresde.noise import chunks, take
from scoresde.sampling.exponential import ExponentialMultistep
from scoresde.sampling.last_step import clean, first_x0
from scoresde.sampling.one_step import RungeKutta
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
        which = torch.arange(len(self.x))
        parts = (take(which, part) for part in chunks(range(len(self.x)), _BATCH))
        distances = torch.cat([self.distances(rule, times, coefficients, part) for part in parts]).double()
        return Error.of(torch.nan_to_num(distances, nan=math.inf))
