"""Does a model copy its training items? The distances between samples, training items and held-out items."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scoresde.constraints import Count, NonNegativeInt, ProperFraction
from scoresde.data.dataset import Dataset
from scoresde.metrics.extractor import sha256
from scoresde.metrics.nearest import nearest_neighbours
from scoresde.results.metric import Metric, Needs, Quantity


def copying(samples: np.ndarray, heldout: np.ndarray) -> float:
    """The standardised rank sum of distances of samples (n,) to the nearest training item among those of held-out (m,).

        Z = (U - n m / 2) / sqrt(n m (n + m + 1) / 12),   U = number of pairs in which the sample is farther

    About standard normal for a perfect sampler; -3 says copies, 3 that samples lie too far from the data.
    """
    from scipy.stats import rankdata

    n, m = len(samples), len(heldout)
    above = rankdata(np.concatenate([samples, heldout]))[:n].sum() - n * (n + 1) / 2
    return float((above - n * m / 2) / (n * m * (n + m + 1) / 12) ** 0.5)


def near_copies(samples: np.ndarray, heldout: np.ndarray, quantile: float = 0.05) -> tuple[float, float]:
    """The share of samples that are nearer to a training item than chance allows, and its p-value.

    The k = quantile m nearest of the held-out items are the yardstick: of a perfect sampler about k / m of the samples
    are nearer than the k-th one, and what is more are copies. The p-value is exact: between equal distributions the
    numbers of samples and of held-out items among the nearest are hypergeometric.

    Args:
        samples: distances of samples to the nearest training item (n,).
        heldout: the same of held-out items (m,).
        quantile: of the held-out items.
    """
    from scipy.stats import hypergeom

    n, m = len(samples), len(heldout)
    k = max(1, int(quantile * m))
    nearer = int((samples < np.partition(heldout, k - 1)[k - 1]).sum())
    share = (nearer / n - k / (m + 1)) / (1 - k / (m + 1))
    return float(share), float(hypergeom.cdf(k - 1, n + m, m, nearer + k - 1)) if nearer else 1.0


_LEAST = 5  # items of a kind in a cell, for ranks to be about normal
_MOST = 10_000  # samples among which repeats are looked for


class _Known(NamedTuple):
    """What the held-out items of a data set decide."""

    dataset: Dataset  # kept alive, as it is known by its id
    heldout: np.ndarray  # distances to the nearest training item
    cells: object  # of k-means on training items
    inside: np.ndarray  # the cell of each held-out item


@dataclass(eq=False)
class Copies(Metric):
    """Whether samples are copies of training items, by Euclidean distances.

    `copy_test` is C_T: `copying` in each cell of k-means on training items, averaged with the shares of the held-out
    items; cells with few samples or held-out items are left out. `copy_share` and `copy_p` are `near_copies`, which
    sees a few copies among many samples. `nearer_train` is the share of samples that are nearer to a training item than
    to a held-out one, with equal numbers of both. `repeats` is the share of samples that are nearer to another sample
    than chance allows, by `near_copies` of as many real items. `distinct` counts different samples: it is n, unless a
    sampler drew the same noise twice, or fewer samples than the n of which other values are.

    Args:
        cells: of k-means.
        quantile: of the held-out items, with which the nearest samples are compared.
        seed: of k-means.

    Raises:
        InputError: a number out of range.

    Reference: C. Meehan, K. Chaudhuri and S. Dasgupta, A non-parametric test to detect data-copying in generative
    models, arXiv 2004.05675, section 4.
    """

    quantities = (
        Quantity(
            "copy_test", "C_T", "distance to training items against that of held-out ones, in standard deviations",
            "0 on average for a perfect sampler, below -3 copies, above 3 far from the data", floor="heldout",
        ),
        Quantity(
            "copy_share", "copies", "share of samples that are nearer to a training item than chance allows",
            "0 on average for a perfect sampler", direction="lower", floor="heldout",
        ),
        Quantity("copy_p", "copy p", "probability of such a share by chance", direction="higher", brief=False),
        Quantity(
            "nearer_train", "triangle", "share of samples nearer to a training item than to a held-out one",
            "0.5 on average for a perfect sampler", brief=False,
        ),
        Quantity(
            "repeats", "repeats", "share of samples that are nearer to another sample than chance allows",
            "0 on average for a perfect sampler", direction="lower", floor="heldout", brief=False,
        ),
        Quantity(
            "distinct", words="number of different samples", note="as many as there are samples, unless some are equal",
            direction="higher", brief=False,
        ),
    )  # fmt: skip
    cells: Count = 5
    quantile: ProperFraction = 0.05
    seed: NonNegativeInt = 0
    _known: dict[int, _Known] = field(default_factory=dict, init=False, repr=False)

    def needs(self) -> Needs:
        return Needs(train=self.cells)

    def prepare(self, dataset: Dataset) -> None:
        """Find the cells, and how far held-out items are from training items."""
        if id(dataset) not in self._known:
            from sklearn.cluster import KMeans

            train, heldout = (part.flatten(1).float() for part in (dataset.train, dataset.heldout))
            means = KMeans(self.cells, n_init=1, max_iter=20, random_state=self.seed).fit(train.numpy())
            near = nearest_neighbours(heldout, train)[0][:, 0].numpy()
            self._known[id(dataset)] = _Known(dataset, near, means, means.predict(heldout.numpy()))

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        self.prepare(dataset)
        known, n = self._known[id(dataset)], min(len(dataset.train), len(dataset.heldout))
        x, train, heldout = (part.flatten(1).float() for part in (samples.cpu(), dataset.train, dataset.heldout))
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.seed))
        some, rest = order[:n], order[n:]
        near = nearest_neighbours(x, train[some])[0][:, 0]
        others = nearest_neighbours(x, heldout[:n])[0][:, 0]
        closest = torch.minimum(near, nearest_neighbours(x, train[rest])[0][:, 0]) if len(rest) else near
        share, p = near_copies(closest.numpy(), known.heldout, self.quantile)
        nearer = (near < others).double() + 0.5 * (near == others).double()
        found = {"copy_share": share, "copy_p": p, "nearer_train": float(nearer.mean())}
        found |= self._repeats(x, torch.cat([train[order], heldout]))
        found["distinct"] = len({sha256([row]) for row in x})
        test = self._in_cells(closest.numpy(), known.cells.predict(x.numpy()), known)  # type: ignore[attr-defined]
        return found if test is None else {"copy_test": test, **found}

    def _repeats(self, x: Tensor, real: Tensor) -> dict[str, float]:
        """The share of samples with a twin; none with too few samples."""
        n = min(len(x), len(real), _MOST)
        some = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.seed))[:n]
        if n < _LEAST:
            return {}
        ours, theirs = (nearest_neighbours(part, part, 2)[0][:, 1].numpy() for part in (x[some], real[:n]))
        return {"repeats": near_copies(ours, theirs, self.quantile)[0]}

    def _in_cells(self, closest: np.ndarray, inside: np.ndarray, known: _Known) -> float | None:
        """C_T; None if no cell has enough samples and held-out items."""
        found = []
        for cell in range(self.cells):
            ours, theirs = closest[inside == cell], known.heldout[known.inside == cell]
            if min(len(ours), len(theirs)) >= _LEAST:
                found.append((len(theirs), copying(ours, theirs)))
        total = sum(weight for weight, _ in found)
        return sum(weight * z for weight, z in found) / total if found else None
