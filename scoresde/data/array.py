"""The user's own numbers: one array in a .npy or .npz file, or a table in a .csv file."""

import csv
import math
import zipfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

from scoresde.data.dataset import Dataset, Source, assemble, existing, split
from scoresde.data.transform import Names, Transform
from scoresde.errors import InputError, one_line, refuse


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
        check(values, f"data.path: {path}")
        values = floating(values)
        parts = split(len(values), self.held_out, self.split_seed)
        train, dtype = values[parts[0]], values.dtype.name
        transform = Transform.standardising(train, "table", per_feature=True, names=names, dtype=dtype)
        return assemble(values, transform, parts)

    def _read(self, path: Path) -> tuple[np.ndarray, Names]:
        """The array, and the names of its columns if the file has them."""
        refuse(path.is_dir(), f"data.path: {path} is a folder; give one file, or data=folder for a folder of images")
        kind = path.suffix.lower()
        known, keyless = kind in (".npy", ".npz", ".csv"), kind != ".npz" and self.key is not None
        refuse(not known, f"data.path: {path} ends in {kind or 'nothing'}; give a .npy, .npz or .csv file")
        refuse(keyless, f"data.key: {self.key} is given, but only .npz files have keys; leave it out for {path}")
        return read_csv(path) if kind == ".csv" else (_read_numpy(path, self.key), None)


def _read_numpy(path: Path, key: str | None) -> np.ndarray:
    """The array of a .npy file, or one of a .npz file."""
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        # numpy alone takes a file that is no archive for a pickle
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[_key(archive.files, key, path)])
    except InputError:
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from None


def _key(keys: Sequence[str], key: str | None, path: Path) -> str:
    """The key of the array to read."""
    refuse(not keys, f"data.path: {path} holds no array")
    hint = f"{path}, which holds {', '.join(keys)}; e.g. data.key={keys[0]}"
    if key is None:
        refuse(len(keys) > 1, f"data.key: not given for {hint}")
        return keys[0]
    refuse(key not in keys, f"data.key: {key} is not in {hint}")
    return key


def _unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that numpy cannot read."""
    if "allow_pickle" in str(error):
        remedy = "save plain numbers, e.g. numpy.save(path, numpy.asarray(rows, dtype=float))"
        return InputError(f"data.path: {path} holds Python objects, which are never loaded; {remedy}")
    reason = one_line(error) or type(error).__name__
    return InputError(f"data.path: {path} cannot be read as a {path.suffix} file ({reason}); save it again with numpy")


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


def read_csv(path: Path) -> tuple[np.ndarray, Names]:
    """Values (rows, columns) in float64, and the column names if the first line holds no number.

    Columns are separated by semicolons or tabs if the first line has any, else by commas. Blank lines are
    skipped.

    Raises:
        InputError: the file is empty or no UTF-8 text, a line has another number of columns, or a cell is not
            a finite number. The message names the line and the column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse(file, path)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"data.path: {path} is not a csv of UTF-8 text ({error})") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parse(file: TextIO, path: Path) -> tuple[np.ndarray, Names]:
    names: Names = None
    values, width, first = array("d"), 0, file.readline()
    rows = csv.reader(file, delimiter=next((mark for mark in ";\t" if mark in first), ","))
    file.seek(0)
    for row in rows:
        if not "".join(row).strip() and len(row) < 2:
            continue
        if not width and not any(map(_is_number, row)):
            names = _names(row)
        elif len(row) != (width or len(row)):
            where = f"data.path: {path}, line {rows.line_num}"
            raise InputError(f"{where}: {len(row)} columns, but {width} in the first line")
        elif numbers := _numbers(row):
            values.extend(numbers)
        else:
            raise _bad_cell(path, rows.line_num, row, names)
        width = len(row)
    refuse(not values, f"data.path: {path} holds no rows of numbers")
    return np.array(values).reshape(-1, width), names


def _names(header: list[str]) -> tuple[str, ...]:
    """The names of the columns; numpy.savetxt writes them behind a "#"."""
    cells = enumerate([header[0].lstrip("# "), *header[1:]], start=1)
    return tuple(cell.strip() or f"column {k}" for k, cell in cells)


def _numbers(row: list[str]) -> list[float]:
    """The cells as finite numbers; none if one of them is no such number."""
    try:
        numbers = [float(cell) for cell in row]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []


def _bad_cell(path: Path, line: int, row: list[str], names: Names) -> InputError:
    """Names the first cell of a row that is not a finite number."""
    k = next(k for k, cell in enumerate(row) if not _numbers([cell]))
    cell = row[k].strip()
    what = "is not finite" if _is_number(cell) else "is not a number" if cell else "is an empty cell"
    column = f"column {k + 1}" if names is None else f"column {k + 1} ({names[k]})"
    remedy = "a header line holds no numbers" if line == 1 else "remove or fill it"
    return InputError(f"data.path: {path}, line {line}, {column}: {cell!r} {what}; {remedy}")
