"""Columns of tables: numbers, integers and categories, and the features that a network sees of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np


class Column(NamedTuple):
    """A column of a table; one feature for numbers, and one for each category, which is 1 where it applies, else 0.

    Attributes:
        name: in the header.
        kind: what samples are rounded to.
        categories: the texts of a column of categories.
    """

    name: str
    kind: Literal["number", "integer", "category"] = "number"
    categories: tuple[str, ...] = ()

    @property
    def features(self) -> list[str]:
        """The names of its features."""
        return [f"{self.name}={text}" for text in self.categories] or [self.name]


def settled(columns: Sequence[Column], values: np.ndarray) -> np.ndarray:
    """Features (n, D) as the columns can hold them: whole integers, and one category, the likeliest; NaN stays."""
    out, start = values.copy(), 0
    for column in columns:
        own = slice(start, start := start + len(column.features))
        if column.kind == "integer":
            out[:, own] = np.rint(values[:, own])
        elif column.kind == "category":
            chosen = np.eye(len(column.categories))[values[:, own].argmax(axis=1)]
            out[:, own] = np.where(np.isnan(values[:, own]).any(axis=1, keepdims=True), np.nan, chosen)
    return out


def cells(columns: Sequence[Column], values: np.ndarray) -> Iterator[list[str]]:
    """Rows of text of settled features (n, D); numbers as the shortest text that reads back as the same number."""
    for row in values:
        texts, start = [], 0
        for column in columns:
            own = row[start : (start := start + len(column.features))]
            if np.isnan(own).any():
                texts.append("nan")
            elif column.kind == "category":
                texts.append(column.categories[int(own.argmax())])
            else:
                texts.append(str(int(own[0])) if column.kind == "integer" else str(own[0]))
        yield texts
