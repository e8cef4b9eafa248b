"""The user's own numbers: one array in a .npy or .npz file, or a table in a .csv file."""

from __future__ import annotations

import csv
import math
import zipfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scoresde.data.dataset import Dataset, assemble, existing, split
from scoresde.data.source import Source
from scoresde.data.transform import Transform
from scoresde.errors import InputError, refuse

if TYPE_CHECKING:
    from _csv import Reader


@dataclass
class ArrayFile(Source):
    """An array (N, *event) of numbers from a file; the first axis counts the items.

    Each feature is shifted and scaled to mean 0 and standard deviation 1 over the training part (a constant
    feature is only shifted). Samples come out in the units and the floating type of the file.

    Args:
        path: a .npy, .npz or .csv file. A csv may have one header line; its names are kept. An array (N,) is
            taken as (N, 1).
        key: which array of a .npz file; not needed where it holds one.
        held_out: fraction of the items that training never uses.
        split_seed: which items those are.

    Raises:
        InputError: from the constructor: held_out outside (0, 1) or a negative seed. From `load`: the file is
            missing, unreadable, empty, ragged, or holds fewer than two items, or anything but finite numbers.
            Nothing is ever unpickled.
    """

    path: str | None = None
    key: str | None = field(default=None, kw_only=True)

    def load(self) -> Dataset:
        """Read the file."""
        path = existing(self.path, "table.csv")
        values, names = self._read(path)
        values = checked(values, f"data.path: {path}")
        parts = split(len(values), self.held_out, self.split_seed)
        dtype = values.dtype.name if values.dtype in (np.float32, np.float64) else "float64"
        transform = Transform.standardising(values[parts[0]], "table", per_feature=True, names=names, dtype=dtype)
        return assemble(values.astype(np.float64, copy=False), transform, parts)

    def _read(self, path: Path) -> tuple[np.ndarray, tuple[str, ...] | None]:
        """The array, and the names of its columns if the file has them."""
        refuse(path.is_dir(), f"data.path: {path} is a folder; give one file, or data=folder for a folder of images")
        kind = path.suffix.lower()
        if kind not in (".npy", ".npz", ".csv"):
            raise InputError(f"data.path: {path} ends in {kind or 'nothing'}; give a .npy, .npz or .csv file")
        if self.key is not None and kind != ".npz":
            raise InputError(f"data.key: {self.key} is given, but only .npz files have keys; leave it out for {path}")
        if kind == ".csv":
            return read_csv(path)
        return _read_npz(path, self.key) if kind == ".npz" else _read_npy(path), None


def _read_npy(path: Path) -> np.ndarray:
    """The array of a .npy file."""
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise _unreadable(path, error) from None


def _read_npz(path: Path, key: str | None) -> np.ndarray:
    """One array of a .npz file."""
    try:
        with zipfile.ZipFile(path):
            pass
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[_key(archive.files, key, path)])
    except InputError:
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from None


def _key(keys: Sequence[str], key: str | None, path: Path) -> str:
    """The key of the array to read."""
    refuse(not keys, f"data.path: {path} holds no array")
    hint = f"{path}, which holds {', '.join(keys)}; e.g. data.key={keys[0]}"
    if key is None and len(keys) > 1:
        raise InputError(f"data.key: not given for {hint}")
    if key is not None and key not in keys:
        raise InputError(f"data.key: {key} is not in {hint}")
    return key or keys[0]


