"""How often each class appears among samples: is one missing?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.constraints import Count
from scoresde.data.dataset import Dataset
from scoresde.metrics.nearest import nearest_neighbours
from scoresde.results.metric import Metric, Quantity


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
