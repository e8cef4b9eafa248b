"""The exact endpoint of the probability-flow ODE at noise zero, in float64, by a rule that no sampler here uses.

In y = x / alpha and r = sigma / alpha every SDE has the same equation dy/dr = eps, so the endpoint of a start (y, r) is
the same for all. It is integrated in u = -log r,

    dy/du = -(y - x0(y, r)),   x0(y, r) = E[x_0 | x_0 + r z = y]

by Dormand and Prince's rule of order 8 with step control for each sample, down to an r far below any feature of the
distribution; there y -> x0(y, r) leaves an error of order r^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.analytic import FiniteData
from scoresde.errors import InputError, require
from scoresde.mixture import GaussianMixture

Distribution = GaussianMixture | FiniteData


def smallest_scale(distribution: Distribution) -> float:
    """The smallest standard deviation of a Gaussian in a mixture, or the smallest gap between points.

    Far below it the exact denoiser is linear.
    """
    if isinstance(distribution, GaussianMixture):
        return max(float(distribution.variances.amin().sqrt()), 1e-6)
    gaps = torch.pdist(distribution.points.flatten(1)[:2000])
    finite = gaps[gaps > 0]
    return float(finite.min()) if len(finite) else 1.0


@dataclass(frozen=True)
class Tableau:
    """The coefficients of DOP853 as tensors; scipy owns the numbers."""

    a: Tensor
    b: Tensor
    c: Tensor
    e3: Tensor
    e5: Tensor

    @classmethod
    def on(cls, device: torch.device) -> Tableau:
        """From scipy, on a device."""
        from scipy.integrate import DOP853  # costs 0.4 s, so only when used

        arrays = (DOP853.A, DOP853.B, DOP853.C, DOP853.E3, DOP853.E5)
        return cls(*(torch.tensor(a, dtype=torch.float64, device=device) for a in arrays))


def _rate(distribution: Distribution, y: Tensor, u: Tensor) -> Tensor:
    """dy/du at y (B, *event) and u (B,)."""
    return distribution.posterior_mean(y, torch.ones_like(u), torch.exp(-u)) - y


def _stages(distribution: Distribution, rule: Tableau, y: Tensor, u: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """The new y (B, D) after a step h (B,), and the slopes (13, B, D) of all stages."""
    shape, event = y.shape, (-1, *distribution.event_shape)
    slopes = [_rate(distribution, y.reshape(event), u).reshape(shape)]
    for row, c in zip(rule.a[1:], rule.c[1:].tolist(), strict=True):
        moved = y + h[:, None] * torch.einsum("s,sbd->bd", row[: len(slopes)], torch.stack(slopes))
        slopes.append(_rate(distribution, moved.reshape(event), u + c * h).reshape(shape))
    new = y + h[:, None] * torch.einsum("s,sbd->bd", rule.b, torch.stack(slopes))
    slopes.append(_rate(distribution, new.reshape(event), u + h).reshape(shape))
    return new, torch.stack(slopes)


def _error(rule: Tableau, slopes: Tensor, h: Tensor, tolerance: Tensor) -> Tensor:
    """The estimated error of each sample (B,), in units of what is tolerated."""
    fifth, third = (torch.einsum("s,sbd->bd", e, slopes).square().mean(1).sqrt() for e in (rule.e5, rule.e3))
    combined = torch.where(fifth > 0, fifth**2 / torch.sqrt(fifth**2 + 0.01 * third**2).clamp(min=1e-300), fifth)
    return h.abs() * combined / tolerance


def endpoints(distribution: Distribution, y: Tensor, r: float, tolerance: float = 1e-9) -> Tensor:
    """Where the exact flow carries y = x / alpha (B, *event) from r = sigma / alpha to r = 0; float64.

    Args:
        distribution: of the data.
        y: the starts.
        r: their noise level.
        tolerance: the error of one step, relative to the larger of the smallest feature of the distribution and |y|.

    Raises:
        InputError: no step is small enough.
    """
    require(0 < tolerance < 1, "reference.tolerance", tolerance, "give a number between 0 and 1, such as 1e-9")
    rule, scale = Tableau.on(y.device), smallest_scale(distribution)
    end = max(-math.log(1e-6 * scale), 1.0 - math.log(r))
    done = y.double().flatten(1).clone()
    u = torch.full((len(done),), -math.log(r), dtype=torch.float64, device=y.device)
    h = torch.full_like(u, 0.1)
    while len(active := torch.nonzero(u < end).flatten()):
        here, step = done[active], torch.minimum(h[active], end - u[active])
        new, slopes = _stages(distribution, rule, here, u[active], step)
        allowed = tolerance * (scale + torch.maximum(here.square().mean(1), new.square().mean(1)).sqrt())
        error = _error(rule, slopes, step, allowed)
        good = error <= 1
        done[active[good]] = new[good]
        u[active] += torch.where(good, step, 0.0)
        u[active] = torch.where(end - u[active] < 1e-12, end, u[active])
        h[active] = (step * (0.9 * error.clamp(min=1e-12) ** (-1 / 8)).clamp(0.2, 5.0)).clamp(max=1.5)
        if bool((h[active] < 1e-10).any()) or not bool(torch.isfinite(error).all()):
            raise InputError(f"reference.tolerance: {tolerance} cannot be reached in float64; give a larger one")
    last = done.reshape(y.shape)
    return distribution.posterior_mean(last, 1.0, math.exp(-end))


@dataclass(frozen=True)
class Accuracy:
    """How far two solutions of a hundredfold tolerance are apart: median and largest distance, in model units."""

    median: float
    largest: float


def accuracy(distribution: Distribution, y: Tensor, r: float, tolerance: float, found: Tensor) -> Accuracy:
    """An estimate from above of the error of `found` = endpoints(distribution, y, r, tolerance)."""
    apart = (endpoints(distribution, y, r, min(100 * tolerance, 0.5)) - found).flatten(1).norm(dim=1)
    return Accuracy(float(apart.median()), float(apart.max()))
