"""Loggers: what training, sampling and evaluation report to."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

Config = Mapping[str, Any]
Direction = Literal["lower", "higher"]


class Logger(ABC):
    """What training, sampling and evaluation report to. Methods do nothing unless a subclass overrides them."""

    @property
    def run_id(self) -> str | None:
        """What a resumed run needs to continue in the same place; None if nothing."""
        return None

    @property
    def record(self) -> str | None:
        """SHA-256 of all that was logged, for a checkpoint to know it by; None if it is not kept."""
        return None

    def start(  # noqa: B027
        self, run: Path, config: Config, name: str, group: str | None = None, run_id: str | None = None,
        command: str | None = None,
    ) -> None:  # fmt: skip
        """Begin.

        Args:
            run: the run folder; nothing is written outside of it.
            config: the resolved configuration.
            name: name of the run, for people.
            group: what the runs of one sweep have in common.
            run_id: that of the run that is being resumed.
            command: that reports here, such as train.
        """

    def rewind(self, step: int) -> None:  # noqa: B027
        """Forget the values of later steps: the training resumes at `step`."""

    def declare(self, name: str, direction: Direction) -> None:  # noqa: B027
        """The value that decides which checkpoint is the best, and whether a lower or a higher one is better."""

    @abstractmethod
    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Values at a step."""

    def picture(self, name: str, path: Path, step: int) -> None:  # noqa: B027
        """An image file."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:  # noqa: B027
        """A table; each row has an entry per column."""

    def checkpoint(self, path: Path, step: int) -> None:  # noqa: B027
        """The folder of the last checkpoint of a training that is done."""

    def summary(self, values: Mapping[str, float]) -> None:  # noqa: B027
        """Values of the run as a whole, such as the best one."""

    def finish(self, failed: bool = False) -> None:  # noqa: B027
        """End; further calls do nothing."""


class NoLogger(Logger):
    """Reports nowhere."""

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        pass


def _to_each(method: str) -> Callable[..., None]:
    def call(self: "Loggers", *args: Any, **kwargs: Any) -> None:
        for logger in self.loggers:
            getattr(logger, method)(*args, **kwargs)

    return call


class Loggers(Logger):
    """Reports to several loggers, in their order."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self.loggers = list(loggers)

    @property
    def run_id(self) -> str | None:
        return next((logger.run_id for logger in self.loggers if logger.run_id is not None), None)

    @property
    def record(self) -> str | None:
        return next((logger.record for logger in self.loggers if logger.record is not None), None)

    start, rewind, log = _to_each("start"), _to_each("rewind"), _to_each("log")
    declare, picture, table = _to_each("declare"), _to_each("picture"), _to_each("table")
    checkpoint, summary, finish = _to_each("checkpoint"), _to_each("summary"), _to_each("finish")


def say(line: str) -> None:
    """Print a line on stderr."""
    print(line, file=sys.stderr)
