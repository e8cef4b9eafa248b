"""Reads a .csv file of numbers, and says where it is not one."""

from __future__ import annotations

import csv
import math
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scoresde.errors import InputError

if TYPE_CHECKING:
    from _csv import Reader


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
            rows = csv.reader(file, delimiter=_delimiter(file.readline()))
            file.seek(0)
            return _parse(rows, path)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"data.path: {path} is not a csv of UTF-8 text ({error})") from None


def _delimiter(line: str) -> str:
    return ";" if ";" in line else "\t" if "\t" in line else ","


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
    if not values:
        raise InputError(f"data.path: {path} holds no rows of numbers")
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
