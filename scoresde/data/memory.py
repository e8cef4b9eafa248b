"""Data given in Python: arrays, tensors, lists, and data sets of torch; and their copy in the folder of a run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoresde.data.dataset import Dataset, Source
from scoresde.data.items import check_classes, dataset_of
from scoresde.data.numpy_files import read_npz
from scoresde.data.transform import Transform
from scoresde.errors import InputError, refuse, require
from scoresde.files import aside

_DATA = "data: the array"


@dataclass
class Array(Source):
    """Items in memory: an array, a tensor or a list (N, *event), or a map-style `torch.utils.data.Dataset`.

    What the items are follows from shape and type:

        (N, D)            a table, each feature scaled to mean 0 and standard deviation 1; integers stay such; D = 2:
                          points of the plane, whose axes keep one unit where they spread alike
        (N, C, L)         series of C channels
        (N, H, W), uint8  grey images
        (N, C, H, W)      images: levels of uint8 as in files, other numbers scaled from their range to [-1, 1]
        (N, C, D, H, W)   volumes

    Args:
        values: the items; a data set gives tensors, arrays or PIL images, alone or with a class as (item, class).
        labels: the class of each item (N,), counted from 0.
        flip: show training every other image mirrored left to right.
        held_out: fraction of the items that training never uses.
        split_seed: which items those are.

    Raises:
        InputError: from `load`: anything else; names the shape or the type, and the remedy.
    """

    values: Any = None
    labels: Any = field(default=None, kw_only=True)
    flip: bool = field(default=False, kw_only=True)

    def load(self) -> Dataset:
        """Check the items and split them."""
        values, labels = _collected(self.values)
        labels = labels if self.labels is None else np.asarray(self.labels)
        if labels is not None:
            check_classes(labels, len(values), "labels")
        _check_axes(values)
        return dataset_of(self, values, _DATA, labels, self.flip)


def _check_axes(values: np.ndarray) -> None:
    """Refuse images without their axis of channels, which would be taken for something else."""
    shape, what = values.shape, f"{_DATA} of shape {values.shape}"
    if len(shape) == 3:
        one, square = shape[1] > 4 and shape[2] in (1, 3, 4), shape[1] == shape[2]
        refuse(one, f"{what} looks like one image; give many, as (N, channels, height, width)")
        unclear = square and values.dtype != np.uint8
        refuse(unclear, f"{what} could be grey images or series; give images as x[:, None]")
    require(len(shape) <= 5, "data", f"an array of shape {shape}", "give items of at most 4 axes")


def _collected(values: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """The items as one array, and their classes if they come with one."""
    values = _from_torch(values)
    if isinstance(values, np.ndarray):
        return values, None
    if not hasattr(values, "__getitem__") or not hasattr(values, "__len__") or isinstance(values, str | bytes | dict):
        what = type(values).__name__
        raise InputError(f"data: {what} has no items by number; give an array, a tensor, a data set or a folder")
    items: Sequence[Any] = [values[i] for i in range(len(values))]
    require(len(items) > 0, "data", f"{type(values).__name__} of length 0", "give at least 2 items")
    labels = None
    if all(map(_is_pair, items)) and np.ndim(items[0][0]) > 0:
        items, classes = zip(*items, strict=True)
        labels = np.asarray(list(map(int, classes)))
    arrays = list(map(_array, items))
    shapes = sorted({array.shape for array in arrays})
    two = " and ".join(map(str, shapes[:2]))
    refuse(len(shapes) > 1, f"data: items of shapes {two}; give all of one shape")
    return np.stack(arrays), labels


def _from_torch(x: Any) -> Any:
    return x.numpy(force=True) if isinstance(x, torch.Tensor) else x


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2 and np.ndim(item[1]) == 0


def _array(item: Any) -> np.ndarray:
    if hasattr(item, "getbands"):  # an image of PIL
        pixels = np.asarray(item)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    try:
        array = np.asarray(_from_torch(item))
    except ValueError:  # ragged
        array = np.asarray(None)
    if array.dtype.kind not in "fiub":
        raise InputError(f"data: an item is {type(item).__name__} {str(item)[:40]!r}; give numbers, tensors or images")
    return array


FILE = "data.npz"
_PARTS = ("conditions", "heldout_conditions")


@dataclass
class SavedDataset:
    """What `save` wrote: training and held-out items with their conditions.

    Args:
        run: the folder.

    Raises:
        InputError: from `load`: there is no such file.
    """

    run: Path | None = None

    def load(self) -> Dataset:
        """Read the file."""
        file = (self.run or Path()) / FILE
        if not file.is_file():
            raise InputError(f"data: {file} is not there; the data of this run were given in Python, or are too large")
        content = read_npz(file, f"data: {file}")
        transform = Transform.from_dict(json.loads(str(content["transform"])))

        def restored(x: np.ndarray) -> torch.Tensor:
            return transform.encode(x).float() if transform.levels else torch.from_numpy(x)

        def conditions(part: str) -> dict[str, torch.Tensor]:
            keys = [key for key in content if key.startswith(f"{part}/")]
            return {key.removeprefix(f"{part}/"): torch.from_numpy(content[key]) for key in keys}

        items, heldout, flip = restored(content["items"]), restored(content["heldout"]), bool(content["flip"])
        own, others = map(conditions, _PARTS)
        return Dataset(items, heldout, transform, own, others, flip)


def save(dataset: Dataset, run: Path) -> None:
    """Keep a data set in a folder; quantised items as levels, others in model units, so that they are the same."""
    transform = dataset.transform

    def plain(x: torch.Tensor) -> np.ndarray:
        return transform.finish(x) if transform.levels else x.numpy()

    content = {f"{part}/{name}": v.numpy() for part in _PARTS for name, v in getattr(dataset, part).items()}
    content |= {"transform": np.array(json.dumps(transform.to_dict())), "flip": np.array(dataset.flip)}
    content |= {"items": plain(dataset.train), "heldout": plain(dataset.heldout)}
    with aside(run / FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **content)
