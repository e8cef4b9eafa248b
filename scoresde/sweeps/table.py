"""The table of a sweep: a row for each setting, with means and intervals over seeds, and one for each job without."""

import csv
import io
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from scoresde.errors import did_you_mean, refuse
from scoresde.plain import finite
from scoresde.results import Quantity
from scoresde.results.interval import Interval, student
from scoresde.results.table import aligned
from scoresde.sweeps.collect import SEED, VALUE, Collected, collected

_DONE = "finished"
_NONE = Interval(math.nan, math.nan)
_MEANS = {
    VALUE: Quantity(VALUE, words="what a sweeper minimises", direction="lower"),
    "residual": Quantity("residual", words="|y - A(x)| in units of sigma_y, about 1 for the truth"),
    "psnr": Quantity("psnr", words="of the posterior mean in dB", direction="higher"),
}


@dataclass(frozen=True)
class Setting:
    """What jobs have in common that differ in their seed alone.

    Attributes:
        settings: the values of the keys.
        seeds: how many jobs there are.
        values: of each metric, the mean over the seeds with its interval.
    """

    settings: dict[str, Any]
    seeds: int
    values: dict[str, Interval]


@dataclass
class SweepTable:
    """All jobs of a sweep.

    Attributes:
        title: where they lie.
        jobs: all of them.
        metric: the key of that by which settings are ranked.
    """

    title: str
    jobs: Sequence[Collected]
    metric: str

    @classmethod
    def of(cls, folder: Path, metric: str | None = None) -> "SweepTable":
        """That of a folder, see `collected`.

        Args:
            folder: of a sweep, or of runs.
            metric: None for the first quantity by which samplers are ranked, or what a sweeper minimises.

        Raises:
            InputError: there are no jobs, or no such metric.
        """
        table = cls(str(folder), collected(folder), metric or "")
        known = table.metrics
        wrong = f"metric: no job has {metric}{did_you_mean(table.metric, known)} (metrics: {', '.join(known)})"
        refuse(bool(metric) and metric not in known, wrong)
        first = next((job.quantities[0].key for job in table.jobs if job.quantities), VALUE)
        table.metric = metric or (first if first in known else VALUE)
        return table

    @cached_property
    def keys(self) -> list[str]:
        """The keys that differ, without the seed."""
        return [key for key in dict.fromkeys(chain(*(job.settings for job in self.jobs))) if key != SEED]

    @cached_property
    def metrics(self) -> list[str]:
        """The keys of all metrics: those by which samplers are ranked, the value, other quantities, other numbers."""
        found = dict.fromkeys(chain(*(job.values for job in self.jobs)))
        order = {key: i for i, key in enumerate(dict.fromkeys([*self._firsts(), VALUE, *self.quantities]))}
        return sorted(found, key=lambda key: order.get(key, len(order)))

    def _firsts(self) -> list[str]:
        return list(dict.fromkeys(job.quantities[0].key for job in self.jobs if job.quantities))

    @cached_property
    def quantities(self) -> dict[str, Quantity]:
        """The declarations of the metrics that have one."""
        return {q.key: q for job in self.jobs for q in job.quantities} | _MEANS

    def quantity(self, key: str) -> Quantity:
        """The declaration of a metric."""
        return self.quantities.get(key) or Quantity(key)

    @cached_property
    def settings(self) -> list[Setting]:
        """Those with a finished job, the best first. Of two with the same settings and seed the last counts."""
        groups: dict[str, dict[Any, Collected]] = {}
        for job in self.jobs:
            if job.state == _DONE:
                groups.setdefault(repr([job.settings.get(key) for key in self.keys]), {})[job.settings.get(SEED)] = job
        return sorted((self._setting(list(jobs.values())) for jobs in groups.values()), key=self.rank)

    def _setting(self, jobs: Sequence[Collected]) -> Setting:
        own = {key: value for key, value in jobs[0].settings.items() if key != SEED}
        values = {key: student([job.values[key] for job in jobs if key in job.values]) for key in self.metrics}
        return Setting(own, len(jobs), values)

    def rank(self, row: Setting) -> float:
        """A smaller one is better; infinite without the metric."""
        mean = row.values[self.metric].mean if self.metric in row.values else math.nan
        return math.inf if math.isnan(mean) else self.quantity(self.metric).sign * mean

    @property
    def others(self) -> list[Collected]:
        """The jobs that are not finished."""
        return [job for job in self.jobs if job.state != _DONE]

    def header(self) -> list[str]:
        """Column names of the flat table: each mean is followed by half of its interval."""
        return [*self.keys, "seeds", "state", "reason", *chain(*((key, f"{key}_half") for key in self.metrics))]

    def flat(self) -> list[list[Any]]:
        """The rows under `header`: the settings, the best first, then the jobs that are not finished."""
        done = [self._flat(row.settings, row.seeds, _DONE, "", row.values) for row in self.settings]
        rest = [self._flat(job.settings, _seed(job), job.state, job.reason, {}) for job in self.others]
        rows: list[list[Any]] = finite(list(map(list, (*done, *rest))))
        return rows

    def _flat(self, own: Mapping[str, Any], *about: Any) -> Iterator[Any]:
        *words, values = about
        yield from (own.get(key) for key in self.keys)
        yield from words
        yield from chain(*(values.get(key, _NONE) for key in self.metrics))

    def csv(self) -> str:
        """The flat table as comma-separated values."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header(), *self.flat()])
        return text.getvalue()

    def content(self) -> dict[str, Any]:
        """Plain values for JSON: the settings with their intervals, and every job by itself."""
        rows = [
            {"settings": row.settings, "seeds": row.seeds, "metrics": {k: v._asdict() for k, v in row.values.items()}}
            for row in self.settings
        ]
        jobs = [{key: value for key, value in asdict(job).items() if key != "quantities"} for job in self.jobs]
        declared = [asdict(self.quantity(key)) for key in self.metrics]
        found: dict[str, Any] = finite(
            {"title": self.title, "metric": self.metric, "metrics": declared, "settings": rows, "jobs": jobs}
        )
        return found

    def text(self, width: int) -> str:
        """The settings, the best first, with the metrics for which there is room; then the jobs without a result."""
        said = (f"{job.state:<8} {job.words}: {job.reason or 'no reason is known'}" for job in self.others)
        lines = [textwrap.fill(_printable(line), width, subsequent_indent=" " * 9) for line in said]
        return "\n\n".join(filter(None, [self._table(width) if self.settings else "", "\n".join(lines)]))

    def _table(self, width: int) -> str:
        """The keys, the number of seeds and the metrics, as far as there is room: the first metric, then keys."""
        rows, others = self.settings, [key for key in self.metrics if key != self.metric]
        keys = [[_short(key, self.keys), *(_cell(row.settings.get(key)) for row in rows)] for key in self.keys]
        counts = [["seeds", *(str(row.seeds) for row in rows)]] * (any(row.seeds > 1 for row in rows) or not keys)
        kept = [self.metric] * (self.metric in self.metrics)  # samples have none
        shown = [*counts, *map(self._means, kept)]
        fitting = next((k for k in range(len(keys), 1, -1) if _width([*keys[:k], *shown]) <= width), 1)
        for key in others:
            if _width([*keys[:fitting], *shown, own := self._means(key)]) <= width:
                kept, shown = [*kept, key], [*shown, own]
        hidden = len(keys[fitting:]) + len(self.metrics) - len(kept)
        lines = aligned(list(zip(*keys[:fitting], *shown, strict=True)), len(keys[:fitting]))
        legend = self._legend(kept, hidden, width)
        return "\n".join([*lines, *[""][: len(legend)], *legend])

    def _means(self, key: str) -> list[str]:
        """The column of a metric."""
        return [self.quantity(key).heading, *(str(row.values.get(key, _NONE)) for row in self.settings)]

    def _legend(self, shown: Sequence[str], hidden: int, width: int) -> list[str]:
        order = f"the best first by {self.quantity(self.metric).heading}" if self.metric in shown else ""
        lines = ["; ".join(filter(None, [order, f"{hidden} more columns are in table.csv" if hidden else ""]))]
        for key in shown:
            quantity = self.quantity(key)
            lines += [f"{quantity.heading}: {quantity.meaning}"] if quantity.meaning != quantity.heading else []
        return [part for line in lines for part in textwrap.wrap(line, width, subsequent_indent="  ")]


def _short(key: str, keys: Sequence[str]) -> str:
    """The last part of a key, or more where that would be that of another key too."""
    parts = key.split(".")
    ends = (".".join(parts[-k:]) for k in range(1, len(parts) + 1))
    return next(end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else _printable(value)


def _printable(value: Any) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(value))


def _seed(job: Collected) -> str:
    """Which seed a single job has, in the column of their number."""
    return f"{SEED}={job.settings[SEED]}" if SEED in job.settings else ""


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) + 2 for column in columns) - 2
