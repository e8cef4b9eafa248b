"""How far a sweep or a run is, in a terminal: once, or redrawn until nothing runs."""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from scoresde import progress
from scoresde.results.table import aligned
from scoresde.sweeps.status import JobStatus, Status, newest

_NARROWEST, _HEAD = 40, 4  # columns of text, and lines besides those of jobs
_EVERY = 1.0  # seconds between two pictures
# of a terminal (ECMA-48, xterm): the other screen, the first one, its begin; clear to the end of the line, and below
_OTHER, _FIRST, _BEGIN, _LINE, _BELOW = "\x1b[?1049h", "\x1b[?1049l", "\x1b[H", "\x1b[K", "\x1b[J"
_ORDER = ("running", "failed", "broken", "stopped", "finished")  # in a terminal that is too low for all
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def show(folder: str | None, live: bool) -> None:
    """Print how far a sweep or a run is; the newest one without a folder.

    Raises:
        InputError: it is neither.
    """
    place = newest(Path("runs")) if folder is None else Path(folder)
    status = Status.of(place)
    if live and status.live and sys.stdout.isatty():
        with suppress(KeyboardInterrupt):
            _watch(lambda: Status.of(place))
        status = Status.of(place)
    print("\n".join(lines(status, progress.columns(_NARROWEST))), flush=True)


def _watch(look: Callable[[], Status]) -> None:
    """Redraw on the other screen of the terminal, so that the first one keeps what it had."""
    print(_OTHER, end="")
    try:
        while (status := look()).live:
            height = shutil.get_terminal_size().lines
            shown = lines(status, progress.columns(_NARROWEST) - 1, height - 1)
            print(_BEGIN, *(f"{line}{_LINE}\n" for line in shown), _BELOW, sep="", end="", flush=True)
            time.sleep(_EVERY)
    finally:
        print(_FIRST, end="", flush=True)


def lines(status: Status, width: int, height: int | None = None) -> list[str]:
    """The counts, the best job, and a row for each job; of a low terminal as many as fit, what runs first."""
    counts = ", ".join(f"{n} {state}" for state, n in status.counts.items()) or "no job was begun"
    found = [status.title, f"  {counts}" + (f"; {_time(status.left)} left" if status.left is not None else "")]
    if (best := status.best) is not None and best.job is not None:
        found.append(f"  best {best.value:.4g}, job {best.job} ({best.words})")
    jobs, hidden = status.jobs, 0
    if height is not None and len(jobs) > (room := max(height - len(found) - _HEAD, 1)):
        jobs = sorted(jobs, key=lambda job: _ORDER.index(job.state) if job.state in _ORDER else 0)[:room]
        hidden = len(status.jobs) - room
    if status.jobs:
        found += ["", *_table(jobs)]
    found += [f"and {hidden} more"] * bool(hidden)
    return [_cut(line, width) for line in found]


def _table(jobs: Sequence[JobStatus]) -> list[str]:
    columns = [
        ("state", [job.state for job in jobs]),
        ("job", ["" if job.job is None else str(job.job) for job in jobs]),
        ("steps", [_steps(job) for job in jobs]),
        ("value", ["" if job.value is None else f"{job.value:.4g}" for job in jobs]),
        ("left", [_time(job.left) for job in jobs]),
    ]
    kept = [(name, cells) for name, cells in columns if any(cells)]
    headings, cells = zip(*kept, strict=True)
    head, rule, *rows = aligned([headings, *zip(*cells, strict=True)])
    width = max(map(len, (head, *rows)))
    words = [f"{job.words}{': ' * bool(job.words and job.reason)}{job.reason}" for job in jobs]
    return [head, rule, *(f"{row:<{width}}  {said}".rstrip() for row, said in zip(rows, words, strict=True))]


def _steps(job: JobStatus) -> str:
    counts = [job.done, job.steps] if job.done != job.steps else [job.done]
    return " of ".join(f"{count:,}" for count in counts if count is not None)


def _time(seconds: float | None) -> str:
    """In two units: `2 h 5 min`."""
    if seconds is None:
        return ""
    rest, parts = round(seconds), []
    for unit, word in _UNITS:
        count, rest = divmod(rest, unit)
        parts += [f"{count} {word}"] if count else []
    return " ".join([*parts, f"{rest} s"][:2]) if len(parts) < 2 else " ".join(parts[:2])


def _cut(line: str, width: int) -> str:
    """A line as a terminal can show it, in one row: names and reasons may hold anything."""
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= width or not sys.stdout.isatty() else f"{line[: width - 1]}…"
