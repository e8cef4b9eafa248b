"""The sweep of a command line: its folder, who holds it, how a signal stops all of it, and what is said at its end."""

import os
import platform
import secrets
import shlex
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

from scoresde.cli.command import Command
from scoresde.cli.stops import terminate
from scoresde.errors import InputError, refuse
from scoresde.files import writing
from scoresde.plain import key_of
from scoresde.runs.folder import timestamp
from scoresde.sweeps import record
from scoresde.sweeps.record import ASIDE, KILLED, LOCK, STOP, SWEEP, JobRecord, SweepRecord
from scoresde.training.stop import STOPPING, handling

_KEY, _NEW = "sweep", "new"
_PARENT = Path("runs")
_POLL = 0.1  # seconds between looks at jobs that are being stopped


@dataclass(frozen=True)
class Sweep:
    """A sweep that this program runs.

    Attributes:
        folder: where it lies.
        call: how often it has been gone on with, from 1.
        line: the command line with which to go on; None if nothing is kept.
        flags: that were typed.
        signals: that were received.
    """

    folder: Path
    call: int
    line: str | None
    flags: Sequence[str]
    signals: list[int] = field(default_factory=list)

    def jobs(self) -> list[JobRecord]:
        """The jobs of this call."""
        return [job for job in record.jobs(self.folder) if job.call == self.call]

    @contextmanager
    def to_the_end(self) -> Iterator[None]:
        """A context that an exception leaves once the jobs in other processes have ended: that of one was killed."""
        try:
            yield
        except Exception:
            while _elsewhere(self.folder):
                time.sleep(_POLL)
            raise

    def report(self, stopped: bool = False) -> int:
        """Say which jobs failed or were killed, or `stopped` otherwise, a line each; returns an exit code."""
        failed = [job for job in self.jobs() if job.state == "failed"]
        killed = [job for job in self.jobs() if job.reason == KILLED or (stopped and job.state == "stopped")]
        for job in (*failed, *killed):
            print(f"error: {job.words}: {job.reason}", file=sys.stderr)
        return 1 if killed or not all(job.fixable for job in failed) else 2 * bool(failed)

    def show(self) -> None:
        """Print the table of all jobs that were ever begun, write its files and log it, if results are kept."""
        if self.line and any(job.folder for job in record.jobs(self.folder)):
            from scoresde.cli.collect_run import log, logger_of_jobs, show
            from scoresde.sweeps.table import SweepTable

            own, table = SweepRecord.read(self.folder), SweepTable.of(self.folder)
            pictures = show(table, self.folder)
            log(logger_of_jobs(own, self.flags), table, self.folder, pictures, asdict(own))

    def say_how_to_go_on(self) -> None:
        """The last line of a sweep that was stopped."""
        if self.line and self.jobs():
            print(f"go on with the whole sweep: {self.line}", file=sys.stderr, flush=True)


@contextmanager
def opened(
    row: Command, given: str | None, flags: Sequence[str], typed: Sequence[str], scratch: Path
) -> Iterator[Sweep]:
    """Choose the folder of a sweep and hold it within the block; one that got nowhere leaves nothing behind.

    Args:
        row: the command.
        given: the value of `sweep=`.
        flags: those that were typed.
        typed: the other settings.
        scratch: a temporary folder, for sweeps of which nothing is kept.

    Raises:
        InputError: it is held by another program, or the folder is that of another sweep.
    """
    own = _described(row, typed)
    refuse("hydra.sweep.dir" in map(key_of, typed), f"hydra.sweep.dir: write {_KEY}=FOLDER, which also goes on with it")
    folder = _chosen(given, own) if row.keeps else scratch / "sweep"
    begun = record.is_sweep(folder)
    with writing(folder, _KEY):
        folder.mkdir(parents=True, exist_ok=True)
    with record.held_sweep(folder):
        if begun:
            before = SweepRecord.read(folder)
            own = replace(own, made=before.made, call=before.call + 1)
            print(_state(folder), flush=True)
        own.write(folder)
        try:
            sweep = Sweep(folder, own.call, _line(own, folder, flags) if row.keeps else None, flags)
            with handling(STOPPING, _stopper(folder, sweep.signals)):
                yield sweep
        finally:
            if not begun and all(job.folder is None for job in record.jobs(folder)):
                shutil.rmtree(folder)


