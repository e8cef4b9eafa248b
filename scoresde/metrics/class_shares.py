"""Is a class missing, or too frequent? The shares of classes among samples, by votes of nearest training items."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scoresde.constraints import Count
from scoresde.data.dataset import Dataset
from scoresde.metrics.features import FeatureMetric, features_of
from scoresde.metrics.nearest import nearest_neighbours
from scoresde.results.metric import Quantity, evenly

_MOST = 10_000  # training items that vote


def votes(x: Tensor, reference: Tensor, coded: Tensor, classes: int, neighbours: int) -> Tensor:
    """The share of each class in the votes of the nearest items (m, *event) to x (n, *event), as (n, classes).

    `coded` (m,) are the numbers of the classes of the reference, from 0 on. Nearer items count a little more: the
    additions sum up to less than one vote, so they decide ties.
    """
    k = min(neighbours, len(reference))
    _, indices = nearest_neighbours(x, reference, k)
    found = torch.zeros(len(x), classes, dtype=torch.float64)
    for place, column in enumerate(indices.cpu().T):
        vote = torch.full((len(x), 1), 1 + 0.5 ** (place + 1), dtype=torch.float64)
        found.scatter_add_(1, coded[column][:, None], vote)
    return found / found.sum(1, keepdim=True)


def classify(x: Tensor, reference: Tensor, labels: Tensor, neighbours: int = 1) -> Tensor:
    """The class of each of x (n, *event) by vote of its nearest items of reference (m, *event): int64 (n,).

    `labels` (m,) are the classes of the reference. In a tie the class of the nearer neighbour wins.
    """
    classes, coded = torch.unique(labels, return_inverse=True)
    given: Tensor = classes[votes(x, reference, coded, len(classes), neighbours).argmax(1)]
    return given


class Shares(NamedTuple):
    """What the votes of a perfect sampler are on average, of K classes.

    Attributes:
        means: of items of each class (K, K).
        prior: the share of each class in the data (K,).
        within: covariance of the votes of items of one class (K, K).
        items: labelled items, which give the prior.
        heldout: items that give the means.
    """

    means: Tensor
    prior: Tensor
    within: Tensor
    items: int
    heldout: int

    @classmethod
    def of(cls, votes: Tensor, classes: Tensor, counts: Tensor) -> "Shares":
        """From votes (m, K) of held-out items, their classes (m,), and the number of items of each class (K,)."""
        hot = torch.nn.functional.one_hot(classes, len(counts)).double()
        of_class = hot.sum(0)[:, None]
        means = torch.where(of_class > 0, hot.T @ votes / of_class.clamp(min=1), torch.eye(len(counts)).double())
        rest = votes - means[classes]
        return cls(means, counts / counts.sum(), rest.T @ rest / len(votes), int(counts.sum()), len(votes))

    def deviation(self, votes: Tensor) -> float:
        """The largest deviation of the share of a class among samples with these votes (n, K), in standard deviations.

            z_k = d_k V^-1 g / (d_k V^-1 d_k)^1/2,   g = mean votes - expected ones,   d_k = those of class k - expected

        where V is the covariance of g: of all linear functions of the mean votes the one that shows best that there is
        too much or too little of class k in place of all others.
        """
        expected = self.prior @ self.means
        of_class = self.means - expected
        between = (of_class.T * self.prior) @ of_class
        n = len(votes)
        covariance = between * (1 / n + 1 / self.items) + self.within * (1 / n + 1 / self.heldout)
        weights = of_class @ torch.linalg.pinv(covariance, rtol=1e-9, hermitian=True)
        gap = weights @ (votes.mean(0) - expected)
        return float((gap / (weights * of_class).sum(1).clamp(min=1e-12).sqrt()).abs().max())


class _Known(NamedTuple):
    """What the items of a data set decide."""

    features: Tensor  # of training items that vote
    coded: Tensor
    shares: Shares | None  # none without labels of held-out items


@dataclass(eq=False)
class ClassShares(FeatureMetric):
    """The shares of classes among samples, by nearest training items: the extremes, and the farthest from the data.

    Data without classes have none. Nearest training items, 10,000 at most, vote on the class of a sample: the extremes
    count the winners. The deviation is that of `Shares`: of the votes from those of held-out items, whose classes are
    known, at the shares that the classes have among all items.

    Args:
        features: in which items are near; see `FeatureMetric`.
        batch_size: items at a time.
        neighbours: how many training items vote on the class of a sample.

    Raises:
        InputError: neighbours or batch_size < 1, or an extractor of this name is not known.
    """

    quantities = (
        Quantity("class_share_min", "rarest", "share of the rarest class"),
        Quantity("class_share_max", "commonest", "share of the most frequent class"),
        Quantity(
            "class_deviation", "classes", "largest deviation of the share of a class, in standard deviations",
            "1 to 3 for a perfect sampler", direction="lower", floor="train", brief=False,
        ),
    )  # fmt: skip
    neighbours: Count = 20
    _voters: dict[int, _Known] = field(default_factory=dict, init=False, repr=False)

    def prepare(self, dataset: Dataset) -> None:
        """Compute the features of the items, unless they have no classes."""
        labels, others = dataset.train_labels, dataset.heldout_labels
        if labels is None or id(dataset) in self._known:
            return
        super().prepare(dataset)
        _, found, real = self._known[id(dataset)]
        classes, coded = torch.unique(labels, return_inverse=True)
        voters = features_of(found.features, evenly(dataset.train, _MOST), self.batch_size)
        known = _Known(voters, evenly(coded, _MOST), None)
        if others is not None:
            there = torch.isin(others, classes)
            given = votes(real[there], known.features, known.coded, len(classes), self.neighbours)
            truth = torch.searchsorted(classes, others[there])
            counts = torch.bincount(torch.cat([coded, truth]), minlength=len(classes)).double()
            known = known._replace(shares=Shares.of(given, truth, counts))
        self._voters[id(dataset)] = known

    def card(self, dataset: Dataset) -> dict[str, Any]:
        return {} if dataset.train_labels is None else super().card(dataset)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        labels = dataset.train_labels
        if labels is None:
            return {}
        own, _ = self.pair(samples, dataset)
        features, coded, known = self._voters[id(dataset)]
        classes = len(torch.unique(labels))
        given = votes(own, features, coded, classes, self.neighbours)
        shares = torch.bincount(given.argmax(1), minlength=classes).double() / len(given)
        found = {"class_share_min": float(shares.min()), "class_share_max": float(shares.max())}
        return found if known is None else found | {"class_deviation": known.deviation(given)}
