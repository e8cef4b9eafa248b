"""Rows of results, a sampler in a setting each, and what follows from them: ranking, floors, labels, blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, Self

from scoresde.errors import InputError
from scoresde.results.card import require_same
from scoresde.results.interval import Interval, student
from scoresde.results.metric import Measurement, Quantity

if TYPE_CHECKING:
    from torch import Tensor

    from scoresde.data.transform import Transform


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
        target: what its samples are compared with, where that is not the same for all rows.
        shown: the first samples of the first seed, for pictures; not stored.
        items: the same of an item of each seed, by what they show, in data units; not stored.
        choices: `scoresde.sampling.Choices` of the first seed, for the picture; not stored.
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
    target: str = ""
    shown: Tensor | None = field(default=None, repr=False, compare=False)
    items: dict[str, list[Any]] = field(default_factory=dict, repr=False, compare=False)
    choices: Any = field(default=None, repr=False, compare=False)

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
        """Keep the reason, in one line, in place of values."""
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        self.values, self.halves, self.seconds = {}, {}, []
        self.error = kind + " ".join(str(error).split())[:300]

    def extend(self, other: Row) -> None:
        """Add the values of further seeds of the same sampler."""
        self.seconds += other.seconds
        self.error = self.error or other.error
        _extend(self.values, other.values)


def finite_means(rows: Iterable[Row], key: str) -> list[float]:
    """The means of a quantity, of the rows that have one."""
    return [mean for mean in (row.interval(key).mean for row in rows) if math.isfinite(mean)]


def _extend(values: dict[str, list[float]], others: Mapping[str, list[float]]) -> None:
    for key, more in others.items():
        values.setdefault(key, []).extend(more)


@dataclass
class Rows:
    """Rows, what was measured, and what real data reach.

    Attributes:
        title: what was sampled.
        n: samples of a seed.
        seeds: how many.
        rows: the samplers.
        quantities: what was measured, by key, in the order of columns.
        floors: for each quantity with a floor what real items reach, for each seed.
        targets: for each target of rows its own floors in place of these.
        notes: what a reader must know, a sentence each.
        comparable: whether all rows are of one problem and the same seeds, so that they can be compared in pairs.
        cards: what decides the values of a quantity besides the samples, by its key; see `scoresde.results.card`.
        items: for pictures of an item of each seed, lines above those of the rows, in data units; not stored.
        endpoints: of each SDE the first exact endpoints of the first seed, or of each target real data, for pictures;
            not stored.
        transform: the map to data units, for pictures; not stored.
    """

    title: str
    n: int
    seeds: int
    rows: list[Row] = field(default_factory=list)
    quantities: dict[str, Quantity] = field(default_factory=dict)
    floors: dict[str, list[float]] = field(default_factory=dict)
    targets: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    comparable: bool = True
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: dict[str, list[Any]] = field(default_factory=dict, repr=False, compare=False)
    endpoints: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)
    transform: Transform | None = field(default=None, repr=False, compare=False)

    def add(self, row: Row, found: Mapping[str, Measurement], quantities: Mapping[str, Quantity]) -> None:
        """Add the measurements of one more seed of a row."""
        floors = self._floors(row)
        for key, measured in found.items():
            self.quantities.setdefault(key, quantities.get(key, Quantity(key)))
            values = row.values.setdefault(key, [])
            values.append(measured.value)
            if not math.isnan(measured.half):
                row.halves[key] = measured.half
            if measured.floor is not None and len(floors.setdefault(key, [])) < len(values):
                floors[key].append(measured.floor)

    def _floors(self, row: Row) -> dict[str, list[float]]:
        """What real items reach of the target of a row."""
        return self.targets.setdefault(row.target, {}) if row.target else self.floors

    @property
    def parts(self) -> dict[str, Self]:
        """The results of each target, with its floors; all of them under an empty name where there is one target."""
        found = {}
        for name in dict.fromkeys(row.target for row in self.rows) if self.targets else ():
            rows = [row for row in self.rows if row.target == name]
            found[name] = replace(self, rows=rows, floors=self.targets.get(name, self.floors), targets={})
        return found or {"": self}

    def extend(self, other: Rows) -> None:
        """Add the values of further seeds; rows of the same sampler become one.

        Raises:
            InputError: values of different cards.
        """
        self.join_cards(other)
        self.title = self.title if self.title == other.title else ""
        self.comparable &= self.n == other.n
        self.seeds += other.seeds
        if (self.floors, self.targets) != (other.floors, other.targets):  # else they are those of the same real data
            _extend(self.floors, other.floors)
            for name, floors in other.targets.items():
                _extend(self.targets.setdefault(name, {}), floors)
        mine = {(row.name, row.setting, row.steps, row.target): row for row in self.rows}
        for row in other.rows:
            if same := mine.get((row.name, row.setting, row.steps, row.target)):
                same.extend(row)
            else:
                self.rows.append(row)

    def join_cards(self, other: Rows, names: tuple[str, str] = ("one", "another")) -> None:
        """Take over the cards of results that are put beside these; both have names for messages.

        Raises:
            InputError: two cards of a quantity differ.
        """
        for key, card in other.cards.items():
            require_same(key, self._card(key), other._card(key), names)
            self.cards.setdefault(key, card)

    def _card(self, key: str) -> Mapping[str, Any] | None:
        """The card of a quantity, with the number of samples if it depends on that."""
        card, q = self.cards.get(key), self.quantities.get(key)
        return {"n": self.n, **card} if card and q and q.of_n else card

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
    def failed(self) -> list[Row]:
        """The rows that have a reason in place of values."""
        return [row for row in self.rows if row.error is not None]

    @property
    def basis(self) -> tuple[Any, ...]:
        """What must be equal in results whose rows are to be compared with each other."""
        return self.title, self.n, self.seeds, self.comparable, self.floors, self.targets

    @property
    def settings(self) -> list[str]:
        """The settings in their order."""
        return list(dict.fromkeys(row.setting for row in self.rows))

    @property
    def ranking(self) -> list[Quantity]:
        """The quantities by which samplers are ranked: the first one with a floor, then those that say so."""
        good = [q for q in self.measured if q.direction]
        floored = {*self.floors, *chain.from_iterable(self.targets.values())}
        first = [q for q in good if q.key in floored] or [q for q in good if not q.ranks]
        return list(dict.fromkeys([*first[:1], *(q for q in good if q.ranks)]))

    def label(self, row: Row) -> str:
        """The name of a row's sampler, with its setting if there are several."""
        return self._named(row.name, row)

    def full_label(self, row: Row) -> str:
        """The same with the budget of the row."""
        return self.label(row) + ("" if row.budget is None else f" with budget {row.budget}")

    def families(self, rows: Iterable[Row]) -> dict[str, list[Row]]:
        """The rows of each sampler in each setting, whatever the budget or the tolerance."""
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(self.family_label(row), []).append(row)
        return found

    def family_label(self, row: Row) -> str:
        """The name of a row's sampler without its tolerance, with its setting if there are several."""
        return self._named(row.family, row)

    def _named(self, name: str, row: Row) -> str:
        return f"{name}, {row.setting}" if row.setting and len(self.settings) > 1 else name

    def blocks(self, rows: Iterable[Row]) -> dict[int | None, list[Row]]:
        """The rows of each budget, small ones first; adaptive ones last, under None."""
        ordered = sorted(rows, key=lambda row: math.inf if row.budget is None else row.budget)
        return {budget: list(own) for budget, own in groupby(ordered, key=lambda row: row.budget)}

    def floor(self, key: str) -> Interval | None:
        """What real items reach; None for a quantity without a floor."""
        return student(self.floors[key]) if self.floors.get(key) else None

    def ratio(self, row: Row, quantity: Quantity) -> Interval:
        """Value over floor with its interval, to first order; NaN where that has no meaning.

            half / ratio = sqrt((h_value / value)^2 + (h_floor / floor)^2)

        One seed has no spread of its own: it is taken from that of the floors, k of them, relative to their mean. A
        single floor is taken as exact.
        """
        floors, value = self._floors(row).get(quantity.key), row.interval(quantity.key)
        if not (floors and quantity.ratio):
            return Interval(math.nan, math.nan)
        floor = student(floors)
        ratio, relative = Measurement(value.mean, floor.mean).ratio, floor.half / floor.mean if floor.mean else math.nan
        spread = relative * math.sqrt(len(floors))
        own = spread if math.isnan(value.half) else value.half / value.mean if value.mean else math.nan
        return Interval(ratio, ratio * (own if math.isnan(relative) else math.hypot(own, relative)))

    def best(self) -> float | None:
        """The best value of the first quantity by which samplers are ranked, over its floor if that has a meaning.

        Of several targets it is the mean of theirs.
        """
        if self.targets:
            found = [own for part in self.parts.values() if (own := part.best()) is not None]
            return sum(found) / len(found) if found else None
        quantity = next(iter(self.ranking), Quantity(""))
        rows = [row for row in self.rows if row.finite(quantity.key)]
        if not rows:
            return None
        best = min(rows, key=lambda row: quantity.sign * row.interval(quantity.key).mean)
        ratio = self.ratio(best, quantity).mean
        return best.interval(quantity.key).mean if math.isnan(ratio) else ratio

    def objective(self) -> float | None:
        """`best`, with the other sign where higher values are better: what a sweeper minimises."""
        best = self.best()
        return best and next(iter(self.ranking), Quantity("")).sign * best
