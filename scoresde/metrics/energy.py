"""The energy distance between two clouds of any sizes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.data.dataset import Dataset
from scoresde.metrics._events import UNBIASED, Compared, flat_pair, pair_mean
from scoresde.results.metric import Metric


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

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        return {"energy_distance": energy_distance(samples, dataset.heldout, self.unbiased)}
