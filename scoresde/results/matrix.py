"""The pathology matrix: which quantity notices which disease, from which dose on; as text, HTML and plain values."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

from scoresde import progress
from scoresde.plain import finite
from scoresde.results.metric import Direction, Quantity

LEVEL = 0.05  # of false alarms
POWER = 0.8  # share of alarms from which on a dose is found
_COLOURS = ("#1b7837", "#7fbf7b", "#d9f0d3")  # of the doses, light ones first: a dark one is a keen metric
_NONE = "#f4d6d2"


class Found(NamedTuple):
    """The share of alarms at each dose, light ones first."""

    rates: Sequence[float]

    @property
    def first(self) -> int | None:
        """The number of the smallest dose that is found, from 0 on."""
        return next((i for i, rate in enumerate(self.rates) if rate >= POWER), None)

    @property
    def mark(self) -> str:
        """The number of that dose, from 1 on; a point for none."""
        return "." if self.first is None else str(self.first + 1)


def alarm_limits(values: Sequence[float], direction: Direction | None) -> tuple[float, float]:
    """Between which values there is no alarm: at most `LEVEL` of values like these lie outside, on average exactly.

    One further value among R + 1 exchangeable ones is beyond the k-th smallest of R with probability 1 - k / (R + 1).
    Quantities without a direction have two limits, each with half of the level.
    """
    known = sorted(value for value in values if math.isfinite(value))
    level = LEVEL if direction else LEVEL / 2
    k = math.ceil((1 - level) * (len(known) + 1))
    high = known[k - 1] if k <= len(known) else math.inf
    low = known[len(known) - k] if k <= len(known) else -math.inf
    return (-math.inf if direction == "lower" else low), (math.inf if direction == "higher" else high)


def alarms(values: Sequence[float], limits: tuple[float, float]) -> list[bool]:
    """Which values raise an alarm."""
    return [value < limits[0] or value > limits[1] for value in values]


@dataclass
class Matrix:
    """What every quantity notices.

    Attributes:
        n: items that played samples.
        resamplings: of healthy items that gave the limits.
        repeats: of each disease and dose.
        quantities: by key.
        diseases: their doses in words, light ones first.
        limits: of each quantity, between which there is no alarm.
        false: its share of false alarms in each half of the healthy items, with the limits of the other half.
        found: by disease and quantity.
    """

    n: int
    resamplings: int
    repeats: int
    quantities: Mapping[str, Quantity]
    diseases: Mapping[str, Sequence[str]]
    limits: dict[str, tuple[float, float]] = field(default_factory=dict)
    false: dict[str, float] = field(default_factory=dict)
    found: dict[tuple[str, str], Found] = field(default_factory=dict)

    def caught(self, disease: str) -> list[str]:
        """The quantities that find the lightest dose of a disease, the surest first."""
        rates = {key: self.found[disease, key].rates[0] for key in self.quantities}
        return sorted((key for key, rate in rates.items() if rate >= POWER), key=lambda key: -rates[key])

    def said(self) -> list[str]:
        """In words: which diseases are found at their lightest dose, and by what."""
        missed = [name for name in self.diseases if not self.caught(name)]
        lines = [
            f"Not found at the lightest dose by any metric: {', '.join(missed)}."
            if missed
            else f"Each of {len(self.diseases)} diseases is found at its lightest dose by at least one metric."
        ]
        lines.append("The lightest dose, and what finds it")
        for name, doses in self.diseases.items():
            by = ", ".join(self.quantities[key].heading for key in self.caught(name)) or "nothing"
            lines.append(f"  {name} {doses[0]}: {by}")
        return lines

    def missed(self) -> dict[str, str]:
        """What each metric misses, in words, by its heading."""
        return {q.heading: self._misses(key) for key, q in self.quantities.items()}

    def _misses(self, key: str) -> str:
        never = [name for name in self.diseases if self.found[name, key].first is None]
        late = [
            f"{name} (from: {doses[first]})"
            for name, doses in self.diseases.items()
            if (first := self.found[name, key].first)
        ]
        parts = [f"never finds {', '.join(never)}"] if never else []
        return "; ".join([*parts, *([f"finds late {', '.join(late)}"] if late else [])]) or "nothing"

    @property
    def notes(self) -> list[str]:
        """How it was measured, a sentence each."""
        return [
            f"Real items are divided at random into {self.n:,} held-out items, {2 * self.n:,} of which {self.n:,} play "
            "samples, and training items. An alarm is a value beyond that which healthy items reach in "
            f"{LEVEL:.0%} of {self.resamplings} divisions; false alarms are those of each half of these divisions with "
            "the limits of the other half.",
            f"A dose is found if {POWER:.0%} of {self.repeats} repeats raise an alarm. "
            "Networks of metrics are trained on all items, so that all parts are alike to them.",
        ]

    def text(self, width: int | None = None) -> str:
        """A line for each quantity and a column for each disease with the number of the smallest dose that is found."""
        left, total = max(len(q.heading) for q in self.quantities.values()), width or progress.columns(60)
        names, room = list(self.diseases), total - left - 7
        cell = max(map(len, names)) + 2
        full = room >= cell * len(names)
        if not full:
            cell = max(3, min(5, room // len(names)))
        heads = names if full else [str(i + 1) for i in range(len(names))]
        lines = [" " * left + "".join(f"{head:>{cell}}" for head in heads) + "  false"]
        for key, q in self.quantities.items():
            marks = "".join(f"{self.found[name, key].mark:>{cell}}" for name in names)
            lines.append(f"{q.heading:<{left}}{marks}{self.false[key]:>7.0%}")
        return "\n".join([*lines, "", *self._legend(total, numbered=not full)])

    def _legend(self, width: int, numbered: bool) -> list[str]:
        """What the marks of the text mean, and the doses."""
        words = ["1, 2, 3: the smallest dose that is found; a point: none. false: alarms in healthy items."]
        for i, (name, doses) in enumerate(self.diseases.items(), 1):
            words.append((f"{i:>2} " if numbered else "") + f"{name}: {' / '.join(doses)}")
        return [part for line in words for part in textwrap.wrap(line, width, subsequent_indent="   ")]

    def html(self) -> str:
        """The same in colours, with the share of alarms at each dose as the title of a cell."""
        heads = "".join(f"<th>{escape(name)}</th>" for name in self.diseases)
        rows = [f"<tr><th>metric</th>{heads}<th>false alarms</th></tr>"]
        for key, q in self.quantities.items():
            cells = "".join(self._cell(name, key) for name in self.diseases)
            name = f"<td title='{escape(q.meaning)}'>{escape(q.heading)}</td>"
            rows.append(f"<tr>{name}{cells}<td>{self.false[key]:.0%}</td></tr>")
        style = (
            "<style>table.matrix{border-collapse:collapse;font-size:13px}"
            "table.matrix th{cursor:default;font-weight:600;padding:.3em .4em;vertical-align:bottom}"
            "table.matrix td{border:1px solid #fff;padding:.3em .4em;text-align:center;color:#222}"
            "table.matrix td:first-child{text-align:left;white-space:nowrap}"
            "table.matrix td.keen{color:#fff}div.matrix{overflow-x:auto}</style>"
        )
        colours = "The smallest dose that is found. Dark: the lightest of three; red: none. Titles: all shares."
        words = "".join(f"<dt>{escape(name)}</dt><dd>{escape(said)}</dd>" for name, said in self.missed().items())
        table = f"<div class=matrix><table class=matrix>{''.join(rows)}</table></div>"
        return f"{style}<p>{colours}</p>{table}<p>What each metric misses:</p><dl>{words}</dl>"

    def _cell(self, disease: str, key: str) -> str:
        found, doses = self.found[disease, key], self.diseases[disease]
        title = "; ".join(f"{dose}: {rate:.0%}" for dose, rate in zip(doses, found.rates, strict=True))
        if found.first is None:
            return f"<td style='background:{_NONE}' title='{escape(title)}'>none</td>"
        keen = " class=keen" if not found.first else ""
        colour, dose = _COLOURS[found.first], doses[found.first]
        return f"<td{keen} style='background:{colour}' title='{escape(title)}'>{escape(dose)}</td>"

    def content(self) -> dict[str, Any]:
        """Plain values for JSON."""
        metrics = {
            key: {
                "words": q.title,
                "direction": q.direction,
                "limits": list(self.limits[key]),
                "false_alarms": self.false[key],
                "alarms": {name: list(self.found[name, key].rates) for name in self.diseases},
            }
            for key, q in self.quantities.items()
        }
        found: dict[str, Any] = finite(
            {
                "n": self.n,
                "resamplings": self.resamplings,
                "repeats": self.repeats,
                "level": LEVEL,
                "power": POWER,
                "diseases": {name: list(doses) for name, doses in self.diseases.items()},
                "metrics": metrics,
                "said": self.said(),
                "missed": self.missed(),
                "notes": self.notes,
            }
        )
        return found

    def csv(self) -> str:
        """A line for each quantity, disease and dose."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["metric", "disease", "dose", "alarms", "found", "false_alarms"])
        for (name, key), found in self.found.items():
            for dose, rate in zip(self.diseases[name], found.rates, strict=True):
                writer.writerow([key, name, dose, rate, rate >= POWER, self.false[key]])
        return text.getvalue()
