"""Four metrics of samples in the features of one network, from one pass through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from scoresde.errors import at_least
from scoresde.metrics.classifier import Classifier
from scoresde.metrics.features import FeatureMetric
from scoresde.metrics.frechet import FRECHET, frechet_distance
from scoresde.metrics.kernel import kernel_distance
from scoresde.metrics.manifold import precision_recall
from scoresde.results.metric import Measurement, Quantity

if TYPE_CHECKING:
    from scoresde.data.dataset import Dataset


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
        Quantity(
            "kernel_distance", "kernel", "kernel distance to real data in the same features",
            "unbiased: 0 on average for a perfect sampler", direction="lower", floor="train",
        ),
        Quantity(
            "precision", "", "share of samples that lie where real items lie", direction="higher", floor="train"
        ),
        Quantity(
            "recall", "", "share of real items that lie where samples lie", direction="higher", floor="train"
        ),
    )  # fmt: skip

    def __init__(
        self,
        features: nn.Module | Classifier,
        batch_size: int = 500,
        block: int = 1000,
        neighbours: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__(features, batch_size)
        at_least(2, block=block)
        at_least(1, neighbours=neighbours)
        at_least(0, seed=seed)
        self.block, self.neighbours, self.seed = block, neighbours, seed

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float | Measurement]:
        x, real = self.pair(samples, dataset)
        kernel, shares = kernel_distance(x, real, self.block, self.seed), precision_recall(x, real, self.neighbours)
        return {
            "frechet_distance": frechet_distance(x, real),
            "kernel_distance": Measurement(kernel.mean, half=kernel.half),
            **shares._asdict(),
        }
