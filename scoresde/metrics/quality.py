"""Four figures of merit of samples in the features of one network, from one pass through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scoresde.errors import require
from scoresde.metrics.classifier import Classifier
from scoresde.metrics.features import features_of, network_of
from scoresde.metrics.frechet import frechet_distance
from scoresde.metrics.kernel import kernel_distance
from scoresde.metrics.manifold import precision_recall

if TYPE_CHECKING:
    from scoresde.data.dataset import Dataset


class FeatureQuality:
    """Frechet distance, kernel distance, precision and recall against held-out data in features of a network.

    Each has the figure of real training items beside it, as many as there are samples. All depend on n, on the network
    and on the items held out: compare them only where all three are the same. Samples with a NaN have NaN for all.

    Args:
        features: called as features(x) on items (B, *event) in model units, returns (B, ...); or a `Classifier`.
        batch_size: items at a time.
        block: items in each of the disjoint blocks whose spread gives the interval of the kernel distance.
        neighbours: of a point, that decide how far the manifold of precision and recall reaches around it.
        seed: which items make a block.

    Raises:
        InputError: a number out of range.
    """

    def __init__(
        self,
        features: nn.Module | Classifier,
        batch_size: int = 500,
        block: int = 1000,
        neighbours: int = 3,
        seed: int = 0,
    ) -> None:
        require(batch_size >= 1, "batch_size", batch_size, "give an integer >= 1")
        require(block >= 2, "block", block, "give an integer >= 2")
        require(neighbours >= 1, "neighbours", neighbours, "give an integer >= 1")
        require(seed >= 0, "seed", seed, "give an integer >= 0")
        self.features, self.batch_size = features, batch_size
        self.block, self.neighbours, self.seed = block, neighbours, seed

    def prepare(self, dataset: Dataset) -> None:
        """Do what takes time or may fail, before a long training and not after it."""
        network_of(self.features, dataset)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        """Figures of samples (n, *event) in model units, and with `_floor` those of n training items.

        `frechet_distance`, `kernel_distance`, `precision`, `recall`; `kernel_distance_half` is half the width of the
        95 % interval.
        """
        chosen = torch.arange(min(len(samples), len(dataset.train))) * len(dataset.train) // len(samples)
        clouds = (samples, dataset.train[chosen], dataset.heldout)
        own, train, real = features_of(self.features, clouds, dataset, self.batch_size)
        floor = {f"{name}_floor": value for name, value in self._figures(train, real).items()}
        return {**self._figures(own, real), **floor}

    def _figures(self, x: Tensor, real: Tensor) -> dict[str, float]:
        names = ("frechet_distance", "kernel_distance", "kernel_distance_half", "precision", "recall")
        if not bool(x.isfinite().all()):
            return dict.fromkeys(names, float("nan"))
        kernel = kernel_distance(x, real, self.block, self.seed)
        shares = precision_recall(x, real, self.neighbours)
        return dict(zip(names, (frechet_distance(x, real), *kernel, *shares), strict=True))
