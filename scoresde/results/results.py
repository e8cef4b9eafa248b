"""The results of a training, a comparison or a sweep, on disk and on the screen."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoresde.errors import InputError
from scoresde.plain import finite
from scoresde.results import table
from scoresde.results.metric import Quantity
from scoresde.results.rows import Row, Rows

_UNSTORED = ("shown",)  # fields of a row
_STORED = ("title", "n", "seeds", "floors", "notes", "comparable")  # fields of results besides rows and quantities
_FLAT = ("setting", "budget", "tolerance", "steps", "nfe", "stochastic")  # fields of a row in the flat table
_RENAMED = {"figures": "values", "sde": "setting"}  # fields of a row, as they were called before


class Results(Rows):
    """Rows with their forms for people and files: text, HTML, JSON, CSV."""

    def content(self) -> dict[str, Any]:
        """As plain values for JSON, which has neither NaN nor infinity: they become null."""
        stored = {key: getattr(self, key) for key in _STORED}
        quantities = [dataclasses.asdict(q) for q in self.measured]
        rows = [self._plain(row) for row in self.rows]
        found: dict[str, Any] = finite({**stored, "quantities": quantities, "rows": rows})
        return found

    def _plain(self, row: Row) -> dict[str, Any]:
        stored = {f.name: getattr(row, f.name) for f in dataclasses.fields(row) if f.name not in _UNSTORED}
        keys = (*row.values, *(["seconds"] if row.seconds else []))
        return {"label": self.label(row), **stored, "intervals": {k: row.interval(k)._asdict() for k in keys}}

    @classmethod
    def of_content(cls, content: Any, where: object, known: Mapping[str, Quantity] | None = None) -> Results:
        """The inverse of `content`, also for what older versions wrote.

        Args:
            content: plain values.
            where: the file, for messages.
            known: declarations for results that were written without them.

        Raises:
            InputError: the content is something else.
        """
        try:
            content = {"title": content.get("problem"), **content}
            rows = [_row(row) for row in content["rows"]]
            stored = {key: content[key] for key in _STORED}
            quantities = {**(known or {}), **{q["key"]: Quantity(**q) for q in content.get("quantities", ())}}
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where}: not results of scoresde ({type(error).__name__}: {error})") from None
        return cls(rows=rows, quantities=quantities, **stored)

    @classmethod
    def read(cls, path: Path, known: Mapping[str, Quantity] | None = None) -> Results:
        """The results in a file, see `of_content`."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not readable as JSON ({error})") from None
        return cls.of_content(content, path, known)

    def header(self) -> list[str]:
        """Column names of the flat table: each value is followed by half of its interval."""
        return list(self._record(Row("")))

    def flat(self) -> list[list[Any]]:
        """The rows under `header`; the floor is a row too."""
        floor = [Row("floor (real data)", values=self.floors)] if self.floors else []
        return [list(self._record(row).values()) for row in [*self.rows, *floor]]

    def csv(self) -> str:
        """The flat table as comma-separated values."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header(), *self.flat()])
        return text.getvalue()

    def _record(self, row: Row) -> dict[str, Any]:
        record = {"sampler": row.name, **{key: getattr(row, key) for key in _FLAT}, "memory_mb": row.memory}
        for key in ("seconds", *(q.key for q in self.measured)):
            record[key], record[f"{key}_half"] = row.interval(key)
        found: dict[str, Any] = finite({**record, "error": row.error})
        return found

    def __str__(self) -> str:
        return table.text(self)

    def _repr_html_(self) -> str:
        return table.html(self)


def _row(stored: Mapping[str, Any]) -> Row:
    """A row from its plain values, those of older versions included; null stands for NaN among numbers."""
    names = {f.name for f in dataclasses.fields(Row)} - set(_UNSTORED)
    renamed = {_RENAMED.get(key, key): value for key, value in stored.items()}
    row = Row(**{key: value for key, value in renamed.items() if key in names})
    row.nfe = math.nan if row.nfe is None else row.nfe
    row.values = {k: [math.nan if v is None else v for v in values] for k, values in row.values.items()}
    return row
