"""The record of a run: a file of lines in its folder."""

import errno
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from scoresde.files import write_text, writing
from scoresde.loggers.logger import Logger, say

METRICS = "metrics.jsonl"  # its name in the folder of a run


class MetricsFile(Logger):
    """One JSON object a line: {"step": 50, "time": seconds since 1970, "loss": 0.31, ...}.

    The record of truth of a run: a line is in the file as soon as it is logged. A training that goes on from step n
    first removes the lines of later steps, which it will write again, and a last line that a kill has cut; a line on
    stderr says so if those up to n are not there, or were changed. NaN and infinities are the strings "NaN",
    "Infinity" and "-Infinity", since JSON has no such numbers.

    Args:
        path: the file, such as <run>/metrics.jsonl; made when the first line is written.

    Raises:
        InputError: a line cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @property
    def record(self) -> str | None:
        return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.path.exists() else None

    def rewind(self, step: int) -> None:
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        odd = sum(math.isinf(step_of(line)) for line in text.splitlines())
        if odd:
            say(f"{self.path}: {odd} of its lines hold no values of a step; they are removed")
        kept = "".join(line + "\n" for line in text.splitlines() if step_of(line) <= step)
        last = max(map(step_of, kept.splitlines()), default=0)
        if last < step:
            say(f"{self.path} lacks the values of steps {last + 1:.0f} to {step}; it was changed or lost")
        if kept != text:
            write_text(self.path, kept)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        row = {"step": step, "time": round(time.time(), 3)} | {key: number(value) for key, value in scalars.items()}
        line = (json.dumps(row, allow_nan=False) + "\n").encode()
        with writing(self.path, "metrics"), self.path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(size)  # no part of a line
                raise


def step_of(line: str) -> float:
    """The step of a logged line; infinity of what is none."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return math.inf


def rows(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """The step and the values of each line of such a file."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        row = json.loads(line)
        step = row.pop("step")
        yield int(step), {key: float(value) for key, value in row.items() if key != "time"}


def number(value: float) -> float | str:
    """A number as JSON can hold it."""
    value = float(value)
    return value if math.isfinite(value) else json.dumps(value)
