"""The results of a comparison: one row for each sampler, SDE and budget, on disk as results.json and results.csv."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from scoresde import runs
from scoresde.compare.intervals import Interval, student
from scoresde.data import Transform
from scoresde.errors import InputError

RESULTS, TABLE = "results.json", "results.csv"
ENDPOINT = "endpoint_rms"  # the figure by which deterministic samplers of an exact problem are judged
_STORED = ("problem", "n", "seeds", "floors", "notes", "comparable")  # of a comparison, besides its rows
# figures in the order of tables and plots, and what they are
WORDS = {
    "sliced_wasserstein": ("sliced W", "sliced Wasserstein distance to real data"),
    "energy_distance": ("energy", "energy distance to real data; unbiased: 0 on average for a perfect sampler"),
    "mmd2": ("MMD²", "squared maximum mean discrepancy to real data, Gaussian kernel; unbiased, too"),
    "frechet_distance": ("Frechet", "Frechet distance to real data in features of your network; depends on n"),
    "endpoint_median": ("median", "median distance to the exact endpoint of the same noise"),
    "endpoint_rms": ("RMS", "root mean square distance to the exact endpoint"),
    "endpoint_p95": ("95 %", "95th percentile of the distance to the exact endpoint"),
    "other_basin": ("astray", "share of samples that landed in another basin than the exact one"),
}


@dataclass
class Row:
    """One sampler under one SDE with one budget.

    Attributes:
        name: of the sampler.
        sde: name of the SDE.
        budget: network evaluations allowed per sample; None for adaptive solvers, which have a tolerance.
        tolerance: of an adaptive solver.
        steps: of the sampler, the denoising included; None for adaptive solvers.
        nfe: network evaluations per sample, counted.
        stochastic: whether it asked for noise.
        seconds: wall-clock time of n samples, for each seed.
        memory: peak memory in MB above that before, None where it cannot be measured.
        figures: for each figure of merit its values for the seeds.
        error: why there are no figures.
        shown: the first samples of the first seed, for pictures; not stored.
    """

    name: str
    sde: str = ""
    budget: int | None = None
    tolerance: float | None = None
    steps: int | None = None
    nfe: float = math.nan
    stochastic: bool = False
    seconds: list[float] = field(default_factory=list)
    memory: float | None = None
    figures: dict[str, list[float]] = field(default_factory=dict)
    error: str | None = None
    shown: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def family(self) -> str:
        """The name without the tolerance: what makes one line in a plot."""
        return self.name if self.tolerance is None else self.name.removesuffix(f" {self.tolerance:g}")

    def interval(self, figure: str) -> Interval:
        """Mean and 95 % interval of a figure over the seeds; `seconds` is one too."""
        return student(self.seconds if figure == "seconds" else self.figures.get(figure, []))


@dataclass
class Comparison:
    """Everything a report needs.

    Attributes:
        problem: what was sampled, in words.
        n: samples of a seed.
        seeds: how many.
        rows: the results so far.
        floors: for each distance its values between real data and real data, for the seeds.
        notes: what a reader must know, a sentence each.
        comparable: whether all rows are of one problem and its seeds, so that they may be judged in pairs.
        endpoints: of each SDE the first exact endpoints of the first seed, for pictures; not stored.
        transform: the way to data units, for pictures; not stored.
    """

    problem: str
    n: int
    seeds: int
    rows: list[Row] = field(default_factory=list)
    floors: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    comparable: bool = True
    endpoints: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)
    transform: Transform | None = field(default=None, repr=False, compare=False)

    @property
    def figures(self) -> list[str]:
        """The figures that some row has, in the order of `WORDS`, then others."""
        there = dict.fromkeys(k for row in self.rows for k in row.figures)
        return [*(k for k in WORDS if k in there), *(k for k in there if k not in WORDS)]

    @property
    def sdes(self) -> list[str]:
        """The SDEs in their order."""
        return list(dict.fromkeys(row.sde for row in self.rows))

    def label(self, row: Row) -> str:
        """The name of a row's sampler, with its SDE if there are several."""
        return row.name if len(self.sdes) < 2 else f"{row.name}, {row.sde}"

    def distance(self) -> str | None:
        """The figure by which all samplers are judged: the first that has a floor."""
        return next((k for k in self.figures if k in self.floors), None)


def ordered(rows: Iterable[Row]) -> list[Row]:
    """By budget, then in the order of the samplers; adaptive ones last."""
    return sorted(rows, key=lambda row: math.inf if row.budget is None else row.budget)


def write(folder: Path, comparison: Comparison, extra: Mapping[str, Any] | None = None) -> None:
    """Write both files; a reader sees the old ones or the new ones, whole."""
    stored = {k: getattr(comparison, k) for k in _STORED}
    content = {**stored, "rows": [_plain(row, comparison) for row in comparison.rows], **(extra or {})}
    runs.write_json(folder / RESULTS, _finite(content))
    runs.write_text(folder / TABLE, _csv(comparison))


def read(path: Path) -> Comparison:
    """The comparison of a results.json.

    Raises:
        InputError: the file is not one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {f.name for f in fields(Row)} - {"shown"}
        rows = [Row(**{k: v for k, v in row.items() if k in names}) for row in content["rows"]]
        rest = {k: content[k] for k in _STORED}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not as scoresde compare wrote it ({type(error).__name__}: {error})") from None
    for row in rows:
        row.nfe = math.nan if row.nfe is None else row.nfe
        row.figures = {k: [math.nan if v is None else v for v in values] for k, values in row.figures.items()}
    return Comparison(rows=rows, **rest)


def _plain(row: Row, comparison: Comparison) -> dict[str, Any]:
    stored = {f.name: getattr(row, f.name) for f in fields(row) if f.name != "shown"}
    means = {k: row.interval(k)._asdict() for k in (*row.figures, *(["seconds"] if row.seconds else []))}
    return {"label": comparison.label(row), **stored, "intervals": means}


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity: null."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def header(comparison: Comparison) -> list[str]:
    """Column names of the flat table: each figure is followed by half of its interval."""
    single = ["solver", "sde", "budget", "tolerance", "steps", "nfe", "stochastic", "memory_mb"]
    measured = [f"{k}{end}" for k in ("seconds", *comparison.figures) for end in ("", "_half")]
    return [*single, *measured, "error"]


def flat(comparison: Comparison) -> list[list[Any]]:
    """The rows under `header`; floors are rows too."""
    lines = [_cells(row, comparison) for row in comparison.rows]
    if comparison.floors:
        lines.append(_cells(Row("floor (real data)", figures=comparison.floors), comparison))
    return lines


def _cells(row: Row, comparison: Comparison) -> list[Any]:
    single: list[Any] = [row.name, row.sde, row.budget, row.tolerance, row.steps, row.nfe, row.stochastic, row.memory]
    measured: list[float] = []
    for k in ("seconds", *comparison.figures):
        measured += row.interval(k)
    return [*(_finite(v) for v in (*single, *measured)), row.error]


def _csv(comparison: Comparison) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header(comparison))
    writer.writerows(["" if v is None else v for v in line] for line in flat(comparison))
    return text.getvalue()


def best(comparison: Comparison) -> float | None:
    """The lowest mean of the figure by which all are judged, for sweepers."""
    figure = comparison.distance()
    if figure is None:
        return None
    means = [row.interval(figure).mean for row in comparison.rows if row.figures.get(figure)]
    return min((m for m in means if math.isfinite(m)), default=None)


def succeeded(rows: Sequence[Row]) -> list[Row]:
    """Those that have figures."""
    return [row for row in rows if row.error is None]
