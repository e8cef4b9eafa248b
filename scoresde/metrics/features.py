"""Items as a network sees them: the space in which distances between images are meaningful."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from scoresde.constraints import Count
from scoresde.data.dataset import Dataset
from scoresde.errors import InputError
from scoresde.metrics.classifier import Classifier
from scoresde.results.metric import Metric


def features_of(network: Callable[[Tensor], Tensor], items: Tensor, batch_size: int = 500) -> Tensor:
    """Features (n, k) on the CPU of items (n, *event) in model units.

    Args:
        network: called as network(x) on items (B, *event), returns (B, ...).
        items: the items.
        batch_size: items at a time.

    Raises:
        InputError: the network does not return one tensor with a row for each item.
    """
    with torch.no_grad():
        parts = [network(part) for part in torch.split(items.float(), batch_size)]
    if not all(isinstance(part, Tensor) and part.shape[:1] for part in parts) or sum(map(len, parts)) != len(items):
        raise InputError(f"features: {type(network).__name__} must return one tensor (B, ...)")
    return torch.cat([part.flatten(1).cpu() for part in parts])


@dataclass(eq=False)
class FeatureMetric(Metric):
    """A metric in features of a network; those of the held-out items are computed once.

    Args:
        features: called as features(x) on items (B, *event) in model units, returns (B, ...); or a `Classifier`.
        batch_size: items at a time.

    Raises:
        InputError: batch_size < 1.
    """

    features: nn.Module | Classifier
    batch_size: Count = 500
    _known: dict[int, tuple[Dataset, nn.Module, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def prepare(self, dataset: Dataset) -> None:
        """Train the network if need be, and compute the features of the held-out items."""
        if id(dataset) not in self._known:
            own = self.features
            network = own.network(dataset) if isinstance(own, Classifier) else own.eval()
            self._known[id(dataset)] = dataset, network, features_of(network, dataset.heldout, self.batch_size)

    def pair(self, samples: Tensor, dataset: Dataset) -> tuple[Tensor, Tensor]:
        """The features (n, k) of samples and (m, k) of held-out items."""
        self.prepare(dataset)
        _, network, real = self._known[id(dataset)]
        return features_of(network, samples, self.batch_size), real
