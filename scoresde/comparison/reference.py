"""The exact endpoint of the probability-flow ODE at noise zero, in float64, by a rule that no sampler here uses.

In y = x / alpha and r = sigma / alpha every SDE has the same equation dy/dr = eps, so the endpoint of a start (y, r) is
the same for all. It is integrated in u = -log r,

    dy/du = -(y - x0(y, r)),   x0(y, r) = E[x_0 | x_0 + r z = y]

by Dormand and Prince's rule of order 8 with step control, down to an r far below any feature of the distribution;
there y -> x0(y, r) leaves an error of order r^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
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


def endpoints(distribution: Distribution, y: Tensor, r: float, tolerance: float = 1e-9) -> Tensor:
    """Where the exact flow carries y = x / alpha (B, *event) from r = sigma / alpha to r = 0; float64.

    Args:
        distribution: of the data.
        y: the starts.
        r: their noise level.
        tolerance: the error of one step, relative to the smallest feature of the distribution and |y|; the root mean
            square over all samples.

    Raises:
        InputError: no step is small enough.
    """
    from scipy.integrate import solve_ivp  # costs 0.4 s, so only when used

    require(0 < tolerance < 1, "reference.tolerance", tolerance, "give a number between 0 and 1, such as 1e-9")
    scale = smallest_scale(distribution)
    end = -math.log(1e-6 * scale)

    def states(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).reshape(y.shape).to(y.device)

    def slope(u: float, values: np.ndarray) -> np.ndarray:
        x = states(values)
        return (distribution.posterior_mean(x, 1.0, math.exp(-u)) - x).flatten().cpu().numpy()

    start = y.double().flatten().cpu().numpy()
    found = solve_ivp(slope, (-math.log(r), end), start, "DOP853", rtol=tolerance, atol=tolerance * scale)
    if not found.success:
        raise InputError(f"reference.tolerance: {tolerance} cannot be reached in float64; give a larger one")
    return distribution.posterior_mean(states(found.y[:, -1]), 1.0, math.exp(-end))


@dataclass(frozen=True)
class Accuracy:
    """How far two solutions of a hundredfold tolerance are apart: median and largest distance, in model units."""

    median: float
    largest: float


def accuracy(distribution: Distribution, y: Tensor, r: float, tolerance: float, found: Tensor) -> Accuracy:
    """An estimate from above of the error of `found` = endpoints(distribution, y, r, tolerance)."""
    apart = (endpoints(distribution, y, r, min(100 * tolerance, 0.5)) - found).flatten(1).norm(dim=1)
    return Accuracy(float(apart.median()), float(apart.max()))
