"""The kernel distance (KID): a maximum mean discrepancy with a polynomial kernel, for features of a network."""

import torch
from torch import Tensor

from scoresde.metrics._events import flat_pair
from scoresde.results.interval import Interval, student


def polynomial_mmd2(x: Tensor, y: Tensor) -> float:
    """Squared maximum mean discrepancy between clouds x (n, k) and y (m, k), without bias; no unit.

        MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y),   k(x, y) = (x·y / k + 1)³

    Pairs of a point with itself are left out, so it is zero on average for equal distributions, and then often
    negative.

    Raises:
        ValueError: a cloud of fewer than two points, or events of two shapes.

    Reference: M. Binkowski et al., Demystifying MMD GANs, arXiv 1801.01401, section 4.
    """
    x, y = flat_pair(x.double(), y.double())
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"the unbiased estimate needs two points at least: {n} and {m}")

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def own(a: Tensor) -> Tensor:
        gram = kernel(a, a)
        return (gram.sum() - gram.trace()) / (len(a) * (len(a) - 1))

    return float(own(x) + own(y) - 2 * kernel(x, y).mean())


def kernel_distance(x: Tensor, y: Tensor, block: int = 1000, seed: int = 0) -> Interval:
    """`polynomial_mmd2` of disjoint blocks of clouds x (n, k) and y (m, k), with Student's interval for their mean.

    The blocks are drawn without replacement, so their values are independent given the two distributions, and the
    interval is for the distance between the distributions. There are as many blocks as both clouds have points for; a
    cloud of fewer than `block` points is one block, without an interval.

    Raises:
        ValueError: a cloud of fewer than two points, or events of two shapes.
    """
    count = max(1, min(len(x), len(y)) // block)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(cloud), generator=generator) for cloud in (x, y)]
    parts = [torch.split(cloud[order], block)[:count] for cloud, order in zip((x, y), orders, strict=True)]
    return student([polynomial_mmd2(a, b) for a, b in zip(*parts, strict=True)])
