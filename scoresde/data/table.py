"""Tables of text: numbers, integers and categories in columns, whatever separates them."""

from __future__ import annotations

import csv
import itertools
import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TextIO

import numpy as np

from scoresde.data.columns import Column
from scoresde.errors import InputError, did_you_mean, refuse
from scoresde.progress import note

Missing = Literal["error", "drop"]
Wanted = Sequence[str | int] | None
Cell = str | float  # NaN where it misses something
ENDINGS = (".csv", ".tsv", ".txt", ".dat")
_MARKS = ";\t, "
_MISSING = frozenset({"", "na", "n/a", "nan", "null"})
_INDEX = ("", "Unnamed: 0")  # the header of the numbers of rows that pandas writes
_MOST_CATEGORIES = 50


class Table(NamedTuple):
    """Features (rows, D) in float64, their names if the file has a header or categories, and what each column is."""

    values: np.ndarray
    names: tuple[str, ...] | None
    columns: tuple[Column, ...] | None


def cells_of(path: Path) -> tuple[tuple[str, ...] | None, list[list[Cell]]]:
    """The names of the columns, if the first line holds no number, and the rows of a text file; see `read_table`."""
    reader = _read(path)
    return reader.names, [[reader.cell(row, k) for k in range(reader.width)] for row in range(len(reader.lines))]


def read_table(path: Path, wanted: Wanted = None, missing: Missing = "error") -> Table:
    """A table of a text file, with its column names if the first line holds no number.

    Columns are separated by semicolons, tabs, commas or spaces, by what makes the most numbers of the first two lines;
    but for commas, numbers may have a decimal comma. Blank lines and comments before the header are skipped, and so is
    the index that pandas writes. A column of integers stays one, and a column of texts becomes one of categories.

    Args:
        path: the file.
        wanted: names or numbers of columns, counted from 1; None takes all.
        missing: what happens to a row with an empty cell, NA, N/A, NaN or null.

    Raises:
        InputError: the file is empty or no UTF-8 text, a line has another number of columns, a column is not there, or
            a cell is not a finite number. The message names the line and the column.
    """
    return _read(path).table(wanted, missing)


def _read(path: Path) -> _Reader:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _Reader(path).read(file)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"data.path: {path} is not a csv of UTF-8 text ({error})") from None


def chosen(wanted: Wanted, names: Sequence[str] | None, width: int, where: str) -> list[int]:
    """The places of columns that are given by name, or by number counted from 1; all without `wanted`."""
    if wanted is None:
        return list(range(width))
    places = dict(zip(names or (), itertools.count()))
    known = f"{', '.join(names)}, or 1 to {width}" if names else f"1 to {width}"
    for name in wanted:
        there = name in places or (isinstance(name, int) and 1 <= name <= width)
        near = did_you_mean(str(name), names or ())
        refuse(not there, f"data.columns: {name} is not in {where}, which has {known}{near}")
    return [places[name] if name in places else int(name) - 1 for name in wanted]


def _number(cell: str, comma: bool) -> float | None:
    """The number that a cell is, with a decimal comma where one is possible."""
    try:
        return float(cell.replace(",", ".") if comma and "." not in cell else cell)
    except ValueError:
        return None


def _rows(lines: Iterable[str], mark: str) -> Any:
    """A csv reader of lines; any number of spaces separates."""
    lines = (f"{line.strip()}\n" for line in lines) if mark == " " else lines
    return csv.reader(lines, delimiter=mark, skipinitialspace=mark == " ")


def _separator(lines: Sequence[str]) -> str:
    """What separates columns in both lines, a header perhaps and a row, and leaves the most numbers in the row."""

    def numbers(mark: str) -> float:
        header, row = (list(next(_rows([line], mark), [])) for line in lines)
        found = [_number(cell, mark != ",") for cell in row]
        return (len(header) == len(row) > 1) * (1 + 1 - found.count(None) / max(len(found), 1))

    best = max(_MARKS, key=numbers)
    return best if numbers(best) else next((mark for mark in ";\t" if mark in lines[0]), ",")


def _opening(file: TextIO) -> tuple[list[str], int]:
    """The first lines, of the comments before a header the last alone, and how many were left out."""
    head = list(itertools.islice(file, 100))
    comments = len(list(itertools.takewhile(lambda line: line.startswith("#"), head)))
    start = max(comments - 1, 0)
    if comments and len(head) > comments:
        header, row = head[start].lstrip("# "), next((line for line in head[comments:] if line.strip()), "")
        mark = _separator((row, row))
        if len(next(_rows([header], mark), [])) != len(next(_rows([row], mark), [])):
            return head[comments:], comments
        head[start] = header
    return head[start:], start


