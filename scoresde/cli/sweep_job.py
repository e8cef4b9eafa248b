"""One job of a sweep: whether it is finished, where it left off, what is known of it afterwards, and its lines."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from scoresde.cli.stops import JobFailed, code_and_reason, queue_again, terminate
from scoresde.errors import InputError
from scoresde.plain import key_of
from scoresde.runs.folder import free_folder
from scoresde.sweeps import record
from scoresde.sweeps.record import STOP, JobRecord, State, SweepRecord
from scoresde.training.stop import STOPPING, handling


def sweeping() -> bool:
    """Whether this is one job of several."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def varied() -> list[str]:
    """What was typed for this job and not for all of its sweep."""
    sweep = SweepRecord.read(_folder())
    fixed = {key_of(setting) for setting in sweep.fixed} - {*sweep.swept}
    return [override for override in HydraConfig.get().overrides.task if key_of(override) not in fixed]


@dataclass
class Job:
    """The job that this process runs.

    Attributes:
        sweep: the folder of its sweep.
        record: what is known of it.
    """

    sweep: Path
    record: JobRecord

    def update(self, **changes: Any) -> None:
        """Change its record, also on disk."""
        self.record = replace(self.record, **changes)
        self.record.write(self.sweep)

    def end(self, state: State, reason: str | None = None, **changes: Any) -> None:
        """Record that it has ended."""
        self.record = self.record.ending(state, reason, **changes)
        self.record.write(self.sweep)

    def note(self, result: Path) -> None:
        """Record where its result lies."""
        self.update(folder=os.path.relpath(result, self.sweep))

    def place(self, parent: Path, name: str) -> Path:
        """Make its folder in `parent`, or take the one in which it was begun; recorded first, so that none is lost."""
        before = self.sweep / (self.record.folder or "")
        known = self.record.folder and before.resolve().parent == parent.resolve()
        path = parent / before.name if known else free_folder(parent, name)
        self.note(path)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def reread(self) -> None:
        """Take over where its result lies, which another process of this job has recorded."""
        if found := record.job_of(self.sweep, self.record.fingerprint):
            self.record = replace(self.record, folder=found.folder)

    @property
    def begun(self) -> Path | None:
        """The run in the folder of the sweep that an earlier call has begun."""
        path = self.sweep / (self.record.folder or ".")
        return path if path.parent == self.sweep and (path / "config.yaml").is_file() else None


_jobs: list[Job] = []  # of this process: one at most


def current() -> Job | None:
    """The job of a sweep that this process runs."""
    return _jobs[-1] if _jobs else None


def take_part(job: Job | None) -> None:
    """Run a job, if it is one, in a further process."""
    _jobs.extend([job] if job else [])


def run_in_sweep(command: str, cfg: Mapping[str, Any], work: Callable[[], float | None]) -> float | None:
    """Do the work of a job, unless it is finished, and record how it ends.

    If it fails the other jobs run: Hydra's own sweeper is not informed, others (Optuna) get the exception, as a failed
    trial.

    Args:
        command: its name.
        cfg: the resolved configuration.
        work: returns what a sweeper should minimise.
    """
    sweep, hydra = _folder(), HydraConfig.get()
    if (sweep / STOP).exists():  # while this job was waiting
        raise SystemExit(128 + signal.SIGTERM)
    described = SweepRecord.read(sweep)
    name = record.fingerprint(command, cfg, described.swept)
    own = JobRecord(name, varied(), hydra.job.num + 1, _count(), call=described.call, data=record.look(cfg))
    with record.held_job(sweep, name), redirect_stdout(_Lines(sys.stdout, f"{own.number}  ")):
        words = " ".join(own.overrides) or "begins"
        before = _unless_changed(record.job_of(sweep, name), own.data, words)
        job = Job(sweep, replace(own, folder=before.folder if before else None))
        if before and before.state == "finished" and (sweep / (before.folder or "")).exists():
            print(f"{words}: finished already, in {before.folder}" if before.folder else f"{words}: finished already")
            replace(before, job=own.job, of=own.of, call=own.call, data=before.data or own.data).write(sweep)
            return before.value
        print(words, flush=True)
        job.update()
        _jobs.append(job)
        try:
            with handling({*STOPPING} - {signal.SIGINT}, terminate):
                value = work()
            job.end("finished", value=value)
            return value
        except Exception as error:
            _fail(job, error)
            if not _basic():
                raise
            return None
        except BaseException as stop:
            job.end("stopped", code_and_reason(stop)[1])
            queue_again(stop)
            raise
        finally:
            _jobs.remove(job)


def _unless_changed(before: JobRecord | None, data: str | None, words: str) -> JobRecord | None:
    """What is known of a job; nothing if its data are others now, so that it is done again in a folder of its own."""
    if before is None or None in (before.data, data) or before.data == data:
        return before
    left = f"; {before.folder} stays as it is" if before.folder else ""
    print(f"{words}: its data have changed since then, so all of it is done again{left}")
    return None


@contextmanager
def worker_kept() -> Iterator[None]:
    """A context that does not end a worker of Ray, which would say that it crashed: its job was stopped, and fails."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        if "ray" not in HydraConfig.get().launcher["_target_"]:
            raise
        raise JobFailed(code_and_reason(stop)[1]) from None


def _fail(job: Job, error: Exception) -> None:
    fixable = isinstance(error, InputError)
    if not fixable and not isinstance(error, JobFailed):
        traceback.print_exception(error)
    said = str(error) if isinstance(error, InputError | JobFailed) else f"{type(error).__name__}: {error}"
    job.end("failed", " ".join(said.split()), fixable=fixable)


def _folder() -> Path:
    return Path(HydraConfig.get().sweep.dir)


def _basic() -> bool:
    """Whether Hydra's own sweeper runs the jobs, which knows all of them before."""
    return BasicSweeper.__name__ in HydraConfig.get().sweeper["_target_"]


def _count() -> int | None:
    """How many jobs there are, if the sweeper knows."""
    note = _folder() / "multirun.yaml"  # which Hydra's own sweeper writes
    if not _basic() or not note.is_file():
        return None
    params = [f"{key}={value}" for key, value in (HydraConfig.get().sweeper.params or {}).items()]
    typed = OverridesParser.create().parse_overrides([*params, *OmegaConf.load(note).hydra.overrides.task])
    (batch,) = BasicSweeper.split_arguments(typed, None)
    return len(batch)


class _Lines:
    """A stream in which each line begins with the same words, since jobs may print at the same time."""

    def __init__(self, stream: TextIO, words: str) -> None:
        self.stream, self.words, self.fresh = stream, words, True

    def write(self, text: str) -> int:
        lines = text.splitlines(keepends=True)
        for i, line in enumerate(lines):
            if self.fresh and line.strip():
                lines[i] = f"{self.words}{line}"
            self.fresh = line.endswith("\n")
        self.stream.write("".join(lines))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
