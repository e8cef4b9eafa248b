"""Precision and recall: how many samples lie where real items lie, and how many real items lie where samples do."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from scoresde.metrics._events import flat_pair

# Distances held at a time: 64 MB in float64.
_CHUNK = 2**23


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
