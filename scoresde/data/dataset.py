"""Data sets: training and held-out items in model units with their conditions; and the sources that load them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoresde.constraints import Checked, NonNegativeInt, ProperFraction
from scoresde.data.transform import Transform
from scoresde.errors import InputError, refuse, require

Pair = tuple[np.ndarray, np.ndarray]  # of the training part and of the held-out part


class Stored:
    """Some items of an array of levels, called like a tensor of items in model units (N, *event).

    Args:
        levels: all items in data units, mapped from disk.
        index: which of them, in order.
        transform: to model units.
    """

    def __init__(self, levels: np.ndarray, index: np.ndarray, transform: Transform) -> None:
        self.levels, self.index, self.transform = levels, index, transform

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *event)."""
        return (len(self), *self.levels.shape[1:])

    @property
    def nbytes(self) -> int:
        """The size of all items once they are encoded."""
        return 4 * int(np.prod(self.shape))

    def __getitem__(self, which: slice | Tensor) -> Tensor:
        """The items of a slice, or those with these numbers (B,), encoded: (B, *event), float32, on the CPU."""
        rows = self.index[which if isinstance(which, slice) else which.cpu().numpy()]
        # in the order of the disk, which a spinning or a remote one thanks for
        order = np.argsort(rows, kind="stable")
        found = np.empty((len(rows), *self.levels.shape[1:]), self.levels.dtype)
        found[order] = self.levels[rows[order]]
        return self.transform.encode(found)


CLASS = "class"  # the condition that is the class of an item
# Points used to measure the largest distance: 2,000 make 4 million pairs, a fraction of a second.
_MOST_POINTS = 2000
# Items read from disk to measure their standard deviation, to a hundredth or better.
_MOST_READ = 10_000
# Bytes of training items in float32, above which they stay on disk.
_IN_MEMORY = 2**31


