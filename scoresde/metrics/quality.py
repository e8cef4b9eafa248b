"""Metrics in the features of a network."""

import math
from dataclasses import dataclass, replace
from typing import Annotated

from torch import Tensor, nn

from scoresde.constraints import Count, NonNegativeInt, at_least
from scoresde.data.dataset import Dataset
from scoresde.metrics._events import UNBIASED, Compared
from scoresde.metrics.extractor import Extractor
from scoresde.metrics.feature_distances import frechet_distance, frechet_infinite, kernel_distance
from scoresde.metrics.features import FeatureMetric
from scoresde.metrics.manifold import density_coverage, precision_recall
from scoresde.results.metric import Measurement, Needs

_NOTE = "depends on n, on the network and on the held-out items"
_WORDS = "Frechet distance to real data in features of a network"
FRECHET = (
    Compared("frechet_distance", "Frechet", _WORDS, _NOTE, ratio=True, of_n=True),
    Compared("frechet_infinite", "Frechet inf", "Frechet distance, extrapolated to infinite n", UNBIASED),
)
MANIFOLD = (
    Compared("precision", words="share of samples that lie where real items lie", direction="higher", of_n=True),
    Compared("recall", words="share of real items that lie where samples lie", direction="higher", of_n=True),
    Compared("density", words="real items around a sample, over their expected number", direction="higher"),
    Compared("coverage", words="share of real items with a sample near by", direction="higher", of_n=True),
)


def _frechet(x: Tensor, real: Tensor) -> dict[str, float | Measurement]:
    value, half = frechet_infinite(x, real)
    known = {} if math.isnan(value) else {"frechet_infinite": Measurement(value, half=half)}
    return {"frechet_distance": frechet_distance(x, real), **known}


class FrechetDistance(FeatureMetric):
    """Frechet distance of samples to the held-out data in features of a network.

    The distance depends on n, on the network and on the held-out items: compare it only where all three are the same.
    The one that is extrapolated to infinite n depends on the network alone, and has an interval; it is left
    out where half of the samples or of the held-out items are not more than the features.

    Args:
        features: called as features(x) on items (B, *event) in model units, returns (B, ...); or a `Classifier`.
        batch_size: items at a time.

    Raises:
        InputError: batch_size < 1.
    """

    quantities = FRECHET

    def needs(self) -> Needs:
        return Needs(2, 2, 2)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float | Measurement]:
        return _frechet(*self.pair(samples, dataset))


@dataclass(eq=False)
class FeatureQuality(FeatureMetric):
    """Frechet distance, kernel distance, precision, recall, density and coverage in features of a network.

    All are against held-out data. The two distances without bias, `frechet_infinite` and `kernel_distance`, have
    intervals and depend on the network alone; the others depend on n and on the held-out items too: compare them only
    where all three are the same.

    Args:
        features: called as features(x) on items (B, *event) in model units, returns (B, ...); or a `Classifier`.
        batch_size: items at a time.
        block: items in each of the disjoint blocks over which the kernel distance is averaged, as in papers; None takes
            all pairs, which is more precise.
        neighbours: of a point, that decide how far the manifold of precision and recall reaches around it.
        wider: the same of density and coverage.
        seed: which items make a block.

    Raises:
        InputError: a number out of range.
    """

    quantities = (
        *FRECHET,
        Compared("kernel_distance", "kernel", "kernel distance to real data in the same features", UNBIASED),
        *MANIFOLD,
    )
    block: Annotated[int, at_least(2)] | None = None
    neighbours: Count = 3
    wider: Count = 5
    seed: NonNegativeInt = 0

    def needs(self) -> Needs:
        least = max(2, self.neighbours + 1)
        return Needs(least, max(least, self.wider + 1), least)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float | Measurement]:
        x, real = self.pair(samples, dataset)
        kernel = kernel_distance(x, real, self.block, self.seed)
        return {
            **_frechet(x, real),
            "kernel_distance": Measurement(kernel.mean, half=kernel.half),
            **precision_recall(x, real, self.neighbours)._asdict(),
            **density_coverage(x, real, self.wider)._asdict(),
        }


@dataclass(eq=False)
class Diversity(FeatureMetric):
    """Precision and density, how many samples lie in the data, beside recall and coverage, how much of it they reach.

    They are those of `FeatureQuality`, of the values themselves unless features are named, and against held-out data.

    Args:
        features: called as features(x) on items (B, *event) in model units, returns (B, ...); or a `Classifier`.
        batch_size: items at a time.
        neighbours: of a point, that decide how far the manifold of precision and recall reaches around it.
        wider: the same of density and coverage.

    Raises:
        InputError: a number out of range.
    """

    quantities = tuple(replace(q, brief=q.key != "density") for q in MANIFOLD)  # so that a table has room for others
    features: nn.Module | Extractor | str = "pixels"
    neighbours: Count = 3
    wider: Count = 5

    def needs(self) -> Needs:
        least = self.neighbours + 1
        return Needs(least, max(least, self.wider + 1), least)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float | Measurement]:
        x, real = self.pair(samples, dataset)
        found: dict[str, float | Measurement] = {**precision_recall(x, real, self.neighbours)._asdict()}
        return found | density_coverage(x, real, self.wider)._asdict()