def parted_sweep(settings: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of `sweep=`, if it was typed, and the other settings, as Hydra reads them."""
    own = [setting for setting in settings if setting.startswith(f"{_KEY}=")]
    given = own[-1].partition("=")[2].strip("'\"") if own else None
    return given, [setting for setting in settings if setting not in own]


def _decides(setting: str) -> bool:
    """Whether a setting says what is swept, and not how."""
    first = key_of(setting).replace("/", ".").partition(".")[0]
    return first not in {*ASIDE, "hydra", "launcher", "sweeper"} - {"out"}


def _described(row: Command, typed: Sequence[str]) -> SweepRecord:
    """What these settings sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parts: dict[bool, list[str]] = {True: [], False: []}
    for setting in typed:
        swept = False
        with suppress(HydraException):  # which Hydra will say
            swept = OverridesParser.create().parse_override(setting).is_sweep_override()
        parts[swept].append(setting)
    made = datetime.now().isoformat(timespec="microseconds")
    return SweepRecord(row.name, parts[False], sorted(set(map(key_of, parts[True]))), parts[True], made)


def _chosen(given: str | None, own: SweepRecord) -> Path:
    """The folder that was named, or the newest one of the same sweep, or a new one.

    Raises:
        InputError: the folder is none of a sweep, or that of another.
    """
    new = _PARENT / f"sweep-{timestamp()}-{secrets.token_hex(3)}"
    if given in (None, ""):
        same = [(r.made, path) for path, r in _found() if r.command == own.command and not _difference(own, r)]
        return max(same)[1] if same else new
    folder = new if given == _NEW else Path(given)
    if folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        other = SweepRecord.read(folder)
        difference, line = _difference(own, other), _line(other, folder)
        refuse(bool(difference), f"{_KEY}: {folder} is another sweep, {difference}; its own is {line}")
    return folder


def _found() -> Iterator[tuple[Path, SweepRecord]]:
    """The sweeps in runs/ that can be read."""
    for file in _PARENT.glob(f"*/{SWEEP}"):
        with suppress(InputError):
            yield file.parent, SweepRecord.read(file.parent)


def _difference(own: SweepRecord, other: SweepRecord) -> str:
    """In which setting two sweeps differ, in words; nothing if only values of swept keys do."""
    if own.command != other.command:
        return f"of scoresde {other.command}"
    before, now = ([*filter(_decides, r.fixed), *(f"{key}=..., swept" for key in r.swept)] for r in (other, own))
    gone, more = Counter(before) - Counter(now), Counter(now) - Counter(before)
    return ", ".join([*(f"with {one}" for one in gone), *(f"without {one}" for one in more)])


def _line(sweep: SweepRecord, folder: Path, flags: Sequence[str] = ("-m",)) -> str:
    """The command line that goes on with a sweep."""
    words = ["scoresde", *sweep.command.split("_"), *flags, *sweep.fixed, *sweep.values, f"{_KEY}={folder}"]
    return shlex.join(words)


def _state(folder: Path) -> str:
    counts = Counter(job.state for job in record.jobs(folder))
    said = ", ".join(f"{n} {state}" for state, n in counts.items()) or "no job begun"
    return f"sweep  {folder}, gone on with: {said}; {_KEY}={_NEW} begins another"


def _stopper(folder: Path, received: list[int]) -> Callable[[int, object], None]:
    """A handler of signals that lets jobs in other processes save what they have, and begin no more, before it ends us.

    A second signal does not wait for them.
    """

    def stop(number: int, frame: object) -> None:
        received.append(number)
        with suppress(OSError, InputError):
            (folder / STOP).touch()
            if len(received) == 1 and (others := _elsewhere(folder)):
                print("stopping the jobs, which save what they have", file=sys.stderr, flush=True)
                for job in others:
                    with suppress(ProcessLookupError):
                        os.kill(job.process, signal.SIGTERM)  # for a second SIGINT would interrupt their saving
                while _elsewhere(folder):
                    time.sleep(_POLL)
        terminate(number, frame)

    return stop


def _elsewhere(folder: Path) -> list[JobRecord]:
    """The jobs that other processes of this machine run."""
    running = (job for job in record.jobs(folder) if job.state == "running")
    return [job for job in running if job.machine == platform.node() and job.process != os.getpid()]
