"""Metrics: a metric declares its quantities and measures them on samples of a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import chain
from math import nan
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from scoresde.constraints import Checked
from scoresde.errors import InputError, refuse
from scoresde.results.interval import student

if TYPE_CHECKING:
    from torch import Tensor

    from scoresde.data.dataset import Dataset

_SETS, _FEWEST = 5, 3  # of training items, whose values show what is chance
_LEAST = 20  # items in a set
Direction = Literal["lower", "higher"]
Device = Any  # a torch.device or its name


@dataclass(frozen=True)
class Quantity:
    """The declaration of a number that a metric measures.

    Attributes:
        key: its name in files and logs.
        short: its column heading; empty takes the key.
        words: what it is, for legends and plots; empty takes the key.
        note: what a reader must know about it, for legends.
        unit: empty for a number without a unit.
        direction: which values are better; None where neither is.
        floor: the real items that show what a perfect model reaches: as many training items as there are samples, or
            the held-out items; None for a quantity without a floor.
        ratio: whether value / floor is meaningful, since both are positive.
        brief: whether it appears in the terminal, and not only in files and reports.
        of_n: whether it depends on the number of samples, so that values of different n are not put side by side.
        ranks: whether samplers are ranked by it, in addition to the first quantity that has a floor.
    """

    key: str
    short: str = ""
    words: str = ""
    note: str = ""
    unit: str = ""
    direction: Direction | None = None
    floor: Literal["train", "heldout"] | None = None
    ratio: bool = False
    brief: bool = True
    of_n: bool = False
    ranks: bool = False

    @property
    def heading(self) -> str:
        """The heading of its column."""
        return self.short or self.key

    @property
    def title(self) -> str:
        """What it is, with its unit."""
        return (self.words or self.key) + (f" [{self.unit}]" if self.unit else "")

    @property
    def meaning(self) -> str:
        """What a reader of its heading must know."""
        best = "higher is better" if self.direction == "higher" else ""
        return "; ".join(filter(None, (self.title, self.note, best)))

    @property
    def sign(self) -> int:
        """-1 where higher values are better, else 1: a smaller sign * value is better."""
        return -1 if self.direction == "higher" else 1


class Measurement(NamedTuple):
    """A measured value.

    Attributes:
        value: the number.
        floor: what real items reach; None without a floor.
        half: half of the width of its 95 % interval, NaN where it is not known.
    """

    value: float
    floor: float | None = None
    half: float = nan

    @classmethod
    def mean(cls, values: Sequence[float]) -> Measurement:
        """The mean of independent values, with its interval by `student`."""
        found = student(values)
        return cls(found.mean, half=found.half)

    @property
    def ratio(self) -> float:
        """value / floor; infinite over a floor of zero, NaN without a floor."""
        if self.floor is None:
            return nan
        return self.value / self.floor if self.floor else float("inf")


class Needs(NamedTuple):
    """The least numbers of items with which a metric is defined, its floors included."""

    samples: int = 1
    heldout: int = 1
    train: int = 1

    def check(self, name: str, dataset: Dataset, n: int | None = None) -> None:
        """Raise InputError unless the data, and n samples if they are given, are as many as the metric `name` needs."""
        held, train = len(dataset.heldout), len(dataset.items)
        share = f"give more data, other metrics, or another data.held_out, such as {self.heldout / (held + train):.2g}"
        for what, least, count, remedy in (
            ("samples", self.samples, n, f"give n={self.samples} or more"),
            ("held-out items", self.heldout, held, share),
            ("training items", self.train, train, "give more data, or other metrics"),
        ):
            short = count is not None and count < least
            refuse(short, f"{name}: needs {least} {what}, and there are {count}; {remedy}")


class Metric(Checked, ABC):
    """Measures the quantities that it declares. A subclass writes `quantities` and `__call__`, perhaps `needs`."""

    quantities: Sequence[Quantity] = ()
    device: Device = "cpu"  # where networks of the metric compute; `Scorer` sets it

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        own = other.__module__.split(".")[0] == "scoresde"  # of the user's, any callable will do
        return NotImplemented if own or cls is not Metric else hasattr(other, "__call__")  # noqa: B004

    def needs(self) -> Needs:
        """How many samples, held-out items and training items there must be."""
        return Needs()

    def prepare(self, dataset: Dataset) -> None:
        """Do what takes time or may fail, before a long training instead of after it."""

    def card(self, dataset: Dataset) -> dict[str, Any]:
        """What decides the values besides the samples, such as the features: plain values by field.

        Values of different cards are not put side by side.
        """
        return {}

    @abstractmethod
    def __call__(self, samples: Tensor, dataset: Dataset) -> Mapping[str, float | Measurement]:
        """The value of each quantity, by its key, of finite samples (n, *event) in model units.

        A quantity that these data do not have is left out. Floors are computed by `Scorer`.
        """


class Scorer:
    """All metrics on one data set, with their floors, which are computed once.

    Args:
        metrics: by name, or a sequence; any callable `metric(samples, dataset)` that returns numbers by key will do.
        dataset: the real items.
        device: where networks of metrics compute.

    Attributes:
        quantities: what is measured, by key.

    Raises:
        InputError: two metrics declare the same quantity.
    """

    def __init__(self, metrics: Mapping[str, Any] | Sequence[Any], dataset: Dataset, device: Device = "cpu") -> None:
        self._metrics: list[Any] = list(metrics.values() if isinstance(metrics, Mapping) else metrics)
        self._names = list(metrics) if isinstance(metrics, Mapping) else [type(one).__name__ for one in metrics]
        for metric in filter(lambda one: hasattr(one, "device"), self._metrics):
            metric.device = device
        self.dataset = dataset
        self._real: dict[tuple[int, int], dict[str, float]] = {}
        self.quantities: dict[str, Quantity] = {}
        for q in chain.from_iterable(map(_declared, self._metrics)):
            refuse(q.key in self.quantities, f"metrics: {q.key} is measured by two metrics; leave one of them out")
            self.quantities[q.key] = q

    def prepare(self, n: int) -> Scorer:
        """Prepare every metric for n samples; returns itself.

        Raises:
            InputError: a metric needs more samples or more items than there are.
        """
        for name, metric in zip(self._names, self._metrics, strict=True):
            getattr(metric, "needs", Needs)().check(f"metrics.{name}", self.dataset, n)
            getattr(metric, "prepare", lambda dataset: None)(self.dataset)
        return self

    @property
    def cards(self) -> dict[str, dict[str, Any]]:
        """The card of each quantity that has one, by its key."""
        found: dict[str, dict[str, Any]] = {}
        for metric in filter(lambda one: hasattr(one, "card"), self._metrics):
            card = metric.card(self.dataset)
            found |= {q.key: card for q in _declared(metric)} if card else {}
        return found

    def __call__(self, samples: Tensor, strict: bool = False) -> dict[str, Measurement]:
        """The measurements, by key, of samples (n, *event) in model units.

        They are NaN if a sample is not finite, and, unless `strict`, if a metric refuses the samples.
        """
        found: dict[str, Measurement] = {}
        finite = bool(samples.isfinite().all())
        for i, metric in enumerate(self._metrics):
            floors = self._floors(i, len(samples))
            values = {q.key: Measurement(nan) for q in _declared(metric)}
            with nullcontext() if strict else suppress(InputError):  # a training does not end by wild samples
                values = self._values(metric, samples) if finite else values
            found |= {key: value._replace(floor=floors.get(key)) for key, value in values.items()}
        return found

    def scalars(self, samples: Tensor) -> dict[str, float]:
        """The measurements as numbers to log: a value as KEY, its floor as KEY_floor, their ratio as KEY_ratio."""
        found: dict[str, float] = {}
        for key, measured in self(samples).items():
            found[key] = measured.value
            if measured.floor is not None:
                found[f"{key}_floor"] = measured.floor
                found |= {f"{key}_ratio": measured.ratio} if self.quantities[key].ratio else {}
        return found

    def direction(self, scalar: str) -> Direction:
        """Which values of one of the `scalars` are better; lower ones where its quantity does not say."""
        names = {f"{key}{end}": q.direction for key, q in self.quantities.items() for end in ("", "_ratio")}
        return names.get(scalar) or "lower"

    def floors(self, n: int) -> dict[str, list[float]]:
        """What several disjoint sets of training items reach in place of n samples.

        Their spread is what chance does to a perfect sampler. Where there are too few items for three sets of n, the
        values of quantities with a ratio are scaled to the floor of n: their relative spread is then rather too large.
        """
        found: dict[str, list[float]] = {}
        many = min(_SETS, len(self.dataset.train) // n)
        exact, sets = many >= _FEWEST, many if many >= _FEWEST else _SETS
        parts = [self.dataset.train[k::sets][:n] for k in range(sets)]
        for i, metric in enumerate(self._metrics):
            keys = {q.key for q in _declared(metric) if q.floor == "train" and (q.ratio or exact)}
            if keys and len(parts[-1]) >= _LEAST:
                values, usual = [self._values(metric, part) for part in parts], self._floors(i, n)
                found |= {key: [own[key].value for own in values] for key in keys & usual.keys()}
                if not exact:
                    found |= {key: _scaled(found[key], usual[key]) for key in keys & usual.keys()}
        return found

    def _values(self, metric: Callable[..., Mapping[str, Any]], samples: Tensor) -> dict[str, Measurement]:
        values = metric(samples, self.dataset)
        for key in values:
            self.quantities.setdefault(key, Quantity(key))
        return {k: v if isinstance(v, Measurement) else Measurement(float(v)) for k, v in values.items()}

    def _floors(self, index: int, n: int) -> dict[str, float]:
        """The values of real items in place of n samples, of the quantities that have a floor."""
        if (index, n) not in self._real:
            metric, found = self._metrics[index], self._real.setdefault((index, n), {})
            for part, items in (("heldout", self.dataset.heldout), ("train", evenly(self.dataset.train, n))):
                keys = {q.key for q in _declared(metric) if q.floor == part}
                values = self._values(metric, items) if keys else {}
                found |= {key: values[key].value for key in keys & values.keys()}
        return self._real[index, n]


def _scaled(values: Sequence[float], level: float) -> list[float]:
    """Values with the mean `level`, and the relative spread that they have."""
    mean = sum(values) / len(values)
    return [level * value / mean for value in values] if mean else [level]


def _declared(metric: Any) -> Sequence[Quantity]:
    """The quantities of a metric; any callable may be one, and declares none."""
    found: Sequence[Quantity] = getattr(metric, "quantities", ())
    return found


def evenly(items: Tensor, n: int) -> Tensor:
    """At most n of the items (N, *event), evenly spaced."""
    import torch

    return items if n >= len(items) else items[torch.arange(n) * len(items) // n]
