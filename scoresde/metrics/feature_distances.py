"""Comparisons of two clouds of features: Frechet distance, kernel distance, precision and recall."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from scoresde.metrics._events import flat_pair
from scoresde.results.interval import Interval, student

# Distances held at a time: 64 MB in float64.
_CHUNK = 2**23


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Squared 2-Wasserstein distance between Gaussians with the moments of clouds x (n, k) and y (m, k).

        d² = |a - b|² + tr(A + B - 2 (A^1/2 B A^1/2)^1/2)

    with means a, b and covariances A, B (over n - 1), in float64.

    Raises:
        ValueError: a cloud of fewer than two points, or events of two shapes.

    Reference: D. Dowson and B. Landau, The Frechet distance between multivariate normal distributions, 1982.
    """
    x, y = flat_pair(x.double(), y.double())
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a covariance needs two points at least: {len(x)} and {len(y)}")
    # one feature has a variance, which torch gives without axes
    a, b = (torch.cov(cloud.T).reshape(cloud.shape[1], -1) for cloud in (x, y))
    variances, axes = torch.linalg.eigh(a)
    root = (axes * variances.clamp(min=0).sqrt()) @ axes.T
    middle = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + a.trace() + b.trace() - 2 * middle)


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


class PrecisionRecall(NamedTuple):
    """Both are shares in [0, 1]."""

    precision: float
    recall: float


def precision_recall(samples: Tensor, real: Tensor, neighbours: int = 3) -> PrecisionRecall:
    """Improved precision and recall of samples (n, *event) against real items (m, *event).

    The manifold of a cloud is the union of balls around its points, each as far as the k-th nearest other point.
    Precision is the share of samples on the manifold of the real items, recall the share of real items on that of the
    samples. Both depend on n and m: compare values of equal numbers, and see what real items reach.

    Args:
        neighbours: k; 3 in the paper.

    Raises:
        ValueError: a cloud of at most k points, or events of two shapes.

    Reference: T. Kynkaanniemi et al., Improved precision and recall metric for assessing generative models,
    arXiv 1904.06991, eqs. 1 and 2.
    """
    x, y = flat_pair(samples.double(), real.double())
    if min(len(x), len(y)) <= neighbours:
        raise ValueError(f"{neighbours} neighbours need more points than {len(x)} and {len(y)}")
    centre = y.mean(0)
    x, y = x - centre, y - centre
    return PrecisionRecall(_share_within(x, y, neighbours), _share_within(y, x, neighbours))


def _share_within(x: Tensor, reference: Tensor, k: int) -> float:
    """The share of x (n, D) within the ball of a point of the reference (m, D)."""
    # What squares by matrix products lose to cancellation: a copy of a point must count as within its ball of radius 0.
    slack = 1e-12 * reference.square().sum(1).mean()
    radii = (
        torch.cat([part.topk(k + 1, largest=False).values[:, -1] for part in _squares(reference, reference)]) + slack
    )
    return float(torch.cat([(part <= radii).any(1) for part in _squares(x, reference)]).double().mean())


def _squares(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Squared distances (rows, m) from some points of x (n, D) at a time to all of y (m, D)."""
    norms = y.square().sum(1)
    for part in torch.split(x, max(1, _CHUNK // len(y))):
        yield (part.square().sum(1, keepdim=True) + norms - 2 * part @ y.T).clamp(min=0)
