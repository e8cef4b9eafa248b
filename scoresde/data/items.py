"""Arrays of items: what they must hold, and how their axes are understood."""

import numpy as np

from scoresde.errors import InputError, refuse, require
from scoresde.progress import note


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
