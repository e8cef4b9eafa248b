"""Nearest training items: do samples copy them?"""

import torch
from torch import Tensor

from scoresde.data.dataset import Dataset
from scoresde.metrics._events import flat_pair
from scoresde.results.metric import Metric, Quantity

# Distances held at a time: 64 MB in float32.
_CHUNK = 2**24


def nearest_neighbours(x: Tensor, reference: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k nearest items of reference (m, *event) to each of x (n, *event): distances and indices (n, k).

    Euclidean distances, nearest first.

    Raises:
        ValueError: an empty cloud, or events of two shapes.
    """
    x, reference = flat_pair(x, reference)
    centre = reference.mean(0)
    x, reference = x - centre, reference - centre
    norms = reference.square().sum(1)
    distances, indices = [], []
    for part in torch.split(x, max(1, _CHUNK // len(reference))):
        # |y|² - 2 x·y finds the nearest at the speed of a matrix product, but cancels for near copies, the
        # very ones of interest: the distances to those found are taken from the differences.
        found = torch.topk(norms - 2 * part @ reference.T, k, largest=False).indices
        exact = torch.stack([(part - reference[column]).norm(dim=1) for column in found.T], dim=1)
        exact, order = exact.sort(dim=1)
        distances.append(exact)
        indices.append(found.gather(1, order))
    return torch.cat(distances), torch.cat(indices)


class NearestNeighbour(Metric):
    """Mean distance of samples to the nearest training item."""

    quantities = (
        Quantity(
            "nearest_train", "nearest", "mean distance to the nearest training item",
            "well below that of held-out items, the floor, samples are copies", "model units",
            floor="heldout", ratio=True,
        ),
    )  # fmt: skip

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        return {"nearest_train": float(nearest_neighbours(samples, dataset.train)[0].double().mean())}
