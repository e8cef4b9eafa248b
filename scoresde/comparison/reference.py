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

from scoresde._shapes import expand
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


def _dop853(device: torch.device) -> dict[str, Tensor]:
    """The coefficients of Dormand and Prince's rule of order 8; scipy owns the numbers."""
    from scipy.integrate import DOP853  # costs 0.4 s, so only when used

    return {
        k: torch.tensor(getattr(DOP853, k), dtype=torch.float64, device=device) for k in ("A", "B", "C", "E3", "E5")
    }


def _step(
    distribution: Distribution, rule: dict[str, Tensor], y: Tensor, u: Tensor, h: Tensor
) -> tuple[Tensor, Tensor]:
    """The new y (B, *event) after a step h (B,) from u (B,), and the estimated error of each sample (B,)."""

    def slope(y: Tensor, u: Tensor) -> Tensor:
        return distribution.posterior_mean(y, torch.ones_like(u), torch.exp(-u)) - y

    def norm(weights: Tensor) -> Tensor:
        total: Tensor = torch.tensordot(weights, torch.stack(slopes), 1)
        return total.flatten(1).square().mean(1).sqrt()

    slopes, new = [slope(y, u)], y
    for row, c in zip([*rule["A"][1:], rule["B"]], [*rule["C"][1:].tolist(), 1.0], strict=True):
        new = y + expand(h, y) * torch.tensordot(row[: len(slopes)], torch.stack(slopes), 1)
        slopes.append(slope(new, u + c * h))
    fifth, third = norm(rule["E5"]), norm(rule["E3"])
    combined = torch.where(fifth > 0, fifth**2 / torch.sqrt(fifth**2 + 0.01 * third**2).clamp(min=1e-300), fifth)
    return new, h.abs() * combined


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
    rule, scale = _dop853(y.device), smallest_scale(distribution)
    end = max(-math.log(1e-6 * scale), 1.0 - math.log(r))
    done = y.double().clone()
    u = torch.full((len(done),), -math.log(r), dtype=torch.float64, device=y.device)
    h = torch.full_like(u, 0.1)
    while len(active := torch.nonzero(end - u >= 1e-12).flatten()):
        here, step = done[active], torch.minimum(h[active], end - u[active])
        new, error = _step(distribution, rule, here, u[active], step)
        size = torch.maximum(*(x.flatten(1).square().mean(1) for x in (here, new))).sqrt()
        error /= tolerance * (scale + size)
        good = error <= 1
        done[active[good]] = new[good]
        u[active] += torch.where(good, step, 0.0)
        h[active] = (step * (0.9 * error.clamp(min=1e-12) ** (-1 / 8)).clamp(0.2, 5.0)).clamp(max=1.5)
        if not bool(((h[active] >= 1e-10) & error.isfinite()).all()):
            raise InputError(f"reference.tolerance: {tolerance} cannot be reached in float64; give a larger one")
    return distribution.posterior_mean(done, 1.0, math.exp(-end))


@dataclass(frozen=True)
class Accuracy:
    """How far two solutions of a hundredfold tolerance are apart: median and largest distance, in model units."""

    median: float
    largest: float


def accuracy(distribution: Distribution, y: Tensor, r: float, tolerance: float, found: Tensor) -> Accuracy:
    """An estimate from above of the error of `found` = endpoints(distribution, y, r, tolerance)."""
    apart = (endpoints(distribution, y, r, min(100 * tolerance, 0.5)) - found).flatten(1).norm(dim=1)
    return Accuracy(float(apart.median()), float(apart.max()))
