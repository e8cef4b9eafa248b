"""Metrics in the features of a network."""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from scoresde.constraints import Count, NonNegativeInt, at_least
from scoresde.data.dataset import Dataset
from scoresde.metrics._events import UNBIASED, Compared
from scoresde.metrics.feature_distances import frechet_distance, kernel_distance, precision_recall
from scoresde.metrics.features import FeatureMetric
from scoresde.results.metric import Measurement, Needs

_NOTE = "depends on n, on the network and on the held-out items"
_WORDS = "Frechet distance to real data in features of a network"
FRECHET = Compared("frechet_distance", "Frechet", _WORDS, _NOTE, ratio=True)


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

    def needs(self) -> Needs:
        return Needs(2, 2, 2)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        return {"frechet_distance": frechet_distance(*self.pair(samples, dataset))}


@dataclass(eq=False)
class FeatureQuality(FeatureMetric):
    """Frechet distance, kernel distance, precision and recall against held-out data in features of a network.

    All depend on n, on the network and on the held-out items: compare them only where all three are the same.

    Args:
        features: called as features(x) on items (B, *event) in model units, returns (B, ...); or a `Classifier`.
        batch_size: items at a time.
        block: items in each of the disjoint blocks whose spread gives the interval of the kernel distance.
        neighbours: of a point, that decide how far the manifold of precision and recall reaches around it.
        seed: which items make a block.

    Raises:
        InputError: a number out of range.
    """

    quantities = (
        FRECHET,
        Compared("kernel_distance", "kernel", "kernel distance to real data in the same features", UNBIASED),
        Compared("precision", words="share of samples that lie where real items lie", direction="higher"),
        Compared("recall", words="share of real items that lie where samples lie", direction="higher"),
    )
    block: Annotated[int, at_least(2)] = 1000
    neighbours: Count = 3
    seed: NonNegativeInt = 0

    def needs(self) -> Needs:
        least = max(2, self.neighbours + 1)
        return Needs(least, least, least)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float | Measurement]:
        x, real = self.pair(samples, dataset)
        kernel, shares = kernel_distance(x, real, self.block, self.seed), precision_recall(x, real, self.neighbours)
        return {
            "frechet_distance": frechet_distance(x, real),
            "kernel_distance": Measurement(kernel.mean, half=kernel.half),
            **shares._asdict(),
        }
