"""Balls around points as the manifold of a cloud: precision and recall, density and coverage."""

from typing import NamedTuple

import torch
from torch import Tensor

from scoresde.metrics._events import flat_pair
from scoresde.metrics.kernels import parts, squares


class PrecisionRecall(NamedTuple):
    """Both are shares in [0, 1]."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """The density is about 1 for a perfect sampler, the coverage a share in [0, 1]."""

    density: float
    coverage: float


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
    x, y = _pair(samples, real, neighbours, min(len(samples), len(real)))
    (within, _), (found, _) = _within(x, y, neighbours), _within(y, x, neighbours)
    return PrecisionRecall(_share(within > 0), _share(found > 0))


def density_coverage(samples: Tensor, real: Tensor, neighbours: int = 5) -> DensityCoverage:
    """Density and coverage of samples (n, *event) against real items (m, *event).

    With balls around the real items as in `precision_recall`: the density is the mean number of balls in which a sample
    lies, over k, and the coverage is the share of balls with a sample. An outlier among real items, whose ball is
    large, counts less than in precision. For a perfect sampler the expected density is 1, and the coverage is
    1 - (m - 1) ... (m - k) / ((n + m - 1) ... (n + m - k)).

    Args:
        neighbours: k; 5 in the paper.

    Raises:
        ValueError: at most k real items, no sample, or events of two shapes.

    Reference: M. Naeem et al., Reliable fidelity and diversity metrics for generative models, arXiv 2002.09797,
    section 3.
    """
    x, y = _pair(samples, real, neighbours, len(real))
    within, found = _within(x, y, neighbours)
    return DensityCoverage(float(within.double().mean()) / neighbours, _share(found))


def _share(flags: Tensor) -> float:
    return float(flags.double().mean())


def _pair(samples: Tensor, real: Tensor, neighbours: int, points: int) -> tuple[Tensor, Tensor]:
    x, y = flat_pair(samples.double(), real.double())
    if points <= neighbours:
        raise ValueError(f"{neighbours} neighbours need more points than {len(x)} and {len(y)}")
    centre = y.mean(0)
    return x - centre, y - centre


def _within(x: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """In how many balls of the reference (m, D) each of x (n, D) lies (n,), and which balls have one (m,), bool."""
    # What squares by matrix products lose to cancellation: a copy of a point lies within its ball, even of radius 0.
    slack = 1e-12 * reference.square().sum(1).mean()
    own = (squares(part, reference) for _, part in parts(reference, reference))
    radii, counts = torch.cat([part.topk(k + 1, largest=False).values[:, -1] for part in own]) + slack, []
    found = torch.zeros(len(reference), dtype=torch.bool, device=x.device)
    for _, part in parts(x, reference):
        inside = squares(part, reference) <= radii
        counts.append(inside.sum(1))
        found |= inside.any(0)
    return torch.cat(counts), found
