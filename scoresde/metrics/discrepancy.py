"""Discrepancies of two clouds from means over pairs of points: energy distance and maximum mean discrepancy."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.constraints import Positive
from scoresde.data.dataset import Dataset
from scoresde.metrics._events import UNBIASED, Compared, flat_pair
from scoresde.results.metric import Metric, Needs

# Distances held at a time: 32 MB in float64.
_CHUNK = 2**22
# Points whose distances give the bandwidth: two million pairs.
_MOST_POINTS = 2000


def pair_mean(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor], distinct: bool) -> float:
    """The mean of kernel(|x_i - y_j|) over all pairs of clouds x (n, D) and y (m, D), summed in float64.

    If `distinct`, x and y are the same cloud and the pairs i = j are left out.

    Raises:
        ValueError: distinct pairs of a cloud of one point.
    """
    if distinct and len(x) < 2:
        raise ValueError("a cloud of one point has no pairs of different points")
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for part in torch.split(x, max(1, _CHUNK // len(y))):
        # differences, not the expansion of the square, whose cancellation would be felt between near points
        distances = torch.cdist(part, y, compute_mode="donot_use_mm_for_euclid_dist")
        total += kernel(distances).double().sum()
    if distinct:
        total -= len(x) * kernel(torch.zeros((), dtype=torch.float64, device=x.device))
    return float(total) / (len(x) * (len(x) - 1) if distinct else len(x) * len(y))


def discrepancy(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor], unbiased: bool) -> float:
    """E k(x, x') + E k(y, y') - 2 E k(x, y) of clouds x (n, D) and y (m, D), for a kernel of the distance |x - y|.

    Unbiased, the pairs of a point with itself are left out of the first two means.
    """
    own = pair_mean(x, x, kernel, unbiased) + pair_mean(y, y, kernel, unbiased)
    return own - 2 * pair_mean(x, y, kernel, False)


def energy_distance(x: Tensor, y: Tensor, unbiased: bool = True) -> float:
    """Energy distance between clouds x (n, *event) and y (m, *event), in their units.

        E = 2 E|x - y| - E|x - x'| - E|y - y'|,   Euclidean norms

    It is zero for equal distributions and positive otherwise. The unbiased estimate leaves out the pairs of a point
    with itself, so it is zero on average for equal distributions, and then often negative. The biased one is the
    distance of the two empirical distributions; in one dimension its root is `scipy.stats.energy_distance`.

    Raises:
        ValueError: an empty cloud, one of a single point for the unbiased estimate, or events of two shapes.

    Reference: G. Szekely and M. Rizzo, Energy statistics, J. Stat. Plan. Inference, 2013.
    """
    x, y = flat_pair(x, y)
    return discrepancy(x, y, torch.neg, unbiased)


@dataclass(eq=False)
class EnergyDistance(Metric):
    """Energy distance of samples to the held-out data.

    Args:
        unbiased: zero on average between equal distributions, whatever the numbers of points; else never negative.
    """

    quantities = (Compared("energy_distance", "energy", "energy distance to real data", UNBIASED, "model units"),)
    unbiased: bool = True

    def needs(self) -> Needs:
        return Needs(2, 2, 2) if self.unbiased else Needs()

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        return {"energy_distance": energy_distance(samples, dataset.heldout, self.unbiased)}


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

    def needs(self) -> Needs:
        pair = 2 if self.unbiased else 1
        return Needs(pair, pair if self.bandwidth else 2, pair)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        bandwidth = self.bandwidth or median_distance(dataset.heldout)
        return {"mmd2": mmd2(samples, dataset.heldout, bandwidth, self.unbiased)}
