"""A sweep on disk. Imports no torch.

    <sweep>/.lock                    held by the program that runs the jobs
    <sweep>/sweep.json               `SweepRecord`: what is swept
    <sweep>/jobs/<fingerprint>.json  `JobRecord`: what is known of a job
    <sweep>/jobs/<fingerprint>.lock  held by the process that runs the job
    <sweep>/.stop                    made when a signal has stopped the sweep: jobs that wait begin no more

A job is identified by its resolved configuration, not by its number, which changes with the values that are swept.
"""

import dataclasses
import hashlib
import json
import os
import platform
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from scoresde.build import TARGET, build
from scoresde.constraints import Count, NonNegativeInt
from scoresde.errors import InputError, refuse
from scoresde.files import is_held, read_json, reserved, write_json

SWEEP, JOBS, LOCK, STOP = "sweep.json", "jobs", ".lock", ".stop"
KILLED = "killed"  # the reason of a job that could not say why it ended
State = Literal["running", "finished", "stopped", "failed"]
_FILES, _BLOCKS, _BLOCK = 4096, 16, 2**16  # that `look` reads
ASIDE = ("allow", "devices", "logger", "name", "out")  # keys of a configuration that change no result
T = TypeVar("T", bound="SweepRecord | JobRecord")


@dataclass(frozen=True)
class SweepRecord:
    """What is swept.

    Attributes:
        command: the name of the command.
        fixed: settings that are equal in all jobs.
        swept: keys that differ, sorted.
        values: the settings of these keys, as they were typed last.
        made: when the sweep was begun.
        call: how often it was called, from 1.
    """

    command: str
    fixed: list[str]
    swept: list[str]
    values: list[str]
    made: str
    call: Count = 1

    @classmethod
    def read(cls, sweep: Path) -> Self:
        """That of a sweep.

        Raises:
            InputError: the folder is not that of a sweep.
        """
        missing = f"sweep: {sweep} is not the folder of a sweep, it has no {SWEEP}; give one that scoresde made with -m"
        refuse(not (sweep / SWEEP).is_file(), missing)
        return _read(cls, sweep / SWEEP)

    def write(self, sweep: Path) -> None:
        """Write it, whole or not at all."""
        write_json(sweep / SWEEP, dataclasses.asdict(self))


@dataclass(frozen=True)
class JobRecord:
    """What is known of one job.

    Attributes:
        fingerprint: of its configuration.
        overrides: settings in which it differs from other jobs.
        job: its number when it was run last, from 1.
        of: how many there were; None if the sweeper decides as it goes.
        state: running, finished, stopped or failed.
        folder: its run or result, seen from the sweep; None until there is one.
        reason: why it stopped or failed.
        fixable: whether what failed is an input that the user can fix.
        value: what a sweeper minimises.
        started, ended: local times.
        process, machine: where it ran last.
        call: of the sweep in which it had its turn last.
        data: the `look` of its data; None if they are no files, and of older versions.
    """

    fingerprint: str
    overrides: list[str]
    job: Count
    of: Count | None
    state: State = "running"
    folder: str | None = None
    reason: str | None = None
    fixable: bool = True
    value: float | None = None
    started: str = field(default_factory=lambda: _now())
    ended: str | None = None
    process: NonNegativeInt = field(default_factory=os.getpid)
    machine: str = field(default_factory=platform.node)
    call: Count = 1
    data: str | None = None

    @property
    def number(self) -> str:
        """Which of the jobs it is: `job 3 of 6`."""
        return f"job {self.job} of {self.of}" if self.of else f"job {self.job}"

    @property
    def words(self) -> str:
        """Which of the jobs it is, and in what it differs: `job 3 of 6 (seed=2)`."""
        return f"{self.number} ({' '.join(self.overrides)})" if self.overrides else self.number

    def write(self, sweep: Path) -> None:
        """Write it, whole or not at all."""
        (sweep / JOBS).mkdir(exist_ok=True)
        write_json(sweep / JOBS / f"{self.fingerprint}.json", dataclasses.asdict(self))

    def ending(self, state: State, reason: str | None = None, **changes: Any) -> "JobRecord":
        """The record of the same job at its end."""
        return dataclasses.replace(self, state=state, reason=reason, ended=_now(), **changes)


