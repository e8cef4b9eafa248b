"""The single values at the top of each command's configuration, checked like the arguments of any other class."""

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

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
class ConditionSettings(Settings):
    """What commands that use a run trained with classes have besides.

    Args:
        label: a class, or several that the samples take in turn; None for none.
        guidance: scale of the guidance; 1 turns it off.
    """

    label: int | list[int] | None
    guidance: float

    def __post_init__(self) -> None:
        fine = math.isfinite(self.guidance) and self.guidance >= 0
        require(fine, "guidance", self.guidance, "give a number >= 0; 1 leaves the condition as it is")
        super().__post_init__()