class _Reader:
    """The cells of a file as they come: numbers, and the texts that are none."""

    def __init__(self, path: Path) -> None:
        self.path, self.width = path, 0
        self.names: tuple[str, ...] | None = None
        self.numbers, self.lines = array("d"), array("q")
        self.texts: dict[int, dict[int, str]] = defaultdict(dict)  # by column and row
        self.integers: set[int] = set()
        self.points = self.commas = False

    def read(self, file: TextIO) -> Self:
        """Read all lines."""
        head, skipped = _opening(file)
        full = [line for line in head if line.strip()]
        mark = _separator((full * 2)[:2]) if full else ","
        rows = _rows(itertools.chain(head, file), mark)
        for row in rows:
            if "".join(row).strip() or len(row) > 1:
                self._add(row, rows.line_num + skipped, mark != ",")
        refuse(not self.lines, f"data.path: {self.path} holds no rows of numbers")
        both = "holds numbers with decimal points and others with commas; write all with points"
        refuse(self.points and self.commas, f"data.path: {self.path} {both}")
        return self

    def _add(self, row: list[str], line: int, comma: bool) -> None:
        """Take a header or a row."""
        if not self.width:
            self.width, self.integers = len(row), set(range(len(row)))
            if all(_number(cell, comma) is None for cell in row):
                self.names = tuple(cell.strip() for cell in row)
                return
        if len(row) != self.width:
            where = f"data.path: {self.path}, line {line}"
            raise InputError(f"{where}: {len(row)} columns, but {self.width} in the first line; make them equal")
        self.integers -= {k for k in self.integers if not _integer(row[k])}
        try:
            self.numbers.extend(list(map(float, row)))
            self.points |= comma and "." in "".join(row)
        except ValueError:
            self.numbers.extend([self._cell(k, cell.strip(), comma) for k, cell in enumerate(row)])
        self.lines.append(line)

    def _cell(self, k: int, cell: str, comma: bool) -> float:
        """The number in a cell; NaN where it is kept as a text."""
        number, point = _number(cell, comma), _number(cell, False)
        self.points |= comma and "." in cell and point is not None
        self.commas |= point is None and number is not None
        if number is None:
            self.texts[k][len(self.lines)] = cell
        return math.nan if number is None else number

    def cell(self, row: int, k: int) -> Cell:
        """The number or the text in a cell."""
        text = self.texts[k].get(row, "")
        return self.numbers[row * self.width + k] if text.lower() in _MISSING else text

    def table(self, wanted: Wanted, missing: Missing) -> Table:
        """The columns that are wanted, checked, without rows that miss something if they may be dropped."""
        values = np.array(self.numbers).reshape(-1, self.width)
        places = self._places(wanted)
        blank = np.isnan(values)
        lacking = self._lacking(blank, places)
        # of categories is a column of texts without a number
        texts = blank.all(axis=0) & ~lacking.all(axis=0)
        bad = np.isinf(values) | (blank & ~lacking & ~texts) | (lacking & (missing == "error"))
        for row, place in np.argwhere(bad[:, places])[:1].tolist():
            raise self._bad_cell(row, places[place], values)
        rows = np.flatnonzero(~lacking[:, places].any(axis=1))
        if len(rows) < len(values):
            lost = len(values) - len(rows)
            note(f"data.path: {self.path}: {lost:,} of {len(values):,} rows miss a value and are dropped")
        parts = [self._column(k, values[rows, k], rows, bool(texts[k])) for k in places]
        features = tuple(itertools.chain.from_iterable(column.features for column, _ in parts))
        names = features if self.names or texts[places].any() else None
        return Table(np.hstack([part for _, part in parts]), names, tuple(column for column, _ in parts))

    def _places(self, wanted: Wanted) -> list[int]:
        """Which columns are taken."""
        if wanted is None and self.names and self.names[0] in _INDEX and self.width > 1:
            note(f"data.path: {self.path}: its first column has no name and is left out, as an index")
            return list(range(1, self.width))
        return chosen(wanted, self.names, self.width, str(self.path))

    def _lacking(self, blank: np.ndarray, places: Sequence[int]) -> np.ndarray:
        """Which of the cells without a number miss one, rather than hold a text."""
        lacking = blank.copy()
        for k in places:
            lacking[[row for row, text in self.texts[k].items() if text.lower() not in _MISSING], k] = False
        return lacking

    def _column(self, k: int, numbers: np.ndarray, rows: np.ndarray, category: bool) -> tuple[Column, np.ndarray]:
        """A column and its features (n, width)."""
        name = self.names[k] or f"column {k + 1}" if self.names else f"x{k}"
        if not category:
            return Column(name, "integer" if k in self.integers else "number"), numbers[:, None]
        own = np.array([self.texts[k][row] for row in rows.tolist()], dtype=str)
        found = tuple(np.unique(own).tolist())
        others = ",".join(str(j + 1) for j in range(self.width) if not self.texts[j])
        many = f"data.path: {self.path}, column {k + 1} ({name}) holds {len(found)} texts; a category has at most"
        refuse(len(found) > _MOST_CATEGORIES, f"{many} {_MOST_CATEGORIES}; leave it out, e.g. data.columns=[{others}]")
        return Column(name, "category", found), (own[:, None] == np.array(found, dtype=str)).astype(float)

    def _bad_cell(self, row: int, k: int, values: np.ndarray) -> InputError:
        """Names a cell that is not a finite number."""
        line, cell = self.lines[row], self.texts[k].get(row)
        what = "is not finite" if cell is None else "is not a number" if cell else "is an empty cell"
        column = f"column {k + 1}" if self.names is None else f"column {k + 1} ({self.names[k]})"
        drop = np.isnan(values[row, k]) and (cell or "").lower() in _MISSING
        remedy = "a header line holds no numbers" if line == 1 else "remove or fill it"
        remedy += ", or drop such rows with data.missing=drop" if drop else ""
        shown = repr(str(values[row, k]) if cell is None else cell)
        return InputError(f"data.path: {self.path}, line {line}, {column}: {shown} {what}; {remedy}")


def _integer(cell: str) -> bool:
    """Whether a cell is an integer, or one may be missing there."""
    text = cell.strip()
    return text.lstrip("+-").isdecimal() or text.lower() in _MISSING
