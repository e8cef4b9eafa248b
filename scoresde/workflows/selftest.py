"""Which metrics notice what: planted diseases in real items, thresholds from real items alone."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from scoresde.constraints import Checked, Count, NonNegativeInt, at_least, fitting
from scoresde.data import Dataset
from scoresde.errors import refuse
from scoresde.files import write_json, write_text
from scoresde.metrics.features import FeatureMetric, features_of
from scoresde.results import Quantity
from scoresde.results.matrix import Found, Matrix, alarm_limits, alarms
from scoresde.results.page import Made, page
from scoresde.results.rows import Rows
from scoresde.runs.folder import versions
from scoresde.runs.report import REPORT
from scoresde.workflows.diseases import DISEASES, Real

_SHARE = 5  # items for each one that plays a sample: n held out, 2 n fresh, 2 n for training
_LEAST = 20  # items that play samples


class Remembered(nn.Module):
    """A network that keeps the features of every item that it has seen, so that none is computed twice.

    Args:
        network: maps items (B, *event) to features, each by itself.
        device: where it computes.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], device: str = "cpu") -> None:
        super().__init__()
        self._device = device
        self._network = [network]  # a list, so that it is no part of this module
        self._rows: dict[bytes, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, k) of items x (B, *event)."""
        keys = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in x.cpu().contiguous().numpy()]
        new = {key: i for i, key in enumerate(keys) if key not in self._rows}
        if new:
            found = features_of(self._network[0], x[list(new.values())], device=self._device)
            self._rows |= zip(new, found, strict=True)
        return torch.stack([self._rows[key] for key in keys])


@dataclass
class SelfTest(Checked):
    """Measures real items that play samples, healthy and with every disease, with every metric.

    All real items, training and held-out ones, are divided at random into n held-out items, 2 n of which some play the
    samples, and the rest as training items, again and again. An alarm is a value beyond the one that at most 5 % of
    `resamplings` divisions reach with healthy items. False alarms are counted in each half of them with the limits of
    the other half. A dose is found if 8 of 10 `repeats`, in further divisions, raise an alarm. Networks of metrics are
    made once, of all items.

    Args:
        metrics: by name, of samples.
        dataset: the real items.
        n: items that play samples; a quarter of all where there are fewer than 4 n. At most 5 n are divided.
        repeats: divisions in which the diseases are planted.
        resamplings: of healthy items, for the thresholds; each half needs 39, of which 2.5 % are one.
        seed: of all that is random.
        device: where networks of metrics compute.

    Raises:
        InputError: there are too few items.
    """

    metrics: Mapping[str, Any]
    dataset: Dataset
    n: Count = 1000
    repeats: Count = 10
    resamplings: Annotated[int, at_least(78), fitting(16)] = 200
    seed: NonNegativeInt = 0
    device: str = "cpu"
    _quantities: dict[str, Quantity] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        there = len(self.dataset.items) + len(self.dataset.heldout)
        self.n = min(self.n, there // 4)
        refuse(self.n < _LEAST, f"data: {there} items are too few; give {4 * _LEAST} or more")
        refuse(not self.metrics, "metrics: none is given; give one, such as metrics=[standard]")
        self.diseases = [one for one in DISEASES if one.fits(self.dataset)]
        if self.dataset.transform.levels is not None:  # noise in levels is finer
            self.diseases = [one for one in self.diseases if one.name != "noise" or one.of == "levels"]
        for metric in self.metrics.values():
            for q in getattr(metric, "quantities", ()):
                self._quantities[q.key] = q

    @property
    def work(self) -> int:
        """Sets of items that are measured."""
        return self.resamplings + self.repeats * sum(len(one.doses) for one in self.diseases)

    def __call__(self, on_step: Callable[[], object] = lambda: None) -> Matrix:
        """Measure everything.

        Args:
            on_step: called after each of `work` sets.
        """
        real = Real(self.dataset, self.n, _SHARE * self.n, self.seed)
        metrics = [self._ready(metric, real.whole) for metric in self.metrics.values()]
        healthy: list[dict[str, float]] = []
        ill: dict[tuple[str, float], list[dict[str, float]]] = {}
        for number in range(self.resamplings + self.repeats):
            part = real.part(number)
            dataset, own = real.dataset(part), [_fresh(metric) for metric in metrics]
            if number < self.resamplings:
                healthy.append(self._measured(own, real.samples(part), dataset))
                on_step()
                continue
            for disease in self.diseases:
                for dose in disease.doses:
                    values = self._measured(own, real.infected(disease, dose, part, number), dataset)
                    ill.setdefault((disease.name, dose), []).append(values)
                    on_step()
        return self._matrix(healthy, ill)

    def _ready(self, metric: Any, whole: Dataset) -> Any:
        """The metric with its network made of all items, and with features that are computed once."""
        found = _fresh(metric)
        if isinstance(found, FeatureMetric):
            found.features = Remembered(found.extraction(whole).features, self.device)
        return found

    def _measured(self, metrics: list[Any], samples: Tensor, dataset: Dataset) -> dict[str, float]:
        found: dict[str, float] = {}
        for metric in metrics:
            for key, value in metric(samples, dataset).items():
                found[key] = float(getattr(value, "value", value))
                self._quantities.setdefault(key, Quantity(key))
        return found

    def _matrix(
        self, healthy: list[dict[str, float]], ill: Mapping[tuple[str, float], list[dict[str, float]]]
    ) -> Matrix:
        there = {key for one in healthy for key in one}
        quantities = {key: q for key, q in self._quantities.items() if key in there}
        diseases = {one.name: [one.dose.format(dose) for dose in one.doses] for one in self.diseases}
        matrix = Matrix(self.n, self.resamplings, self.repeats, quantities, diseases)
        for key, q in quantities.items():
            values = [one.get(key, math.nan) for one in healthy]
            halves = values[::2], values[1::2]
            beyond = [alarms(own, alarm_limits(other, q.direction)) for own, other in (halves, halves[::-1])]
            matrix.false[key] = sum(map(sum, beyond)) / len(values)
            matrix.limits[key] = alarm_limits(values, q.direction)
            for one in self.diseases:
                many = [[v.get(key, math.nan) for v in ill[one.name, dose]] for dose in one.doses]
                matrix.found[one.name, key] = Found([fmean(alarms(some, matrix.limits[key])) for some in many])
        return matrix


def _fresh(metric: Any) -> Any:
    """The metric without what it knows of another data set."""
    found = copy.copy(metric)
    for own in fields(found) if is_dataclass(found) else ():
        if not own.init and own.default_factory is not MISSING:
            setattr(found, own.name, own.default_factory())
    return found


def write(folder: Path, matrix: Matrix, title: str, config: Mapping[str, Any]) -> list[Path]:
    """Write the matrix into a folder: a self-contained page, JSON and CSV; returns their paths.

    Args:
        folder: made if it is not there.
        matrix: what was found.
        title: what data it is of.
        config: the configuration, without secrets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = Made(versions(), f"{datetime.now():%Y-%m-%d %H:%M}")
    about = Rows(title, matrix.n, 1, notes=matrix.notes)
    page_, data, table = (folder / name for name in (REPORT, "selftest.json", "selftest.csv"))
    write_json(data, {**matrix.content(), "title": title, **made._asdict()})
    write_text(table, matrix.csv())
    write_text(page_, page(about, matrix.said(), {}, config, made, "Which metrics notice what", matrix.html()))
    return [page_, data, table]
