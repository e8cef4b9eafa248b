"""How far a sweep or a run is: the state of each job, its steps, its value, and the time that is left."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from scoresde.errors import InputError, refuse
from scoresde.runs.folder import CONFIG
from scoresde.runs.listing import Entry, entry_of, last_lines
from scoresde.sweeps import record
from scoresde.sweeps.record import SWEEP, JobRecord, SweepRecord

_RATE = re.compile(r'"steps_per_second": ([\d.e+-]+)')


@dataclass(frozen=True)
class JobStatus:
    """How far one job is.

    Attributes:
        job: its number in a sweep; None of a single run.
        words: in what it differs.
        state: running, finished, stopped, failed or broken.
        reason: why it stopped or failed.
        done, steps: of a training, and how many there are to be.
        value: what a sweeper minimises; of a single run the best value of the metric that ranks samplers.
        left: seconds of training that are left, if it trains.
    """

    job: int | None
    words: str
    state: str
    reason: str = ""
    done: int | None = None
    steps: int | None = None
    value: float | None = None
    left: float | None = None


@dataclass(frozen=True)
class Status:
    """How far a sweep or a run is.

    Attributes:
        title: which one it is.
        jobs: that were begun.
        waiting: how many were not; None if the sweeper decides as it goes.
        live: whether a program holds it.
    """

    title: str
    jobs: list[JobStatus]
    waiting: int | None
    live: bool

    @classmethod
    def of(cls, folder: Path) -> "Status":
        """That of a folder.

        Raises:
            InputError: it is neither a sweep nor a run.
        """
        if not record.is_sweep(folder):
            refuse(not folder.is_dir(), f"folder: there is no folder {folder} (seen from {Path.cwd()})")
            missing = f"folder: {folder} is neither a sweep nor a run, it has no {SWEEP} and no {CONFIG}"
            refuse(not (folder / CONFIG).is_file(), missing)
            entry = entry_of(folder)
            value = next((value for value, _ in entry.best.values()), None)
            job = JobStatus(None, "", entry.state, entry.about, entry.done, entry.steps, value, _left(folder, entry))
            return cls(f"run {folder}", [job], 0, entry.state == "running")
        jobs = record.jobs(folder)
        last = max((job.call for job in jobs), default=0)
        pairs = (setting.partition("=") for setting in SweepRecord.read(folder).values)
        typed = {f"{key}={value}" for key, _, values in pairs for value in values.split(",")}
        turns = [job for job in jobs if job.call == last or typed.issuperset(job.overrides)]
        total = max((job.of or 0 for job in jobs if job.call == last), default=0)
        waiting = max(total - len(turns), 0) if total else None
        return cls(f"sweep {folder}", [_status(folder, job) for job in jobs], waiting, record.runs(folder))

    @property
    def counts(self) -> Counter[str]:
        """How many jobs are in each state."""
        return Counter(job.state for job in self.jobs) + Counter(waiting=self.waiting or 0)

    @property
    def best(self) -> JobStatus | None:
        """The job with the lowest value."""
        known = [job for job in self.jobs if job.value is not None and math.isfinite(job.value)]
        return min(known, key=lambda job: job.value or 0, default=None)

    @property
    def left(self) -> float | None:
        """Seconds of training that are left for those that run and those that wait, at the speed of those that run."""
        running = [job for job in self.jobs if job.state == "running" and job.left is not None]
        if not running:
            return None
        whole = [job.left * (job.steps or 0) / ahead for job in running if job.left and (ahead := _ahead(job))]
        waiting = (self.waiting or 0) * max(whole, default=0)
        return (sum(job.left or 0 for job in running) + waiting) / len(running)


def _ahead(job: JobStatus) -> int:
    return (job.steps or 0) - (job.done or 0)


def _status(sweep: Path, job: JobRecord) -> JobStatus:
    """How far a job of a sweep is; a run says its steps."""
    words, reason = " ".join(job.overrides), job.reason or ""
    folder = sweep / (job.folder or ".")
    if job.folder is None or not (folder / CONFIG).is_file():
        return JobStatus(job.job, words, job.state, reason, value=job.value)
    entry = entry_of(folder)
    reason = reason or entry.about
    left = _left(folder, entry) if job.state == "running" else None
    return JobStatus(job.job, words, job.state, reason, entry.done, entry.steps, job.value, left)


def _left(run: Path, entry: Entry) -> float | None:
    """Seconds to the last step, at the speed that was logged last."""
    if entry.state != "running" or entry.done is None or entry.steps is None:
        return None
    rates = [float(found[1]) for line in last_lines(run) if (found := _RATE.search(line))]
    return max(entry.steps - entry.done, 0) / rates[-1] if rates and rates[-1] > 0 else None


def newest(parent: Path) -> Path:
    """The newest sweep or run in a folder.

    Raises:
        InputError: there is none.
    """
    files = [*parent.glob(f"*/{SWEEP}"), *parent.glob(f"*/{CONFIG}")]
    if not files:
        raise InputError(f"folder: there are no sweeps and no runs in {parent}; give one, as in scoresde status FOLDER")
    return max(files, key=lambda file: file.stat().st_mtime).parent
