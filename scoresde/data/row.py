"""One item of a table, as a text file of one row."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from scoresde.data.columns import Column
from scoresde.data.table import Cell, cells_of
from scoresde.data.transform import Transform
from scoresde.errors import InputError, did_you_mean, refuse


def read_row(path: Path, key: str, transform: Transform) -> np.ndarray:
    """The features (D,) of a file with a header and one row, whose columns may be others and in any order; float64.

    Without a header the columns are those of the data. What the file does not say, or leaves empty, is NaN.

    Args:
        path: the file, see `scoresde.data.table.read_table`.
        key: the setting that names it.
        transform: of the data.

    Raises:
        InputError: no table of one row, or a cell that its column cannot hold.
    """
    try:
        header, rows = cells_of(path)
    except InputError as error:
        raise InputError(f"{key}: {str(error).removeprefix('data.path: ')}") from None
    size = math.prod(transform.event_shape)
    columns = transform.columns or tuple(map(Column, transform.names or [f"x{k}" for k in range(size)]))
    known, where = [column.name for column in columns], f"{key}: {path}"
    refuse(len(rows) != 1, f"{where} has {len(rows)} rows; give a file of one")
    if header is None:
        refuse(len(rows[0]) != len(known), f"{where} has {len(rows[0])} columns; give {len(known)}, or a header")
        header = tuple(known)
    none = f"{where} has none of the columns of these data, which are {', '.join(known)}"
    refuse(not set(header) & set(known), f"{none}{did_you_mean(header[0], known)}")
    found = dict(zip(header, rows[0], strict=True))
    return np.concatenate([_features(column, found.get(column.name, math.nan), where) for column in columns])


def _features(column: Column, cell: Cell, where: str) -> np.ndarray:
    """The features of a cell."""
    where = f"{where}, column {column.name}"
    if column.kind != "category":
        refuse(isinstance(cell, str), f"{where}: {cell!r} is not a number; give one")
        return np.array([cell], dtype=float)
    if isinstance(cell, float) and math.isnan(cell):
        return np.full(len(column.categories), math.nan)
    text = str(cell)
    there = ", ".join(column.categories)
    refuse(text not in column.categories, f"{where}: {text!r} is no category of it; give one of {there}")
    return np.array([own == text for own in column.categories], dtype=float)
