"""Nearest training items: do samples copy them, and is a class missing?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.constraints import Count
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


def classify(x: Tensor, reference: Tensor, labels: Tensor, neighbours: int = 1) -> Tensor:
    """The class of each of x (n, *event) by vote of its nearest items of reference (m, *event): int64 (n,).

    `labels` (m,) are the classes of the reference. In a tie the class of the nearer neighbour wins.
    """
    classes, coded = torch.unique(labels, return_inverse=True)
    k = min(neighbours, len(reference))
    _, indices = nearest_neighbours(x, reference, k)
    votes = torch.zeros(len(x), len(classes), dtype=torch.float64)
    for place, column in enumerate(indices.cpu().T):
        # The additions sum up to less than one vote: they decide ties and nothing else.
        vote = torch.full((len(x), 1), 1 + 0.5 ** (place + 1), dtype=torch.float64)
        votes.scatter_add_(1, coded[column][:, None], vote)
    given: Tensor = classes[votes.argmax(1)]
    return given


@dataclass(eq=False)
class ClassShares(Metric):
    """The shares of the rarest and of the most frequent class among samples, by nearest training items.

    Data without classes have none.

    Args:
        neighbours: how many training items vote on the class of a sample.

    Raises:
        InputError: neighbours < 1.
    """

    quantities = (
        Quantity("class_share_min", "rarest", "share of the rarest class"),
        Quantity("class_share_max", "commonest", "share of the most frequent class"),
    )
    neighbours: Count = 1

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        labels = dataset.train_labels
        if labels is None:
            return {}
        given = classify(samples, dataset.train, labels, self.neighbours)
        shares = [float((given == label).double().mean()) for label in torch.unique(labels)]
        return {"class_share_min": min(shares), "class_share_max": max(shares)}