def _unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that numpy cannot read."""
    if "allow_pickle" in str(error):
        return InputError(
            f"data.path: {path} holds Python objects, which are never loaded; save plain numbers, "
            "e.g. numpy.save(path, numpy.asarray(rows, dtype=float))"
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"data.path: {path} cannot be read as a {path.suffix} file ({reason}); save it again with numpy")


def checked(values: np.ndarray, where: str) -> np.ndarray:
    """The array as (N, *event) of finite numbers in native byte order; `where` begins the message if it is not one."""
    if values.dtype.kind not in "fiub":
        raise InputError(f"{where} holds values of type {values.dtype}; give an array of real numbers")
    if values.ndim == 0 or values.size == 0:
        what = "a single number" if values.ndim == 0 else f"an empty array of shape {values.shape}"
        raise InputError(f"{where} holds {what}; give an array (items, features)")
    if len(values) < 2:
        raise InputError(f"{where} holds 1 item of shape {values.shape[1:]}; give at least 2, along the first axis")
    _check_finite(values, where)
    wide = values.dtype.kind == "f" and values.dtype.itemsize == 4
    values = values.astype(np.float32 if wide else np.float64, copy=False)
    return values[:, None] if values.ndim == 1 else values


def _check_finite(values: np.ndarray, where: str) -> None:
    """Raise InputError for values that are not finite, or whose squares would not be."""
    bad = ~np.isfinite(values)
    if bad.any():
        first = [int(i) for i in np.argwhere(bad)[0]]
        raise InputError(
            f"{where} holds NaN or infinite values ({int(bad.sum())} of {values.size}, the first at index "
            f"{first}); remove or fill them"
        )
    refuse(float(np.abs(values).max()) > 1e150, f"{where} holds values beyond 1e150; give them in a larger unit")


def read_csv(path: Path) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Values (rows, columns) in float64, and the column names if the first line holds no number.

    Columns are separated by semicolons or tabs if the first line has any, else by commas. Blank lines are
    skipped.

    Raises:
        InputError: the file is empty or no UTF-8 text, a line has another number of columns, or a cell is not
            a finite number. The message names the line and the column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            rows = csv.reader(file, delimiter=next((mark for mark in ";\t" if mark in first), ","))
            file.seek(0)
            return _parse(rows, path)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"data.path: {path} is not a csv of UTF-8 text ({error})") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parse(rows: Reader, path: Path) -> tuple[np.ndarray, tuple[str, ...] | None]:
    names: tuple[str, ...] | None = None
    values = array("d")
    width = 0
    for row in rows:
        if not "".join(row).strip() and len(row) < 2:
            continue
        first, width = not width, width or len(row)
        if first and not any(_is_number(cell) for cell in row):
            row[0] = row[0].lstrip("# ")  # numpy.savetxt writes its header behind a "#"
            names = tuple(cell.strip() or f"column {k + 1}" for k, cell in enumerate(row))
            continue
        if len(row) != width:
            raise InputError(
                f"data.path: {path}, line {rows.line_num}: {len(row)} columns, but {width} in the first line"
            )
        numbers = _numbers(row)
        if numbers is None:
            raise _bad_cell(path, rows.line_num, row, names)
        values.extend(numbers)
    refuse(not values, f"data.path: {path} holds no rows of numbers")
    return np.array(values).reshape(-1, width), names


def _numbers(row: list[str]) -> list[float] | None:
    """The cells as finite numbers, or None."""
    try:
        numbers = [float(cell) for cell in row]
    except ValueError:
        return None
    # the sum is finite when all are, and is cheaper than checking each; huge numbers are refused later
    return numbers if math.isfinite(sum(numbers)) or np.isfinite(numbers).all() else None


def _bad_cell(path: Path, line: int, row: list[str], names: tuple[str, ...] | None) -> InputError:
    """Names the first cell of a row that is not a finite number."""
    k = next(k for k, cell in enumerate(row) if not _is_number(cell) or not np.isfinite(float(cell)))
    cell = row[k].strip()
    what = "is not finite" if _is_number(cell) else "is not a number" if cell else "is an empty cell"
    column = f"column {k + 1}" if names is None else f"column {k + 1} ({names[k]})"
    remedy = "a header line holds no numbers" if line == 1 else "remove or fill it"
    return InputError(f"data.path: {path}, line {line}, {column}: {cell!r} {what}; {remedy}")
