"""Two clouds compared by a kernel: the squared maximum mean discrepancy without bias, and its standard error."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from scoresde.results.interval import TWO_SIDED, Interval

Kernel = Callable[[Tensor, Tensor], Tensor]  # points (n, D) and (m, D) to k(x_i, y_j) (n, m)
# Values of the kernel held at a time: 64 MB in float64.
_CHUNK = 2**23
_LEAST = 4  # points from which on the standard error can be estimated without bias


def squares(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (n, m) between points x (n, D) and y (m, D), by matrix products: centre them before."""
    return (x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T).clamp_(min=0)


def parts(x: Tensor, y: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Some points of x at a time, with the number of the first, so that a matrix of them with y fits into memory."""
    size = max(1, _CHUNK // len(y))
    yield from zip(range(0, len(x), size), torch.split(x, size), strict=True)


class Discrepancy(NamedTuple):
    """The unbiased estimate, and its variance; NaN with fewer than four points in a cloud."""

    value: float
    variance: float

    @property
    def interval(self) -> Interval:
        """The value with its 95 % interval."""
        return Interval(self.value, TWO_SIDED * self.variance**0.5)


def discrepancy(x: Tensor, y: Tensor, kernel: Kernel) -> Discrepancy:
    """The squared maximum mean discrepancy between clouds x (n, D) and y (m, D), without bias. Sums are in float64.

        U = E k(x, x') + E k(y, y') - 2 E k(x, y)   over all pairs of different points

    Its variance is, with a(x) = E k(x, x') - E k(x, y) and b(y) likewise, and z the variance of the kernel after both
    of its means are subtracted,

        4 (Var a / n + Var b / m) + 2 (z_xx / n(n-1) + z_yy / m(m-1) + 2 z_xy / nm)

    estimated without bias where the first part rules, between different distributions. Between equal ones it vanishes,
    and the second, which is the least that is returned, remains: the interval holds for both.

    Raises:
        ValueError: a cloud of fewer than two points.

    Reference: D. Sutherland and N. Deka, Unbiased estimators for the variance of MMD estimators, arXiv 1906.02104.
    """
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"a cloud of one point has no pairs, two points have: {n} and {m}")
    xx, yy, xy = _Gram.of(x, x, kernel), _Gram.of(y, y, kernel), _Gram.of(x, y, kernel)
    value = xx.own_mean + yy.own_mean - 2 * float(xy.rows.sum()) / (n * m)
    if min(n, m) < _LEAST:
        return Discrepancy(value, math.nan)
    a, b = xx.rows / (n - 2) - xy.rows / m, yy.rows / (m - 2) - xy.columns / n  # - 2: a mean has a share of all others
    z_xx, z_yy, z_xy = 2 * xx.own_noise / (n * (n - 1)), 2 * yy.own_noise / (m * (m - 1)), 4 * xy.noise / (n * m)
    # the spread of the means holds the noise of these means, more than twice as much as there should be
    variance = 4 * float(a.var() / n + b.var() / m) - n / (n - 2) * z_xx - m / (m - 2) * z_yy - z_xy
    return Discrepancy(value, max(variance, z_xx + z_yy + z_xy))


class _Gram(NamedTuple):
    """Sums over a matrix k(x_i, y_j); of one cloud with itself the pairs of a point with itself are left out."""

    rows: Tensor
    columns: Tensor
    squares: float

    @classmethod
    def of(cls, x: Tensor, y: Tensor, kernel: Kernel) -> "_Gram":
        rows: list[Tensor] = []
        columns, total = torch.zeros(len(y), dtype=torch.float64, device=x.device), 0.0
        for start, part in parts(x, y):
            gram = kernel(part, y)
            if x is y:
                gram.diagonal(start).zero_()
            rows.append(gram.sum(1, dtype=torch.float64))
            columns += gram.sum(0, dtype=torch.float64)
            total += float(gram.square().sum(dtype=torch.float64))
        return cls(torch.cat(rows), columns, total)

    @property
    def own_mean(self) -> float:
        return float(self.rows.sum()) / (len(self.rows) * (len(self.rows) - 1))

    @property
    def own_noise(self) -> float:
        """E (k(1, 2) - k(1, .) - k(., 2) + k(., .))², each mean over different points."""
        n, total, rows = len(self.rows), float(self.rows.sum()), float(self.rows.square().sum())
        shared = (rows - self.squares) / (n * (n - 1) * (n - 2))
        apart = (total**2 - 4 * rows + 2 * self.squares) / (n * (n - 1) * (n - 2) * (n - 3))
        return max(0.0, self.squares / (n * (n - 1)) - 2 * shared + apart)

    @property
    def noise(self) -> float:
        """The same between two clouds."""
        n, m, total = len(self.rows), len(self.columns), float(self.rows.sum())
        rows, columns = float(self.rows.square().sum()), float(self.columns.square().sum())
        pairs = n * m
        apart = (total**2 - rows - columns + self.squares) / (pairs * (n - 1) * (m - 1))
        shared = (rows - self.squares) / (pairs * (m - 1)) + (columns - self.squares) / (pairs * (n - 1))
        return max(0.0, self.squares / pairs - shared + apart)
