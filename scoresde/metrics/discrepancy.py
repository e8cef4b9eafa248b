"""Discrepancies of two clouds from means over pairs of points: energy distance and maximum mean discrepancy."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.constraints import Positive
from scoresde.data.dataset import Dataset
from scoresde.metrics._events import UNBIASED, Compared, flat_pair
from scoresde.metrics.kernels import Kernel, discrepancy, parts, squares
from scoresde.results.interval import Interval
from scoresde.results.metric import Measurement, Metric, Needs

# Points whose distances give the bandwidth: two million pairs.
_MOST_POINTS = 2000


def _compared(x: Tensor, y: Tensor, kernel: Kernel, unbiased: bool) -> Interval:
    """The `discrepancy` of two clouds of events; biased, that of the two empirical distributions, without an interval.

    The kernel depends on the distance alone.
    """
    x, y = flat_pair(x, y)
    centre = y.mean(0)
    x, y = x - centre, y - centre
    if unbiased:
        return discrepancy(x, y, kernel).interval

    def mean(a: Tensor, b: Tensor) -> float:
        total = 0.0
        for start, part in parts(a, b):
            gram = kernel(part, b)
            if a is b:  # rounding would leave a point at a distance from itself
                gram.diagonal(start).fill_(float(kernel(a[:1] * 0, a[:1] * 0)))
            total += float(gram.sum(dtype=torch.float64))
        return total / (len(a) * len(b))

    return Interval(mean(x, x) + mean(y, y) - 2 * mean(x, y), math.nan)


def _nearness(x: Tensor, y: Tensor) -> Tensor:
    return -squares(x, y).sqrt()


def _gaussian(bandwidth: float) -> Kernel:
    return lambda x, y: torch.exp(-squares(x, y) / (2 * bandwidth**2))


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
    return _compared(x, y, _nearness, unbiased).mean


@dataclass(eq=False)
class EnergyDistance(Metric):
    """Energy distance of samples to the held-out data, with its interval.

    Args:
        unbiased: zero on average between equal distributions, whatever the numbers of points; else never negative,
            and without an interval.
    """

    quantities = (Compared("energy_distance", "energy", "energy distance to real data", UNBIASED, "model units"),)
    unbiased: bool = True

    def needs(self) -> Needs:
        return Needs(2, 2, 2) if self.unbiased else Needs()

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, Measurement]:
        value, half = _compared(samples, dataset.heldout, _nearness, self.unbiased)
        return {"energy_distance": Measurement(value, half=half)}


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
    return _compared(x, y, _gaussian(bandwidth), unbiased).mean


@dataclass(eq=False)
class MMD(Metric):
    """Squared maximum mean discrepancy of samples to the held-out data, Gaussian kernel, with its interval.

    Args:
        bandwidth: of the Gaussian kernel, in model units; None takes the median distance between two held-out items,
            which is the same for all samples.
        unbiased: zero on average between equal distributions, whatever the numbers of points; else never negative,
            and without an interval.

    Raises:
        InputError: bandwidth <= 0.
    """

    quantities = (Compared("mmd2", "MMD²", "squared maximum mean discrepancy to real data, Gaussian kernel", UNBIASED),)
    bandwidth: Positive | None = None
    unbiased: bool = True

    def needs(self) -> Needs:
        pair = 2 if self.unbiased else 1
        return Needs(pair, pair if self.bandwidth else 2, pair)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, Measurement]:
        kernel = _gaussian(self.bandwidth or median_distance(dataset.heldout))
        value, half = _compared(samples, dataset.heldout, kernel, self.unbiased)
        return {"mmd2": Measurement(value, half=half)}
