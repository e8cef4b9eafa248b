"""The course of a command that trains: where it begins, its folder, its processes, and how it is resumed."""

import dataclasses
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from scoresde import parallel, runs
from scoresde.build import build
from scoresde.cli.jobs import logged_as, overrides, result_folder, typed_keys, usual_place
from scoresde.cli.launch import in_processes, require_devices
from scoresde.cli.resume import LOGGER, merge
from scoresde.cli.settings import Settings
from scoresde.cli.sweep_job import current, sweeping
from scoresde.errors import InputError, refuse
from scoresde.runs.config import leaves
from scoresde.training import FitResult, Trainer
from scoresde.training import checkpoint as checkpoints
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.shares import parts_of
from scoresde.training.stop import Interrupted
from scoresde.workflows.recorded import Recorded

S = TypeVar("S", bound=Settings)
R = TypeVar("R")


@dataclass
class Start:
    """Where a training begins.

    Attributes:
        cfg: the configuration.
        run: the folder of a run that is resumed.
        checkpoint: that of such a run, if it has one.
        complete: nothing is left to do: all steps done, what comes at the end too, and no setting changed.
    """

    cfg: dict[str, Any]
    run: Path | None = None
    checkpoint: Checkpoint | None = None
    complete: bool = False


class Course(ABC, Generic[S, R]):
    """One call of a command that trains; a subclass says what is its own.

    Args:
        settings: of the command.
        cfg: its configuration as plain values.

    Attributes:
        command: its name.
        key: the setting that names the folder.
        aside: keys of the configuration of this call, whatever a folder says.
    """

    command: ClassVar[str]
    key: ClassVar[str]
    aside: ClassVar[Collection[str]]

    def __init__(self, settings: S, cfg: dict[str, Any]) -> None:
        self.settings, self.cfg = settings, cfg

    @abstractmethod
    def within(self, folder: Path) -> dict[str, Any]:
        """The settings that name a folder."""

    @abstractmethod
    def begin(self) -> dict[str, Any]:
        """The configuration of a new training."""

    @abstractmethod
    def check(self, stored: dict[str, Any], folder: Path) -> None:
        """Refuse the folder of another command, or one whose configuration lacks something."""

    @abstractmethod
    def check_merged(self, merged: dict[str, Any], folder: Path, allow: list[str]) -> None:
        """Refuse a configuration with which the training in a folder cannot go on."""

    @abstractmethod
    def prepare(self, start: Start) -> Recorded[Any, R]:
        """Build the training."""

    @abstractmethod
    def name(self, cfg: dict[str, Any]) -> tuple[str, str | None]:
        """The name of a new folder, and the part of it that was typed."""

    @abstractmethod
    def meaning(self, job: Recorded[Any, R]) -> str:
        """What the output of the network stands for, in words."""

    @abstractmethod
    def closing(self, run: Path, result: FitResult[Any], results: R) -> None:
        """Print what was trained and what to type next; for a job of a sweep the values alone."""

    @abstractmethod
    def complete(self, run: Path, steps: int) -> float | None:
        """Print that there is nothing to do; returns what `objective` has returned."""

    @abstractmethod
    def objective(self, result: FitResult[Any], results: R) -> float | None:
        """The number that a sweeper should minimise."""

    @abstractmethod
    def again(self, run: Path) -> str:
        """The command that resumes."""

    def carry_out(self) -> float | None:
        """Train as configured, or resume what is in the folder; returns the number that a sweeper should minimise.

        Raises:
            InputError: something in the configuration is not possible; a new folder is made only after all is checked.
        """
        if (own := current()) and (begun := own.begun) and self._folder is None:
            self.settings = dataclasses.replace(self.settings, **self.within(begun))
        with ExitStack() as stack:
            start = self._start(stack)
            if start.run and start.complete:
                return self.complete(start.run, start.cfg["trainer"]["steps"])
            group, trainer = parallel.world(), start.cfg["trainer"]
            if group.size == 1 and (count := trainer.get("devices", 1)) != 1:
                require_devices(count, start.cfg["device"], "trainer.devices")
                parts_of(build(trainer, "trainer", self.settings.packages, Trainer), parallel.World(size=count))
                with _given_up(start.run or self._new_run(start.cfg, stack), stack) as run:
                    hint = f"resume with: {self.again(run)}"
                    return in_processes(self.command, count, {**start.cfg, **self.within(run)}, hint=hint)
            job = self.prepare(start)
            run = Path(group.share(str(start.run or self._new_run(start.cfg, stack)) if group.first else None))
            group.hint = f"resume with: {self.again(run)}"
            self._opening(run, job, start.checkpoint)
            name, sweep = logged_as(run)
            with self._how_to_resume(run):
                result, results = job.run(run, checkpoint=start.checkpoint, name=name, group=sweep)
            if group.first:
                self.closing(run, result, results)
            return self.objective(result, results)

    @property
    def _folder(self) -> str | None:
        folder: str | None = getattr(self.settings, self.key)
        return folder

    def _start(self, stack: ExitStack) -> Start:
        """Look into the folder, if one was named; from here on it is locked if it holds a run."""
        if self._folder is None or not runs.holds_run(run := Path(self._folder), self.key):
            return Start(self.begin())
        self.check(runs.read_config(run), run)  # nothing is written into the folder of another command
        stack.enter_context(runs.locked(run))
        stored = runs.read_config(run)
        merged = merge(stored, self.cfg, overrides())
        merged |= {key: self.cfg[key] for key in self.aside}
        packages = type(self.settings).of({**merged, **self.within(run)}).packages
        self.check_merged(merged, run, packages)
        trainer: Trainer = build(merged["trainer"], "trainer", packages, Trainer)
        checkpoint = checkpoints.read(checkpoints.newest(run)) if checkpoints.saved_steps(run) else None
        done = checkpoint.step if checkpoint else 0
        steps = merged["trainer"]["steps"] = trainer.steps  # which may have been deleted
        refuse(steps < done, f"trainer.steps: {steps} is fewer than the {done} that {run} has done; give more")
        compared = stored.keys() - {*self.aside, LOGGER} | {LOGGER} & typed_groups()
        same = all(merged.get(key) == stored[key] for key in compared)
        complete = steps == done and same and (run / runs.SUMMARY).is_file()
        if not complete:
            _mention_logger(stored[LOGGER], merged[LOGGER])
        return Start(merged, run, checkpoint, complete)

    def _new_run(self, cfg: dict[str, Any], stack: ExitStack) -> Path:
        """Make the folder of a new run, and lock it."""
        name, label = self.name(cfg)
        run = result_folder(self.key, self._folder, *usual_place(f"{runs.timestamp()}-{name}", label))
        stack.enter_context(runs.locked(run))
        return run

    def _opening(self, run: Path, job: Recorded[Any, R], start: Checkpoint | None) -> None:
        """Print what is being trained; in one line for a job of a sweep."""
        if sweeping():
            print(f"run    {run}", flush=True)
            return
        model, dataset = job.model, job.dataset
        weights = sum(p.numel() for p in model.parameters())
        print(f"data   {len(dataset.items):,} items of shape {dataset.event_shape}, {len(dataset.heldout):,} held out")
        print(f"model  {type(model.net).__name__}, {weights:,} weights, {self.meaning(job)}, on {model.device}")
        print(f"sde    {model.sde}")
        print(f"run    {run}" + (f", resuming at step {start.step}" if start is not None else ""), flush=True)

    @contextmanager
    def _how_to_resume(self, run: Path) -> Iterator[None]:
        """Say how to resume, however the training ends early; turn an interruption into an exit code.

        SystemExit also ends a sweep, which would continue after an Exception.
        """
        try:
            yield
        except BaseException as error:
            saved = checkpoints.saved_steps(run) and not sweeping()  # of which `main` says how to go on with the whole
            hint = f"resume with: {self.again(run)}" if saved else ""
            if isinstance(error, InputError) and hint and error.__cause__:  # the disk has failed; in one line
                raise InputError(f"{error}; then {hint}") from error
            if not isinstance(error, InputError):
                said = f"{error}\n" if isinstance(error, Interrupted) else ""
                print(f"{said}{hint}".rstrip(), file=sys.stderr)
            if isinstance(error, Interrupted):
                raise SystemExit(128 + error.signal) from None
            raise


def typed_groups() -> set[str]:
    """The parts of the configuration in which something was typed."""
    return {key.partition(".")[0] for key in typed_keys()}


def _mention_logger(stored: Any, used: Any) -> None:
    """Say on stderr what the folder says about loggers, which is not followed."""
    before, now = (dict(leaves(part, LOGGER)) for part in (stored, used))
    other = " ".join(f"{key}={value}" for key, value in before.items() if now.get(key) != value)
    if other and LOGGER not in typed_groups():
        print(f"logger: {other} of the folder is not used; give it again to log as before", file=sys.stderr)


@contextmanager
def _given_up(run: Path, stack: ExitStack) -> Iterator[Path]:
    """A context in which other processes hold the folder of a run; it is removed if they leave it empty."""
    stack.close()
    try:
        yield run
    finally:
        if not runs.holds_run(run):
            shutil.rmtree(run)
