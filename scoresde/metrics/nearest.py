"""Nearest training items: do samples copy them, and is a class missing?"""

from dataclasses import dataclass, field

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
    """The shares of classes among samples, by nearest training items: the extremes, and the farthest from the data.

    Data without classes have none. The expected share of a class is that of all items, after the mistakes that the
    same nearest training items make with the held-out items.

    Args:
        neighbours: how many training items vote on the class of a sample.

    Raises:
        InputError: neighbours < 1.
    """

    quantities = (
        Quantity("class_share_min", "rarest", "share of the rarest class"),
        Quantity("class_share_max", "commonest", "share of the most frequent class"),
        Quantity(
            "class_deviation", "classes", "largest deviation of the share of a class, in standard deviations",
            "2 to 3 for a perfect sampler", direction="lower", floor="train", brief=False,
        ),
    )  # fmt: skip
    neighbours: Count = 1
    _known: dict[int, tuple[Dataset, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        labels, n = dataset.train_labels, len(samples)
        if labels is None:
            return {}
        shares = _shares(classify(samples, dataset.train, labels, self.neighbours), torch.unique(labels))
        found = {"class_share_min": float(shares.min()), "class_share_max": float(shares.max())}
        if dataset.heldout_labels is None:
            return found
        if id(dataset) not in self._known:
            self._known[id(dataset)] = dataset, self._expected(dataset, labels, dataset.heldout_labels)
        expected = self._known[id(dataset)][1]
        items = len(labels) + len(dataset.heldout)
        chance = (expected * (1 - expected) * (1 / n + 1 / items)).sqrt().clamp(min=1 / n)
        return found | {"class_deviation": float(((shares - expected).abs() / chance).max())}

    def _expected(self, dataset: Dataset, labels: Tensor, others: Tensor) -> Tensor:
        """The shares that a perfect sampler has on average, in the order of the classes."""
        classes = torch.unique(labels)
        given = classify(dataset.heldout, dataset.train, labels, self.neighbours)
        true = _shares(torch.cat([labels, others]), classes)
        rows = [_shares(given[others == c] if bool((others == c).any()) else c[None], classes) for c in classes]
        return true @ torch.stack(rows)


def _shares(given: Tensor, classes: Tensor) -> Tensor:
    return (given.cpu()[:, None] == classes).double().mean(0)
