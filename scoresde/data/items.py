"""Arrays of items: what they must hold, how their axes are understood, and the units that follow."""

from typing import Any

import numpy as np

from scoresde.data.columns import Column
from scoresde.data.dataset import Dataset, Source, assemble, split
from scoresde.data.transform import Kind, Transform
from scoresde.errors import InputError, refuse, require
from scoresde.progress import note

_ALIKE = 10  # of points of the plane one axis spreads at most so many times as far as the other


def dataset_of(
    source: Source,
    values: np.ndarray,
    where: str,
    classes: np.ndarray | None = None,
    flip: bool = False,
    names: tuple[str, ...] | None = None,
    columns: tuple[Column, ...] | None = None,
) -> Dataset:
    """The data set of items (N, *event), whether in memory or from a file; what they are is said at `Array`.

    Args:
        source: how they are split.
        values: the items.
        where: how messages begin.
        classes: of the items.
        flip: see `Dataset`.
        names: of the features of a table.
        columns: of a table of text; integers of any other remain such.

    Raises:
        InputError: values that are no items.
    """
    values = arranged(values, where)
    check(values, where)
    parts = split(len(values), source.held_out, source.split_seed)
    bits, integers = values.dtype.kind == "b", values.dtype.kind in "iu" and values.ndim <= 2
    if (values.dtype.name, values.ndim) != ("uint8", 4):
        values = floating(values)
    if bits:
        transform = Transform.of_bits(values.shape[1:])
    elif values.ndim == 4:
        transform = _of_images(values)
    else:
        about = {"names": names, "dtype": values.dtype.name}
        transform = _of_numbers(values[parts[0]], integers, columns, **about)
    return assemble(values, transform, parts, classes, flip)


def _of_numbers(train: np.ndarray, integers: bool, columns: tuple[Column, ...] | None, **about: Any) -> Transform:
    """Points of the plane, tables, series and volumes."""
    shape = train.shape[1:]
    kind: Kind = "points" if shape == (2,) and columns is None and _alike(train) else "table"
    if integers and columns is None:
        columns = tuple(Column(f"x{k}", "integer") for k in range(shape[0]))
    per_feature = len(shape) == 1 and kind == "table"
    return Transform.standardising(train, kind, per_feature=per_feature, columns=columns, **about)


def _alike(points: np.ndarray) -> bool:
    """Whether two features may have one unit."""
    spread = points.std(axis=0)
    return bool(spread.max() <= _ALIKE * spread.min())


def _of_images(values: np.ndarray) -> Transform:
    """Images: bytes as in files; other numbers from [0, 1], [-1, 1] or their own range to [-1, 1]."""
    shape = values.shape[1:]
    if values.dtype == np.uint8:
        return Transform.of_levels(shape)
    low, high = float(values.min()), float(values.max())
    if -1 <= low <= high <= 1:
        low, high = (0.0 if low >= 0 else -1.0), 1.0
    middle, half = (low + high) / 2, (high - low) / 2 or 1.0
    return Transform("image", shape, middle, half, low=low, high=high, dtype=values.dtype.name)


def check(values: np.ndarray, where: str) -> None:
    """Raise InputError, beginning with `where`, for anything but an array (N, *event) of finite numbers, N > 1."""
    shape, kind, remedy = values.shape, values.dtype.kind, "give an array (items, features)"
    refuse(kind not in "fiub", f"{where} holds values of type {values.dtype}; give an array of real numbers")
    refuse(values.ndim == 0, f"{where} holds a single number; {remedy}")
    refuse(values.size == 0, f"{where} holds an empty array of shape {shape}; {remedy}")
    refuse(len(values) < 2, f"{where} holds 1 item of shape {shape[1:]}; give at least 2, along the first axis")
    if kind == "f":
        _check_finite(values, where)


def floating(values: np.ndarray) -> np.ndarray:
    """Items (N, *event) of float32 or float64 in native byte order; numbers (N,) become (N, 1)."""
    values = values.astype(np.float32 if values.dtype.str[1:] == "f4" else np.float64, copy=False)
    return values[:, None] if values.ndim == 1 else values


def _check_finite(values: np.ndarray, where: str) -> None:
    """Raise InputError for values that are not finite, or whose squares would not be."""
    bad = ~np.isfinite(values)
    if bad.any():
        found = f"{bad.sum()} of {values.size}, the first at index {np.argwhere(bad)[0].tolist()}"
        raise InputError(f"{where} holds NaN or infinite values ({found}); remove or fill them")
    refuse(float(np.abs(values).max()) > 1e150, f"{where} holds values beyond 1e150; give them in a larger unit")


def arranged(values: np.ndarray, where: str) -> np.ndarray:
    """Images of bytes as (N, channels, height, width), from (N, height, width) and from channels last, which is said.

    Raises:
        InputError: other numbers, or two of them, in what looks like images with their channels last.
    """
    shape, what, image = values.shape, f"{where} of shape {values.shape}", values.dtype == np.uint8
    if image and len(shape) == 3:
        return values[:, None]
    if len(shape) != 4 or not shape[1] > 4 >= shape[3]:
        return values
    refuse(not image or shape[3] == 2, f"{what} has its channels last; give x.transpose(0, 3, 1, 2)")
    note(f"{what} is taken for images with their channels last")
    return np.moveaxis(values, 3, 1)


def check_classes(labels: np.ndarray, count: int, where: str) -> None:
    """Raise InputError, beginning with `where`, unless there is one class, an integer >= 0, for each item."""
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        found = f"{labels.dtype} of shape {labels.shape}"
        raise InputError(f"{where}: {found}; give one integer for each of {count} items, counted from 0")
    require(int(labels.min()) >= 0, where, int(labels.min()), "classes are counted from 0")
