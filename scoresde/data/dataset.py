"""What a data source gives: training and held-out items in model units, and the way back to data units."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoresde.data.transform import Transform
from scoresde.errors import InputError

# Points used to measure the largest distance: 2,000 make 4 million pairs, a fraction of a second.
_MOST_POINTS = 2000


@dataclass
class Dataset:
    """Data in model units, split once and for all.

    Args:
        train: training items (N, *event), float32, on the CPU.
        heldout: items that training never sees (M, *event), of the same kind.
        transform: the map between data units and model units.
        train_labels: the class of each training item (N,), int64; None without classes.
        heldout_labels: the class of each held-out item (M,), int64; None without classes.
    """

    train: Tensor
    heldout: Tensor
    transform: Transform
    train_labels: Tensor | None = None
    heldout_labels: Tensor | None = None

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one item."""
        return tuple(self.train.shape[1:])

    @property
    def sigma_data(self) -> float:
        """Standard deviation of all training values, in model units."""
        return float(self.train.std(correction=0))

    @property
    def sigma_max(self) -> float:
        """About the largest Euclidean distance between two training items, in model units.

        Measured on at most 2,000 evenly spaced items; it is the rule for sigma_max of the variance exploding
        SDE (Song and Ermon 2020, arXiv 2006.09011, technique 1).
        """
        step = -(-len(self.train) // _MOST_POINTS)
        points = self.train[::step].flatten(1)
        return float(torch.cdist(points, points).max())


def existing(path: str | None, example: str) -> Path:
    """The path a user gave, if it is there; raises InputError otherwise."""
    if path is None or not path.strip():
        raise InputError(f"data.path: not given; e.g. data.path={example}")
    found = Path(path).expanduser()
    if not found.exists():
        raise InputError(f"data.path: {path} does not exist (seen from {Path.cwd()}); e.g. data.path={example}")
    return found


def check_split(held_out: float, split_seed: int) -> None:
    """Raises InputError unless `held_out` lies between 0 and 1 and the seed is not negative."""
    if not 0 < held_out < 1:
        raise InputError(f"held_out: {held_out} is not allowed; give a fraction between 0 and 1, such as 0.1")
    if split_seed < 0:
        raise InputError(f"split_seed: {split_seed} is not allowed; give an integer >= 0")


def split(n: int, held_out: float, split_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Shuffles 0 .. n - 1 and cuts it into training and held-out indices, by the seed alone.

    Both parts have at least one index; otherwise the second has round(n held_out).

    Raises:
        InputError: fewer than two items.
    """
    if n < 2:
        raise InputError(f"data: {n} item{'' if n == 1 else 's'}; give at least 2, one to train on and one held out")
    # The raw words of Philox are the same in every version of numpy, which its shuffles do not promise: a run
    # that is resumed after an update must not train on what it had held out.
    order = np.argsort(np.random.Philox(key=split_seed).random_raw(n), kind="stable")
    held = min(max(1, round(n * held_out)), n - 1)
    return order[held:], order[:held]


def assemble(
    events: np.ndarray,
    transform: Transform,
    parts: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray | None = None,
) -> Dataset:
    """Encodes the training and the held-out part of events (N, *event) in data units.

    Raises:
        InputError: all training values are the same, so that there is nothing to learn.
    """
    train, heldout = (transform.encode(events[part]).float() for part in parts)
    if len(train) > 1 and bool((train == train[:1]).all()):
        raise InputError(f"data: all {len(train)} training items are the same; there is nothing to learn")
    classes = (None, None) if labels is None else [torch.from_numpy(labels[part].astype(np.int64)) for part in parts]
    return Dataset(train, heldout, transform, *classes)
