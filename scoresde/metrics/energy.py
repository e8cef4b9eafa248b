"""The energy distance between two clouds of any sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scoresde.metrics._events import flat_pair, pair_mean

if TYPE_CHECKING:
    from scoresde.data.dataset import Dataset


def discrepancy(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor], unbiased: bool) -> float:
    """E k(x, x') + E k(y, y') - 2 E k(x, y) of clouds x (n, D) and y (m, D), for a kernel of the distance |x - y|.

    Unbiased, the pairs of a point with itself are left out of the first two means.
    """
    own = pair_mean(x, x, kernel, unbiased) + pair_mean(y, y, kernel, unbiased)
    return own - 2 * pair_mean(x, y, kernel, False)


def energy_distance(x: Tensor, y: Tensor, unbiased: bool = True) -> float:
    """Energy distance between clouds x (n, *event) and y (m, *event), in their units.

        E = 2 E|x - y| - E|x - x'| - E|y - y'|,   Euclidean norms

    It is zero for equal laws and positive otherwise. The unbiased estimate leaves out the pairs of a point with
    itself, so that it is zero on average for equal laws, and then often negative. The other one is the distance of
    the two empirical laws; in one dimension its root is `scipy.stats.energy_distance`.

    Raises:
        ValueError: an empty cloud, one of a single point for the unbiased estimate, or events of two shapes.

    Reference: G. Szekely and M. Rizzo, Energy statistics, J. Stat. Plan. Inference, 2013.
    """
    x, y = flat_pair(x, y)
    return discrepancy(x, y, torch.neg, unbiased)


class EnergyDistance:
    """Energy distance of samples to the held-out data, with that of the training data beside it.

    Args:
        unbiased: zero on average between equal laws, whatever the numbers of points; else never negative.
    """

    def __init__(self, unbiased: bool = True) -> None:
        self.unbiased = unbiased

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        """Figures of samples (n, *event) in model units.

        `energy_distance`: samples to held-out data. `energy_distance_floor`: training to held-out data.
        """
        return {
            "energy_distance": energy_distance(samples, dataset.heldout, self.unbiased),
            "energy_distance_floor": energy_distance(dataset.train, dataset.heldout, self.unbiased),
        }
