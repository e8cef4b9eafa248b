"""One row of results: a sampler in a setting."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scoresde.errors import InputError
from scoresde.results.interval import Interval, student

if TYPE_CHECKING:
    from torch import Tensor


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


def reason(error: Exception) -> str:
    """Why there are no values, in one line."""
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())[:300]
