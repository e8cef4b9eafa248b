"""The maximum mean discrepancy between two clouds of any sizes, with a Gaussian kernel."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.constraints import Positive
from scoresde.data.dataset import Dataset
from scoresde.metrics._events import UNBIASED, Compared, flat_pair
from scoresde.metrics.energy import discrepancy
from scoresde.results.metric import Metric

# Points whose distances give the bandwidth: two million pairs.
_MOST_POINTS = 2000


def median_distance(x: Tensor) -> float:
    """The median of the distances between two different points of x (n, *event), of at most 2,000 of them."""
    return float(torch.pdist(x[:_MOST_POINTS].flatten(1)).median())


def mmd2(x: Tensor, y: Tensor, bandwidth: float, unbiased: bool = True) -> float:
    """Squared maximum mean discrepancy between clouds x (n, *event) and y (m, *event); no unit.

        MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y),   k = exp(-|x - y|² / (2 bandwidth²))

    The unbiased estimate is zero on average for equal distributions, and then often negative.

    Raises:
        ValueError: an empty cloud, one of a single point for the unbiased estimate, or events of two shapes.

    Reference: A. Gretton et al., A kernel two-sample test, JMLR 2012, lemma 6.
    """
    x, y = flat_pair(x, y)
    return discrepancy(x, y, lambda d: torch.exp(-d.square() / (2 * bandwidth**2)), unbiased)


@dataclass(eq=False)
class MMD(Metric):
    """Squared maximum mean discrepancy of samples to the held-out data.

    Args:
        bandwidth: of the Gaussian kernel, in model units; None takes the median distance between two held-out items,
            which is the same for all samples.
        unbiased: zero on average between equal distributions, whatever the numbers of points; else never negative.

    Raises:
        InputError: bandwidth <= 0.
    """

    quantities = (Compared("mmd2", "MMD²", "squared maximum mean discrepancy to real data, Gaussian kernel", UNBIASED),)
    bandwidth: Positive | None = None
    unbiased: bool = True

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        bandwidth = self.bandwidth or median_distance(dataset.heldout)
        return {"mmd2": mmd2(samples, dataset.heldout, bandwidth, self.unbiased)}
