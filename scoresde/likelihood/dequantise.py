"""Dequantisation: lower bounds of the probability of quantised data from the density of a model at the cut-off.

A model that is stopped at the cut-off, where x = alpha x_0 + sigma eps, and whose x / alpha is rounded to the nearest
level, gives an item x_0 the probability of the cell C around it, a box of width w:

    (1)  P(x_0) = integral over x / alpha in C of p(x) dx

With draws x_k from a density q(x | x_0) on that box, and with log weights l_k = log p(x_k) - log q(x_k | x_0),

    (2)  E[ mean_k l_k ]                    <=  E[ log mean_k exp(l_k) ]  <=  log P(x_0)

The first is the usual bound, averaged over draws; the second is importance-weighted, is the tighter one, increases with
the number of draws and converges to log P (Burda et al. 2016, arXiv 1509.00519, theorem 1). The gap of the first is
KL(q | p restricted to the cell). Both hold for `uniform` q,

    (3)  x = alpha (x_0 + w (u - 1/2)),   u ~ U[0, 1)^D,   log q = -sum log(alpha w)

and for the `truncated normal` one, the noise of the cut-off kept within the cell (Zheng et al. 2023, arXiv 2305.03935),

    (4)  x = alpha x_0 + sigma e,   e ~ N(0, 1) on |e| <= tau,   tau = alpha w / (2 sigma)
         log q = sum [ -e^2/2 - log(2 pi sigma^2)/2 - log Z ],   Z = 2 Phi(tau) - 1

A network has seen noised levels, and not what lies between them, so the second is close to its density. Where the
density is smooth over a cell, (3) is the tighter one, and with tau above 3 few draws carry all the weight of (4). Its
entropy is closed in each dimension,

    (5)  E[-log q] = log(2 pi e sigma^2)/2 + log Z - tau phi(tau) / Z

of which the first term is that of the noise, and the rest, taken negative, is the cost of reading the level from x.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.special import ndtri

from scoresde._shapes import flat

Kind = Literal["uniform", "truncated_normal"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Cells:
    """The cells of quantised data at the cut-off.

    Args:
        width: w in model units.
        alpha: at the cut-off.
        sigma: likewise.
    """

    width: float
    alpha: float
    sigma: float

    @property
    def tau(self) -> float:
        """Half of the width of a cell in standard deviations of the noise, eq. (4)."""
        return self.alpha * self.width / (2 * self.sigma)

    def draw(self, kind: Kind, x0: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """x of eq. (3) or (4), and log q of it.

        Args:
            kind: of q.
            x0: items in model units (B, *event), float64.
            u: uniform numbers in [0, 1), of that shape.

        Returns:
            x (B, *event) and log q (B,), float64.
        """
        if kind == "uniform":
            log_q = torch.full_like(x0, -math.log(self.alpha * self.width))
            return self.alpha * (x0 + self.width * (u - 0.5)), flat(log_q).sum(1)
        mass, log_mass = self._mass
        e = ndtri((1 - mass) / 2 + mass * u).clamp(-self.tau, self.tau)  # u = 0 of a mass of 1 would be infinite
        log_q = -0.5 * (e**2 + math.log(2 * math.pi * self.sigma**2)) - log_mass
        return self.alpha * x0 + self.sigma * e, flat(log_q).sum(1)

    @property
    def reconstruction(self) -> float:
        """-log p(x_0 | x) of truncated noise, in nats a value: eq. (5) without the entropy of the noise, negative."""
        mass, log_mass = self._mass
        return self.tau * math.exp(-0.5 * self.tau**2) / math.sqrt(2 * math.pi) / mass - log_mass

    @property
    def _mass(self) -> tuple[float, float]:
        """Z and its logarithm."""
        half = self.tau / math.sqrt(2)
        mass = math.erf(half)
        return mass, math.log1p(-math.erfc(half)) if half > 1 else math.log(mass)


class Bounds(NamedTuple):
    """The two bounds of eq. (2) for each item, in nats (n,), and their standard errors over the draws, NaN for one.

    Attributes:
        mean: the mean of the log weights.
        weighted: the logarithm of the mean weight; never below `mean`.
        mean_error: of `mean`.
        weighted_error: of `weighted`, to first order in 1 / K.
        shares: of the draws in `weighted`, (n, K), which sum to 1.
    """

    mean: Tensor
    weighted: Tensor
    mean_error: Tensor
    weighted_error: Tensor
    shares: Tensor


def bounds(log_weights: Tensor) -> Bounds:
    """The bounds from K log weights of each item, (n, K)."""
    k = log_weights.shape[1]
    weighted = torch.logsumexp(log_weights, 1) - math.log(k)
    shares = torch.softmax(log_weights, 1)
    unknown = torch.full_like(weighted, math.nan)
    spreads = (log_weights.std(1) / math.sqrt(k), shares.std(1) * math.sqrt(k)) if k > 1 else (unknown, unknown)
    return Bounds(log_weights.mean(1), weighted, *spreads, shares)
