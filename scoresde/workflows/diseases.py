"""Planted diseases: real items made worse in a known way, at three doses, to see which metric notices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from scoresde.data import Dataset, Transform

Change = Callable[[np.ndarray, float, Transform, np.random.Generator], np.ndarray]  # of items in data units


@dataclass(frozen=True)
class Disease:
    """What is done to real items that stand for samples.

    Attributes:
        name: what it is.
        dose: what a dose is, with {} for the number.
        doses: three, light ones first.
        of: which data can have it: images, data with levels, data with classes, or any.
        change: what happens to every item, in data units.
        pick: what happens to the set; see `Real.infected`.
    """

    name: str
    dose: str
    doses: tuple[float, float, float]
    of: Literal["any", "images", "levels", "classes"] = "any"
    change: Change | None = None
    pick: Literal["all", "some", "copies", "repeats", "fewer", "missing", "doubled"] = "all"

    def fits(self, dataset: Dataset) -> bool:
        """Whether the data can have it."""
        image, levels = dataset.transform.kind == "image", dataset.transform.levels is not None
        return {"any": True, "images": image, "levels": levels, "classes": dataset.labels is not None}[self.of]


def _blurred(x: np.ndarray, dose: float, transform: Transform, rng: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(x, (0, 0, dose, dose)))


def _noisy(x: np.ndarray, dose: float, transform: Transform, rng: np.random.Generator) -> np.ndarray:
    return x + dose * rng.standard_normal(x.shape)


def _noisy_share(x: np.ndarray, dose: float, transform: Transform, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(x + dose * x.std(0) * rng.standard_normal(x.shape))


def _quantised(x: np.ndarray, dose: float, transform: Transform, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.rint(x / dose) * dose)


def _truncated(x: np.ndarray, dose: float, transform: Transform, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.floor(x + rng.random(x.shape) - dose))


def _fainter(x: np.ndarray, dose: float, transform: Transform, rng: np.random.Generator) -> np.ndarray:
    low = x.mean(0) if transform.low is None else transform.low
    return np.asarray(low + (x - low) * (1 - dose))


def _shifted(x: np.ndarray, dose: float, transform: Transform, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([x[..., :1], x[..., :-1]], axis=-1)


_COPIED = (0.05, 0.2, 0.5)
_COPY_NOISE = 0.1  # standard deviations of each value
DISEASES = (
    Disease("blur", "sigma {:g} px", (0.4, 0.6, 1.0), "images", _blurred),
    Disease("noise", "{:g} levels", (0.5, 1.0, 2.0), "levels", _noisy),
    Disease("noise", "{:.0%} of a deviation", (0.1, 0.2, 0.4), "any", _noisy_share),
    Disease("quantised", "to 1/{:g} of the levels", (2.0, 4.0, 8.0), "levels", _quantised),
    Disease("truncated", "by {:g} levels", (0.5, 1.0, 2.0), "levels", _truncated),
    Disease("contrast", "-{:.0%}", (0.04, 0.08, 0.16), "any", _fainter),
    Disease("shift", "by 1 px of {:.0%}", (0.25, 0.5, 1.0), "images", _shifted, "some"),
    Disease("class missing", "{:.0%} of it", (0.5, 0.75, 1.0), "classes", pick="missing"),
    Disease("class doubled", "{:g} times", (1.5, 1.75, 2.0), "classes", pick="doubled"),
    Disease("copies", "{:.0%}", _COPIED, pick="copies"),
    Disease("noisy copies", "{:.0%}", _COPIED, change=_noisy_share, pick="copies"),
    Disease("repeats", "{:.0%}", _COPIED, pick="repeats"),
    Disease("wrong n", "{:.0%} of n", (0.8, 0.6, 0.4), pick="fewer"),
)


@dataclass(frozen=True)
class Part:
    """One division of the real items: indices of training items, of held-out items, and of those that play samples."""

    train: np.ndarray
    heldout: np.ndarray
    fresh: np.ndarray


class Real:
    """The real items of a data set, of which some play samples; what is done to all of them is done once.

    Args:
        dataset: whose training and held-out items are taken together.
        n: items that play samples.
        most: of them that are divided.
        seed: of divisions and diseases.
    """

    def __init__(self, dataset: Dataset, n: int, most: int, seed: int = 0) -> None:
        labels, others = dataset.train_labels, dataset.heldout_labels
        both = torch.cat([dataset.train, dataset.heldout])
        known = {} if labels is None or others is None else {"class": torch.cat([labels, others])}
        few = {name: values[:2] for name, values in known.items()}
        # all items, for the networks of metrics: so all parts are alike to them
        self.whole = Dataset(both, both[:2], dataset.transform, known, few)
        which = torch.arange(min(len(both), most)) * len(both) // min(len(both), most)
        self.items, self.transform, self.n, self.seed = both[which], dataset.transform, n, seed
        self.labels = known["class"][which] if known else None
        self._units = self.transform.finish(self.items).astype(np.float64)
        self._changed: dict[tuple[str, float], Tensor] = {}

    def part(self, number: int) -> Part:
        """Division by the seed and a number alone: n held-out items, 2 n fresh ones, and the rest for training."""
        order = np.random.default_rng([self.seed, number]).permutation(len(self.items))
        return Part(order[3 * self.n :], order[: self.n], order[self.n : 3 * self.n])

    def dataset(self, part: Part) -> Dataset:
        """The training and the held-out items of a division."""

        def classes(which: np.ndarray) -> Mapping[str, Tensor]:
            return {} if self.labels is None else {"class": self.labels[which]}

        items = self.items[part.train], self.items[part.heldout]
        return Dataset(*items, self.transform, classes(part.train), classes(part.heldout))

    def samples(self, part: Part) -> Tensor:
        """The items that play the samples of a perfect model."""
        return self.items[part.fresh[: self.n]]

    def infected(self, disease: Disease, dose: float, part: Part, number: int) -> Tensor:
        """The items that play samples, with a dose of a disease.

        All are changed, or a share, which is the dose ("some"); a share is replaced by training items, which are
        changed ("copies"); a share repeats others ("repeats"); there are fewer ("fewer"); there are fewer or more of
        one class, in place of others ("missing", "doubled").
        """
        rng = np.random.default_rng([self.seed, number, 1])
        fresh, kind, n = part.fresh, disease.pick, self.n
        if kind == "fewer":
            return self.items[fresh[: round(dose * n)]]
        if kind == "repeats":
            kept = n - round(dose * n)
            return self.items[fresh[np.arange(n) % kept]]
        if kind in ("missing", "doubled"):
            return self.items[self._unbalanced(fresh, dose if kind == "doubled" else 1 - dose, rng)]
        if kind == "all":
            return self.changed(disease, dose)[fresh[:n]]
        count = round(dose * n)
        source = fresh[:count] if kind == "some" else rng.permutation(part.train)[:count]
        amount = _COPY_NOISE if kind == "copies" else dose
        ill = self.items[source] if disease.change is None else self.changed(disease, amount)[source]
        return torch.cat([ill, self.items[fresh[count:n]]])

    def _unbalanced(self, fresh: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
        """n of the fresh items, with `factor` times as many of one class as in the data, if there are so many."""
        assert self.labels is not None
        labels = self.labels.numpy()
        chosen = rng.choice(np.unique(labels))
        there = labels[fresh] == chosen
        wanted = round(factor * self.n * float((labels == chosen).mean()))
        of_it = fresh[there][:wanted]
        return np.concatenate([of_it, fresh[~there][: self.n - len(of_it)]])

    def changed(self, disease: Disease, dose: float) -> Tensor:
        """All items with a dose of a disease, as `Transform.finish` would write samples."""
        assert disease.change is not None
        key = disease.name, dose
        if key not in self._changed:
            rng = np.random.default_rng([self.seed, len(self._changed)])
            found = self.transform.encode(disease.change(self._units, dose, self.transform, rng))
            self._changed[key] = self.transform.encode(self.transform.finish(found)).float()
        return self._changed[key]
