"""The single values at the top of each command's configuration, checked like the arguments of any other class."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from scoresde.build import TARGET, build
from scoresde.errors import require


@dataclass(frozen=True)
class Settings:
    """What all commands have.

    Args:
        seed: decides everything random.
        n: number of samples.
        device: auto, cpu, cuda or cuda:N.
        allow: packages of the user's own whose classes a configuration may name.
    """

    seed: int
    n: int
    device: str
    allow: str | list[str] | None

    def __post_init__(self) -> None:
        require(self.n >= 1, "n", self.n, "give an integer >= 1")

    @classmethod
    def of(cls, cfg: Mapping[str, Any]) -> Self:
        """Take the values from a configuration; raises InputError for a wrong type or range."""
        own = {f.name: cfg[f.name] for f in dataclasses.fields(cls)}
        settings: Self = build({TARGET: f"{cls.__module__}.{cls.__name__}", **own})
        return settings

    @property
    def packages(self) -> list[str]:
        """The allowed packages; those in the working directory can be imported from now on."""
        names = [self.allow] if isinstance(self.allow, str) else list(self.allow or [])
        here = str(Path.cwd())
        if names and here not in sys.path:
            sys.path.append(here)
        return names


@dataclass(frozen=True)
class TrainSettings(Settings):
    """What `scoresde train` has besides: the run folder, or None for a new one."""

    run: str | None


@dataclass(frozen=True)
class SampleSettings(Settings):
    """What `scoresde sample` has besides: from which run, which weights of it, and where the samples go."""

    run: str
    out: str | None
    checkpoint: str | int
    weights: Literal["ema", "raw"]
    batch_size: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.batch_size >= 1, "batch_size", self.batch_size, "give an integer >= 1")


@dataclass(frozen=True)
class CompareSettings(Settings):
    """What `scoresde compare` has besides: what is compared, how often, and where the result goes."""

    run: str | None
    folder: str | None
    out: str | None
    budgets: int | list[int]
    tolerances: float | list[float]
    seeds: int
    checkpoint: str | int
    weights: Literal["ema", "raw"]
    batch_size: int
    dtype: Literal["float32", "float64"]

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.batch_size >= 1, "batch_size", self.batch_size, "give an integer >= 1")
        require(all(t > 0 for t in self.all_tolerances), "tolerances", self.tolerances, "give numbers > 0")

    @property
    def all_budgets(self) -> list[int]:
        """The budgets as a list, also where one was given."""
        return self.budgets if isinstance(self.budgets, list) else [self.budgets]

    @property
    def all_tolerances(self) -> list[float]:
        """The tolerances as a list, also where one was given."""
        return self.tolerances if isinstance(self.tolerances, list) else [self.tolerances]
