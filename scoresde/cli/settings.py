"""The single values at the top of each command's configuration, checked like the arguments of any other class."""

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from scoresde.build import TARGET, build
from scoresde.errors import require

if TYPE_CHECKING:
    from scoresde.runs import Run


@dataclass(frozen=True)
class Settings:
    """What all commands have.

    Args:
        allow: packages of the user's own whose classes a configuration may name.
    """

    allow: str | list[str] | None

    def __post_init__(self) -> None:
        """Check the ranges; each class adds its own."""

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
class DrawSettings(Settings):
    """What commands that draw samples have besides.

    Args:
        seed: decides everything random.
        n: number of samples.
        device: auto, cpu, cuda or cuda:N.
    """

    seed: int
    n: int
    device: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n >= 1, "n", self.n, "give an integer >= 1")


@dataclass(frozen=True)
class ModelSettings(Settings):
    """What commands that evaluate the model of a run have besides.

    Args:
        seed: decides everything random.
        device: auto, cpu, cuda or cuda:N.
        checkpoint: last, best or the number of a step.
        weights: which average of the weights, or raw.
        label: a class, or several that the samples take in turn; None for none.
        guidance: scale of the guidance; 1 turns it off.
    """

    seed: int
    device: str
    checkpoint: str | int
    weights: str
    label: int | list[int] | None
    guidance: float

    def __post_init__(self) -> None:
        super().__post_init__()
        valid = math.isfinite(self.guidance) and self.guidance >= 0
        require(valid, "guidance", self.guidance, "give a number >= 0; 1 leaves the condition as it is")

    def load(self, run: str) -> "Run":
        """The run in a folder, with these weights on this device."""
        from scoresde import runs  # imports torch

        return runs.load(run, self.checkpoint, self.device, self.weights, self.packages)


@dataclass(frozen=True)
class TrainSettings(DrawSettings):
    """The run folder, None for a new one; and a run whose weights to start from, if any."""

    run: str | None
    init: str | None


@dataclass(frozen=True)
class BatchSettings(DrawSettings, ModelSettings):
    """What commands that draw samples from a run in batches have besides."""

    batch_size: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.batch_size >= 1, "batch_size", self.batch_size, "give an integer >= 1")


@dataclass(frozen=True)
class SampleSettings(BatchSettings):
    """The run, and where the samples go."""

    run: str
    out: str | None


@dataclass(frozen=True)
class CompareSettings(BatchSettings):
    """What is compared, how often, and where the result goes."""

    run: str | None
    folder: str | None
    out: str | None
    budgets: int | list[int]
    tolerances: float | list[float]
    seeds: int
    dtype: Literal["float32", "float64"]

    def __post_init__(self) -> None:
        super().__post_init__()
        require(all(t > 0 for t in self.all_tolerances), "tolerances", self.tolerances, "give numbers > 0")

    @property
    def all_budgets(self) -> list[int]:
        """The budgets as a list, also where one was given."""
        return self.budgets if isinstance(self.budgets, list) else [self.budgets]

    @property
    def all_tolerances(self) -> list[float]:
        """The tolerances as a list, also where one was given."""
        return self.tolerances if isinstance(self.tolerances, list) else [self.tolerances]


@dataclass(frozen=True)
class DoctorSettings(Settings):
    """A run whose SDE and data are meant, if any, and a file for the findings."""

    run: str | None
    out: str | None
