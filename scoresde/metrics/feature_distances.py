"""Comparisons of two clouds of features: Frechet distance and kernel distance."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scoresde.metrics._events import flat_pair
from scoresde.metrics.kernels import discrepancy
from scoresde.results.interval import Interval, student

_GROUPS = 10  # of points, each left out once
_PARTS = 3  # into which clouds are cut at most


class _Moments(NamedTuple):
    """Number, sum and sum of squares of points; the sum of two is that of their union."""

    n: int
    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "_Moments":
        return cls(len(x), x.sum(0), x.T @ x)

    @classmethod
    def union(cls, cells: Sequence["_Moments"]) -> "_Moments":
        n, first, second = zip(*cells, strict=True)
        return cls(sum(n), torch.stack(first).sum(0), torch.stack(second).sum(0))

    @property
    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        mean = self.first / self.n
        return mean, (self.second - self.n * torch.outer(mean, mean)) / (self.n - 1)


def _frechet(x: _Moments, y: _Moments) -> float:
    (mean, a), (other, b) = x.mean_and_covariance, y.mean_and_covariance
    variances, axes = torch.linalg.eigh(a)
    root = (axes * variances.clamp(min=0).sqrt()) @ axes.T
    middle = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum()
    return float((mean - other).square().sum() + a.trace() + b.trace() - 2 * middle)


def _centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two clouds in float64 whose moments lose nothing to a common mean."""
    x, y = flat_pair(x.double(), y.double())
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a covariance needs two points at least: {len(x)} and {len(y)}")
    centre = y.mean(0)
    return x - centre, y - centre


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Squared 2-Wasserstein distance between Gaussians with the moments of clouds x (n, k) and y (m, k).

        d² = |a - b|² + tr(A + B - 2 (A^1/2 B A^1/2)^1/2)

    with means a, b and covariances A, B (over n - 1), in float64. It is too large, by about c / n of n points.

    Raises:
        ValueError: a cloud of fewer than two points, or events of two shapes.

    Reference: D. Dowson and B. Landau, The Frechet distance between multivariate normal distributions, 1982.
    """
    return _frechet(*map(_Moments.of, _centred(x, y)))


def frechet_infinite(x: Tensor, y: Tensor, seed: int = 0) -> Interval:
    """`frechet_distance` of clouds x (n, k) and y (m, k), extrapolated to infinitely many points of both.

        d²(n / g, m / g) = d² + g c,   g = 1, 2, 3

    fitted to the means over the g parts into which both clouds are cut. It is zero on average for equal distributions,
    and then often negative. The interval is that of the jackknife, in which a tenth of the points is left out ten
    times; between equal distributions it is too wide. A part must have more points than there are features: with fewer
    points g ends at 2, and if halves are too small both numbers are NaN.

    Args:
        seed: which points make a part.

    Raises:
        ValueError: a cloud of fewer than two points, or events of two shapes.

    Reference: M. Chong and D. Forsyth, Effectively unbiased FID and Inception score, arXiv 1911.07023, where the
    reference is kept whole.
    """
    x, y = _centred(x, y)
    most = min(_PARTS, min(len(x), len(y)) // max(x.shape[1] + 1, _GROUPS))
    if most < 2:
        return Interval(math.nan, math.nan)
    generator = torch.Generator().manual_seed(seed)
    shuffled = [cloud[torch.randperm(len(cloud), generator=generator)] for cloud in (x, y)]
    # so many that each group, and what is left without one, is dealt out to all parts alike
    per = math.lcm(*range(1, most + 1))
    cells = [[_Moments.of(part) for part in cloud.tensor_split(_GROUPS * per)] for cloud in shuffled]
    left = [_extrapolated([own[: i * per] + own[(i + 1) * per :] for own in cells], most) for i in range(_GROUPS)]
    jackknife = student(left).half * (_GROUPS - 1)
    return Interval(_extrapolated(cells, most), jackknife)


def _extrapolated(cells: Sequence[Sequence[_Moments]], most: int) -> float:
    """The value at g = 0 of the line through the mean distances of g = 1, ..., most parts."""
    values = [
        sum(_frechet(*(_Moments.union(own[i::g]) for own in cells)) for i in range(g)) / g for g in range(1, most + 1)
    ]
    return float(np.polynomial.polynomial.polyfit(np.arange(1, most + 1), values, 1)[0])


def _polynomial(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def polynomial_mmd2(x: Tensor, y: Tensor) -> float:
    """Squared maximum mean discrepancy between clouds x (n, k) and y (m, k), without bias; no unit.

        MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y),   k(x, y) = (x·y / k + 1)³

    Pairs of a point with itself are left out, so it is zero on average for equal distributions, and then often
    negative.

    Raises:
        ValueError: a cloud of fewer than two points, or events of two shapes.

    Reference: M. Binkowski et al., Demystifying MMD GANs, arXiv 1801.01401, section 4.
    """
    return kernel_distance(x, y).mean


def kernel_distance(x: Tensor, y: Tensor, block: int | None = None, seed: int = 0) -> Interval:
    """`polynomial_mmd2` between clouds x (n, k) and y (m, k) with its interval, for the distributions behind them.

    All pairs count at once, see `scoresde.metrics.kernels.discrepancy`. With `block` it is the mean over disjoint
    blocks of that many points, drawn without replacement, with Student's interval, as in papers: the same on average
    and less precise. There are as many blocks as both clouds have points for, and one at least, without an interval.

    Raises:
        ValueError: a cloud of fewer than two points, or events of two shapes.
    """
    x, y = flat_pair(x.double(), y.double())
    if block is None:
        return discrepancy(x, y, _polynomial).interval
    count = max(1, min(len(x), len(y)) // block)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(cloud), generator=generator) for cloud in (x, y)]
    blocks = [torch.split(cloud[order], block)[:count] for cloud, order in zip((x, y), orders, strict=True)]
    return student([discrepancy(a, b, _polynomial).value for a, b in zip(*blocks, strict=True)])