def fingerprint(command: str, cfg: Mapping[str, Any], swept: Collection[str] = ()) -> str:
    """What tells the jobs of a sweep apart: 16 hexadecimal digits of the resolved configuration.

    It is without `ASIDE`, unless these are `swept`.
    """
    kept = {key: value for key, value in cfg.items() if key not in ASIDE or key in swept}
    text = json.dumps([command, kept], sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def look(cfg: Mapping[str, Any]) -> str | None:
    """What tells the data of a configuration from other data in the same place; None if they are no files.

    16 hexadecimal digits of the names and sizes of all files, and of 16 blocks of each of at most 4,096 files; times do
    not count, which a copy changes.
    """
    given = cfg["data"] if isinstance(cfg.get("data"), Mapping) else {}
    found, seen = hashlib.sha256(), 0
    for path in (Path(given[key]) for key in ("path", "folder") if isinstance(given.get(key), str)):
        with suppress(OSError):  # which the work will say
            files = sorted(file for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
            for k, file in enumerate(files):
                found.update(f"{file.relative_to(path)} {(size := file.stat().st_size)};".encode())
                if k % -(-len(files) // _FILES) == 0:
                    with file.open("rb") as stream:
                        for place in range(0, size, max(_BLOCK, size // _BLOCKS)):
                            stream.seek(place)
                            found.update(stream.read(_BLOCK))
            seen += len(files)
    return found.hexdigest()[:16] if seen else None


def is_sweep(folder: Path) -> bool:
    """Whether a folder is that of a sweep."""
    return (folder / SWEEP).is_file()


def jobs(sweep: Path) -> list[JobRecord]:
    """The records of all jobs that were ever begun, by number; one that says `running` and does not run is stopped.

    Raises:
        InputError: one of them is damaged.
    """
    found = [job for file in (sweep / JOBS).glob("*.json") if (job := job_of(sweep, file.stem)) is not None]
    return sorted(found, key=lambda job: (job.job, job.started))


def job_of(sweep: Path, name: str) -> JobRecord | None:
    """The record of the job with this fingerprint, if there is one.

    Raises:
        InputError: it is damaged.
    """
    file = sweep / JOBS / f"{name}.json"
    if not file.is_file():
        return None
    job = _read(JobRecord, file)
    refuse(job.fingerprint != name, f"{file}: is the record of another job ({job.fingerprint:.40}); remove it")
    if job.state == "running" and not is_held(file.with_suffix(LOCK)):
        return dataclasses.replace(job, state="stopped", reason=KILLED)
    return job


@contextmanager
def held_job(sweep: Path, name: str) -> Iterator[None]:
    """Hold the lock of a job within the block.

    Raises:
        InputError: another process runs it.
    """
    (sweep / JOBS).mkdir(parents=True, exist_ok=True)
    with reserved(sweep / JOBS / f"{name}{LOCK}", "sweep", f"a job of {sweep} with this configuration"):
        yield


@contextmanager
def held_sweep(sweep: Path) -> Iterator[None]:
    """Hold the lock of a sweep within the block.

    Raises:
        InputError: another program runs it, or one of its jobs.
    """
    with reserved(sweep / LOCK, "sweep", str(sweep)):
        if job := next((job for job in jobs(sweep) if job.state == "running"), None):
            raise InputError(f"sweep: {job.words} of {sweep} still runs, as process {job.process}; wait for its end")
        (sweep / STOP).unlink(missing_ok=True)
        yield


def runs(sweep: Path) -> bool:
    """Whether a program holds a sweep, or one of its jobs."""
    return is_held(sweep / LOCK) or any(job.state == "running" for job in jobs(sweep))


def _read(kind: type[T], file: Path) -> T:
    read: T = build({**read_json(file, "sweep"), TARGET: f"{__name__}.{kind.__name__}"}, str(file))
    return read


def _now() -> str:
    return datetime.now().isoformat(timespec="seconds")
