"""The single values at the top of each command's configuration, checked like the arguments of any other class."""

from __future__ import annotations

import dataclasses
import math
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
        require(self.n >= 1, "n", self.n, "give an integer >= 1")
        super().__post_init__()


@dataclass(frozen=True)
class LabelSettings(Settings):
    """What commands that use a run with classes have besides.

    Args:
        label: a class, or several that samples have in turn; None for none.
        guidance: how closely samples follow it.
    """

    label: int | list[int] | None
    guidance: float

    def __post_init__(self) -> None:
        fine = math.isfinite(self.guidance) and self.guidance >= 0
        require(fine, "guidance", self.guidance, "give a number >= 0; 1 is the condition as it is")
        super().__post_init__()


@dataclass(frozen=True)
class TrainSettings(DrawSettings):
    """What `scoresde train` has besides: the run folder, or None for a new one, and the run to start from, if any."""

    run: str | None
    init: str | None


@dataclass(frozen=True)
class SampleSettings(DrawSettings, LabelSettings):
    """What `scoresde sample` has besides: from which run, which weights of it, and where samples go."""

    run: str
    out: str | None
    checkpoint: str | int
    weights: str
    batch_size: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.batch_size >= 1, "batch_size", self.batch_size, "give an integer >= 1")


@dataclass(frozen=True)
class PathSettings:
    """What stands beside the arguments of the sampler: whether to draw the way from noise to data."""

    path: bool = False


def without_path(cfg: Any) -> tuple[Any, bool]:
    """The configuration `sampler` as its class takes it, and its key `path`, which is of the command.

    Raises:
        InputError: `sampler.path` is not true or false.
    """
    if not isinstance(cfg, Mapping):
        return cfg, False  # which `build` refuses
    own = {k: v for k, v in cfg.items() if k == "path"}
    settings: PathSettings = build({TARGET: f"{__name__}.PathSettings", **own}, "sampler")
    return {k: v for k, v in cfg.items() if k != "path"}, settings.path


@dataclass(frozen=True)
class DoctorSettings(Settings):
    """What `scoresde doctor` has besides: a run whose SDE and data are meant, and a file for the findings."""

    run: str | None
    out: str | None


@dataclass(frozen=True)
class ConvertSettings(Settings):
    """What `scoresde convert` has besides: what is converted into what, and what no file tells."""

    out: str
    file: str | None
    config: str | None
    weights: Literal["ema", "raw"]
    size: int | None
    to: Literal["run", "diffusers"]
    run: str | None
    checkpoint: str | int

    def __post_init__(self) -> None:
        require(self.size is None or self.size >= 1, "size", self.size, "give the height and width of an image")
        source, other = ("file", "run") if self.to == "run" else ("run", "file")
        require(getattr(self, source) is not None, source, None, f"to={self.to} needs {source}=")
        require(getattr(self, other) is None, other, getattr(self, other), f"to={self.to} takes {source}= alone")


@dataclass(frozen=True)
class CompareSettings(DrawSettings, LabelSettings):
    """What `scoresde compare` has besides: what is compared, how often, and where the result goes."""

    run: str | None
    folder: str | None
    out: str | None
    budgets: int | list[int]
    tolerances: float | list[float]
    seeds: int
    checkpoint: str | int
    weights: str
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


@dataclass(frozen=True)
class TuneSettings(LabelSettings):
    """What `scoresde tune` has besides: which run and which weights of it, and the seed of the starts."""

    seed: int
    device: str
    run: str
    checkpoint: str | int
    weights: str

    @staticmethod
    def steps(cfg: Any) -> int:
        """`sampler.steps`, which is all of a sampler that matters here."""
        found: _Steps = build({TARGET: f"{__name__}._Steps", **cfg}, "sampler")
        return found.steps


@dataclass(frozen=True)
class EmaSettings(Settings):
    """What `scoresde ema` has besides: which run, how long an average, and the checkpoint at which it ends."""

    run: str
    length: float
    checkpoint: str | int


@dataclass(frozen=True)
class _Steps:
    steps: int


@dataclass(frozen=True)
class TuneArguments:
    """The arguments of `scoresde.tuning.tune` that the command line has."""

    coefficients: bool
    n: int
    iterations: int
    batch_size: int
    rate: float
    fine: int
    gradient: bool

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "batch_size", self.batch_size, "give an integer >= 1")
        require(self.rate > 0, "rate", self.rate, "give a learning rate > 0")
        require(self.fine >= 10, "fine", self.fine, "give at least 10 steps")

    @classmethod
    def of(cls, cfg: Any) -> Self:
        """Take the values from `tune`; raises InputError for a wrong type or range."""
        arguments: Self = build({TARGET: f"{cls.__module__}.{cls.__name__}", **cfg}, "tune")
        return arguments
