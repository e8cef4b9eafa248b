"""The Frechet distance between two clouds in the space of a feature network."""

import torch
from torch import Tensor

from scoresde.data.dataset import Dataset
from scoresde.metrics._events import Compared, flat_pair
from scoresde.metrics.features import FeatureMetric


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


FRECHET = Compared(
    "frechet_distance",
    "Frechet",
    "Frechet distance to real data in features of a network",
    "depends on n, on the network and on the held-out items",
    ratio=True,
)


class FrechetDistance(FeatureMetric):
    """Frechet distance of samples to the held-out data in features of a network.

    The value depends on n, on the network and on the held-out items: compare it only where all three are the same.

    Args:
        features: called as features(x) on items (B, *event) in model units, returns (B, ...); or a `Classifier`.
        batch_size: items at a time.

    Raises:
        InputError: batch_size < 1.
    """

    quantities = (FRECHET,)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        return {"frechet_distance": frechet_distance(*self.pair(samples, dataset))}
