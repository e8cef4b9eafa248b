"""Items as a network sees them: the space in which distances between images mean something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scoresde.errors import InputError
from scoresde.metrics.classifier import Classifier

if TYPE_CHECKING:
    from scoresde.data.dataset import Dataset


def network_of(features: nn.Module | Classifier, dataset: Dataset) -> nn.Module:
    """The network that gives the features, trained on the data set if need be.

    Raises:
        InputError: a classifier cannot be trained on these data.
    """
    return features.network(dataset) if isinstance(features, Classifier) else features.eval()


def features_of(
    features: nn.Module | Classifier, clouds: Sequence[Tensor], dataset: Dataset, batch_size: int = 500
) -> list[Tensor]:
    """Features (n, k) on the CPU of each of several clouds (n, *event) in model units.

    Args:
        features: a network called as features(x) on items (B, *event), returns (B, ...); or a `Classifier`, which is
            trained on the data set.
        batch_size: items at a time.

    Raises:
        InputError: the network does not return one tensor with a row for each item.
    """
    network = network_of(features, dataset)
    found = []
    for cloud in clouds:
        with torch.no_grad():
            parts = [network(part) for part in torch.split(cloud.float(), batch_size)]
        if not all(isinstance(part, Tensor) and len(part) for part in parts):
            raise InputError(f"features: {type(network).__name__} must return one tensor (B, ...)")
        found.append(torch.cat([part.flatten(1).cpu() for part in parts]))
    return found
