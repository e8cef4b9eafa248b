"""The results of a training, a comparison or a sweep, on disk and on the screen."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoresde.constraints import Depth, Positive, checked
from scoresde.errors import refuse
from scoresde.files import read_json
from scoresde.plain import each, finite
from scoresde.results import table
from scoresde.results.metric import Quantity
from scoresde.results.rows import Row, Rows

_LARGEST = 1e150
_Number = float | None  # None for NaN
_Numbers = dict[str, list[_Number]]
_STORED = {  # fields of results besides rows and quantities
    "title": str, "n": int, "seeds": Depth, "floors": _Numbers, "targets": dict[str, _Numbers], "notes": list[str],
    "comparable": bool, "cards": dict[str, dict[str, Any]],
}  # fmt: skip
_ROW = {
    "name": str, "setting": str, "budget": int | None, "tolerance": _Number, "steps": int | None,
    "nfe": Positive | None, "stochastic": bool, "seconds": list[_Number], "memory": _Number, "values": _Numbers,
    "halves": dict[str, _Number], "error": str | None, "target": str,
}  # fmt: skip
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
        stored = {key: getattr(row, key) for key in _ROW}
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
        content = dict(content) if isinstance(content, Mapping) else {}
        content = {"title": content.get("problem") or "", "quantities": [], "cards": {}, "targets": {}, **content}
        missing = [key for key in ("rows", *_STORED) if key not in content]
        refuse(bool(missing), f"{where}: not results of scoresde, {', '.join(missing)} missing")
        stored = {key: _nan(checked(content[key], f"{where}: {key}", kind)) for key, kind in _STORED.items()}
        rows = checked(content["rows"], f"{where}: rows", list[dict[str, Any]])
        quantities = checked(content["quantities"], f"{where}: quantities", list[Quantity])
        known = {**(known or {}), **{q.key: q for q in quantities}}
        found = cls(rows=[_row(row, where) for row in rows], quantities=known, **stored)
        lengths = {len(values) for row in found.succeeded for values in row.values.values()}
        wrong = f"{where}: values: there are {sorted(lengths)} in a row, and {found.seeds} seeds"
        refuse(found.comparable and not lengths <= {found.seeds}, wrong)
        return found

    @classmethod
    def read(cls, path: Path, known: Mapping[str, Quantity] | None = None) -> Results:
        """The results in a file, see `of_content`."""
        return cls.of_content(read_json(path), path, known)

    def header(self) -> list[str]:
        """Column names of the flat table: each value is followed by half of its interval."""
        return list(self._record(Row("")))

    def flat(self) -> list[list[Any]]:
        """The rows under `header`; the floor is a row too."""
        floors = {"": self.floors} if self.floors else self.targets
        real = [Row(f"floor (real data{name and f', {name}'})", values=own) for name, own in floors.items()]
        return [list(self._record(row).values()) for row in [*self.rows, *real]]

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


def _row(stored: Mapping[str, Any], where: object) -> Row:
    """A row from its plain values, those of older versions included; null stands for NaN among numbers."""
    renamed = {_RENAMED.get(key, key): value for key, value in stored.items()}
    refuse("name" not in renamed, f"{where}: rows: one has no name")
    found = {key: checked(renamed[key], f"{where}: rows: {key}", kind) for key, kind in _ROW.items() if key in renamed}
    row = Row(**{key: _nan(value) if key in ("seconds", "values", "halves") else value for key, value in found.items()})
    row.nfe = math.nan if row.nfe is None else row.nfe
    return row


def _nan(value: Any, _: str = "") -> Any:
    """The same plain values with NaN for null, and for numbers whose squares are not finite."""
    lost = value is None or (isinstance(value, float) and abs(value) > _LARGEST)
    return math.nan if lost else each(value, _nan)