@dataclass
class Dataset:
    """Data in model units, split once and for all.

    Args:
        items: training items (N, *event), float32, on the CPU; or where they lie on disk.
        heldout: items that training never sees (M, *event), float32, on the CPU.
        transform: the map between data units and model units.
        conditions: by name, one for each training item: `class` (N,), int64, counted from 0; vectors (N, size), tokens
            (N, L, size) and images (N, channels, *sizes of an item) under any name.
        heldout_conditions: the same for each held-out item.
        flip: whether training sees every other item, an image, mirrored left to right.
        dequantised: whether training spreads items over the cells of their levels.
    """

    items: Tensor | Stored
    heldout: Tensor
    transform: Transform
    conditions: Mapping[str, Tensor] = field(default_factory=dict)
    heldout_conditions: Mapping[str, Tensor] = field(default_factory=dict)
    flip: bool = False
    dequantised: bool = False

    def __post_init__(self) -> None:
        for what, items in (("conditions", self.items), ("heldout_conditions", self.heldout)):
            for name, values in getattr(self, what).items():
                wanted = f"there are {len(items)} items; give one for each"
                require(len(values) == len(items), f"{what}.{name}", f"{len(values)} values", wanted)

    def load(self) -> Dataset:
        """Itself: a data set can stand where a source of data can."""
        return self

    @property
    def train(self) -> Tensor:
        """The training items as a tensor; of those on disk as many, evenly spaced, as 2 GiB hold."""
        return self.items if isinstance(self.items, Tensor) else self.items[:: self._step]

    @property
    def labels(self) -> Tensor | None:
        """The class of each training item (N,), int64; None without classes."""
        return self.conditions.get(CLASS)

    @property
    def heldout_labels(self) -> Tensor | None:
        """The class of each held-out item (M,), int64; None without classes."""
        return self.heldout_conditions.get(CLASS)

    @property
    def train_labels(self) -> Tensor | None:
        """The classes of the items of `train`."""
        return None if self.labels is None else self.labels[:: self._step]

    def under(self, transform: Transform, whose: str) -> Dataset:
        """The same items in the model units of another transform.

        Raises:
            InputError: beginning with `whose` transform it is: that is for items of another shape, or in other units.
        """

        def encoded(x: Tensor) -> Tensor:
            return transform.encode(self.transform.decode(x))

        ours, theirs = self.transform, transform
        if theirs == ours:
            return self
        low, high = (ours.low, ours.high) if theirs.low is not None else (None, theirs.high)  # unbounded: any numbers
        for what, here, there in (
            ("items of shape", self.event_shape, tuple(theirs.event_shape)),
            ("data units from, to, in levels", (low, high, ours.levels), (theirs.low, theirs.high, theirs.levels)),
            ("the categories", *([c for c in t.columns or () if c.categories] for t in (ours, theirs))),
        ):
            refuse(here != there, f"{whose} has {what} {there!r}, and this data {here!r}; give data like its own")
        items = self.items
        moved = encoded(items) if isinstance(items, Tensor) else Stored(items.levels, items.index, transform)
        return replace(self, items=moved, heldout=encoded(self.heldout), transform=transform)

    def of_classes(self, classes: Sequence[int]) -> Dataset:
        """The items of some classes alone, in memory.

        Raises:
            InputError: the data have no classes, or a class has no item in one of the parts.
        """
        labels, heldout = self.train_labels, self.heldout_labels
        if labels is None or heldout is None:
            raise InputError("label: the data of this run have no classes, so its samples cannot be compared with them")
        wanted = torch.tensor(sorted(set(classes)))
        missing = wanted[~(torch.isin(wanted, labels) & torch.isin(wanted, heldout))].tolist()
        if missing:
            raise InputError(f"label: {missing[0]} is a class without items; give one that the data have")
        a, b = torch.isin(labels, wanted), torch.isin(heldout, wanted)
        ours = {name: values[:: self._step][a] for name, values in self.conditions.items()}
        theirs = {name: values[b] for name, values in self.heldout_conditions.items()}
        return replace(self, items=self.train[a], heldout=self.heldout[b], conditions=ours, heldout_conditions=theirs)

    @property
    def classes(self) -> int | None:
        """How many classes there are, if they are counted from 0: one more than the largest; None without classes."""
        known = [part for part in (self.labels, self.heldout_labels) if part is not None]
        return int(torch.cat(known).max()) + 1 if known else None

    @property
    def _step(self) -> int:
        return 1 if isinstance(self.items, Tensor) else -(-self.items.nbytes // _IN_MEMORY)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one item."""
        return tuple(self.items.shape[1:])

    @property
    def sigma_data(self) -> float:
        """Standard deviation of all training values, in model units; of items on disk, of some 10,000 of them."""
        all_or_some = 1 if isinstance(self.items, Tensor) else -(-len(self.items) // _MOST_READ)
        return float(self.items[::all_or_some].std(correction=0))

    @property
    def sigma_max(self) -> float:
        """Approximately the largest Euclidean distance between two training items, in model units.

        Measured on at most 2,000 evenly spaced items; it is the rule for sigma_max of the variance exploding
        SDE (Song and Ermon 2020, arXiv 2006.09011, technique 1).
        """
        points = self.items[:: -(-len(self.items) // _MOST_POINTS)].flatten(1)
        return float(torch.cdist(points, points).max())


class DataSource(ABC):
    """Whatever can load a data set: a class of `scoresde.data`, or any other with a method `load`."""

    @abstractmethod
    def load(self) -> Dataset:
        """Read the data."""

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        home = other.__module__
        return hasattr(other, "load") and (home.startswith("scoresde.data.") or home.split(".")[0] != "scoresde")


@dataclass(kw_only=True)
class Source(Checked, ABC):
    """Settings of a data set, read by `load`.

    Args:
        held_out: fraction of the items that training never uses.
        split_seed: which items those are.

    Raises:
        InputError: held_out outside (0, 1), or a negative seed.
    """

    held_out: ProperFraction = 0.1
    split_seed: NonNegativeInt = 0

    @abstractmethod
    def load(self) -> Dataset:
        """Read the data."""


def existing(path: str | None, example: str) -> Path:
    """The path that the user gave; raises InputError if it does not exist."""
    if path is None or not path.strip():
        raise InputError(f"data.path: not given; e.g. data.path={example}")
    found = Path(path).expanduser()
    refuse(not found.exists(), f"data.path: {path} does not exist (from {Path.cwd()}); e.g. data.path={example}")
    endless = not (found.is_file() or found.is_dir())
    refuse(endless, f"data.path: {path} is a device or a pipe, which may have no end; e.g. data.path={example}")
    return found


def split(n: int, held_out: float, split_seed: int) -> Pair:
    """Shuffles 0 .. n - 1 and cuts it into training and held-out indices, by the seed alone.

    Both parts have at least one index; otherwise the second has round(n held_out).

    Raises:
        InputError: fewer than two items.
    """
    refuse(n < 2, f"data: {n} item{'' if n == 1 else 's'}; give at least 2, one to train on and one held out")
    # The raw words of Philox are the same in every version of numpy, which its shuffles do not promise: a run
    # that is resumed after an update must not train on what it had held out.
    order = np.argsort(np.random.Philox(key=split_seed).random_raw(n), kind="stable")
    held = min(max(1, round(n * held_out)), n - 1)
    return order[held:], order[:held]


def assemble(
    events: np.ndarray, transform: Transform, parts: Pair, labels: np.ndarray | None = None, flip: bool = False
) -> Dataset:
    """Encodes the training and the held-out part of events (N, *event) in data units.

    Raises:
        InputError: all training values are the same, so that there is nothing to learn.
    """
    train, heldout = parts
    own = None if labels is None else (labels[train], labels[heldout])
    return joined(Stored(events, train, transform), events[heldout], own, flip)


def joined(stored: Stored, heldout: np.ndarray, labels: Pair | None = None, flip: bool = False) -> Dataset:
    """A data set of two arrays in data units; many items of a mapped array stay on disk.

    Args:
        stored: training items (N, *event).
        heldout: (M, *event).
        labels: the classes of the training items and of the held-out items.
        flip: see `Dataset`.

    Raises:
        InputError: all training values are the same, so that there is nothing to learn.
    """
    transform = stored.transform
    items: Tensor | Stored = stored
    if not isinstance(stored.levels, np.memmap) or stored.nbytes <= _IN_MEMORY:
        items = transform.encode(stored.levels[stored.index]).float()
    first = items[:_MOST_READ]
    if len(items) > 1 and bool((first == first[:1]).all()):
        raise InputError(f"data: all {len(first)} training items are the same; there is nothing to learn")
    own, others = ({CLASS: torch.from_numpy(part.astype(np.int64))} for part in labels) if labels else ({}, {})
    return Dataset(items, transform.encode(heldout).float(), transform, own, others, flip)
