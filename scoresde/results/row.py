"""The results of a training, a comparison or a sweep: one row for each sampler, as JSON and CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoresde.errors import InputError
from scoresde.results.interval import Interval, student
from scoresde.results.metric import Measurement, Quantity

if TYPE_CHECKING:
    from torch import Tensor

    from scoresde.data.transform import Transform

_UNSTORED = ("shown",)  # fields of a row
_STORED = ("title", "n", "seeds", "floors", "notes", "comparable")  # fields of results besides rows and quantities
_FLAT = ("setting", "budget", "tolerance", "steps", "nfe", "stochastic")  # fields of a row in the flat table
_RENAMED = {"figures": "values", "sde": "setting"}  # fields of a row, as they were called before


@dataclass
class Row:
    """One sampler in one setting.

    Attributes:
        name: of the sampler.
        setting: what else tells it from other rows, such as its SDE.
        budget: network evaluations allowed per sample; None for adaptive solvers, which have a tolerance.
        tolerance: of an adaptive solver.
        steps: of the sampler, the final denoising included; None for adaptive solvers.
        nfe: network evaluations per sample, counted.
        stochastic: whether it drew noise.
        seconds: wall-clock time of n samples, for each seed.
        memory: peak memory in MB above that before, None where it cannot be measured.
        values: of each quantity, for each seed.
        halves: half-intervals that were measured within a single seed.
        error: why there are no values.
        shown: the first samples of the first seed, for pictures; not stored.
    """

    name: str
    setting: str = ""
    budget: int | None = None
    tolerance: float | None = None
    steps: int | None = None
    nfe: float = math.nan
    stochastic: bool = False
    seconds: list[float] = field(default_factory=list)
    memory: float | None = None
    values: dict[str, list[float]] = field(default_factory=dict)
    halves: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    shown: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def family(self) -> str:
        """The name without the tolerance: what makes one line in a plot."""
        return self.name if self.tolerance is None else self.name.removesuffix(f" {self.tolerance:g}")

    def interval(self, key: str) -> Interval:
        """Mean and 95 % interval of a quantity, or of `seconds`, over the seeds."""
        values = self.seconds if key == "seconds" else self.values.get(key, [])
        found = student(values)
        return Interval(found.mean, self.halves.get(key, math.nan)) if len(values) == 1 else found

    def finite(self, key: str) -> bool:
        """Whether the quantity was measured for every seed."""
        return bool(self.values.get(key)) and all(map(math.isfinite, self.values[key]))

    def failed(self, error: Exception) -> None:
        """Keep the reason in place of values."""
        self.values, self.halves, self.seconds, self.error = {}, {}, [], reason(error)


@dataclass
class Results:
    """Rows, what was measured, and what real data reach.

    Attributes:
        title: what was sampled.
        n: samples of a seed.
        seeds: how many.
        rows: the samplers.
        quantities: what was measured, by key, in the order of columns.
        floors: for each quantity with a floor what real items reach, for each seed.
        notes: what a reader must know, a sentence each.
        comparable: whether all rows are of one problem and the same seeds, so that they can be compared in pairs.
        endpoints: of each SDE the first exact endpoints of the first seed, for pictures; not stored.
        transform: the map to data units, for pictures; not stored.
    """

    title: str
    n: int
    seeds: int
    rows: list[Row] = field(default_factory=list)
    quantities: dict[str, Quantity] = field(default_factory=dict)
    floors: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    comparable: bool = True
    endpoints: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)
    transform: Transform | None = field(default=None, repr=False, compare=False)

    def add(self, row: Row, found: Mapping[str, Measurement], quantities: Mapping[str, Quantity]) -> None:
        """Add the measurements of one more seed of a row."""
        for key, measured in found.items():
            self.quantities.setdefault(key, quantities.get(key, Quantity(key)))
            values = row.values.setdefault(key, [])
            values.append(measured.value)
            if not math.isnan(measured.half):
                row.halves[key] = measured.half
            if measured.floor is not None and len(self.floors.setdefault(key, [])) < len(values):
                self.floors[key].append(measured.floor)

    @property
    def measured(self) -> list[Quantity]:
        """The quantities that some row has."""
        there = dict.fromkeys(key for row in self.rows for key in row.values)
        known = [q for key, q in self.quantities.items() if key in there]
        return known + [Quantity(key) for key in there if key not in self.quantities]

    @property
    def succeeded(self) -> list[Row]:
        """The rows that have values."""
        return [row for row in self.rows if row.error is None]

    @property
    def basis(self) -> tuple[Any, ...]:
        """What must be equal in results whose rows are to be compared with each other."""
        return self.title, self.n, self.seeds, self.comparable, self.floors

    @property
    def settings(self) -> list[str]:
        """The settings in their order."""
        return list(dict.fromkeys(row.setting for row in self.rows))

    @property
    def ranking(self) -> list[Quantity]:
        """The quantities by which samplers are ranked: the first one with a floor, then those that say so."""
        good = [q for q in self.measured if q.direction]
        first = [q for q in good if q.key in self.floors] or [q for q in good if not q.ranks]
        return list(dict.fromkeys([*first[:1], *(q for q in good if q.ranks)]))

    def label(self, row: Row) -> str:
        """The name of a row's sampler, with its setting if there are several."""
        return row.name if len(self.settings) < 2 or not row.setting else f"{row.name}, {row.setting}"

    def full_label(self, row: Row) -> str:
        """The same with the budget of the row."""
        return self.label(row) + ("" if row.budget is None else f" with budget {row.budget}")

    def families(self, rows: Iterable[Row]) -> dict[str, list[Row]]:
        """The rows of each sampler in each setting, whatever the budget or the tolerance."""
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(row.family if len(self.settings) < 2 else f"{row.family}, {row.setting}", []).append(row)
        return found

    def blocks(self, rows: Iterable[Row]) -> dict[int | None, list[Row]]:
        """The rows of each budget, small ones first; adaptive ones last, under None."""
        ordered = sorted(rows, key=lambda row: math.inf if row.budget is None else row.budget)
        return {budget: list(own) for budget, own in groupby(ordered, key=lambda row: row.budget)}

    def floor(self, key: str) -> Interval | None:
        """What real items reach; None for a quantity without a floor."""
        return student(self.floors[key]) if self.floors.get(key) else None

    def ratio(self, row: Row, quantity: Quantity) -> float:
        """Value over floor; NaN where that has no meaning."""
        floor = self.floor(quantity.key)
        return Measurement(row.interval(quantity.key).mean, floor.mean).ratio if floor and quantity.ratio else math.nan

    def best(self) -> float | None:
        """The best value of the first quantity by which samplers are ranked, over its floor if that has a meaning."""
        quantity = next(iter(self.ranking), Quantity(""))
        rows = [row for row in self.rows if row.finite(quantity.key)]
        if not rows:
            return None
        best = min(rows, key=lambda row: quantity.sign * row.interval(quantity.key).mean)
        ratio = self.ratio(best, quantity)
        return best.interval(quantity.key).mean if math.isnan(ratio) else ratio

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
        from scoresde.results.table import text

        return text(self)

    def _repr_html_(self) -> str:
        from scoresde.results.table import html

        return html(self)


def reason(error: Exception) -> str:
    """Why there are no values, in one line."""
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())[:300]


def _row(stored: Mapping[str, Any]) -> Row:
    """A row from its plain values, those of older versions included; null stands for NaN among numbers."""
    names = {f.name for f in dataclasses.fields(Row)} - set(_UNSTORED)
    renamed = {_RENAMED.get(key, key): value for key, value in stored.items()}
    row = Row(**{key: value for key, value in renamed.items() if key in names})
    row.nfe = math.nan if row.nfe is None else row.nfe
    row.values = {k: [math.nan if v is None else v for v in values] for k, values in row.values.items()}
    return row


def finite(value: Any) -> Any:
    """The same plain values with null for NaN and infinities."""
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
