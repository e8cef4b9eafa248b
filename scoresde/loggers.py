"""Loggers: every logged value goes to a file of lines in the run folder, and to Weights & Biases if wanted."""

import errno
import json
import math
import os
import sys
import textwrap
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from scoresde._secrets import without_secrets
from scoresde.constraints import Checked, Constraint, Positive
from scoresde.files import write_text, writing

Config = Mapping[str, Any]
Direction = Literal["lower", "higher"]
_PROJECT = "scoresde"


class Logger(ABC):
    """What training, sampling and evaluation report to. Methods do nothing unless a subclass overrides them."""

    @property
    def run_id(self) -> str | None:
        """What a resumed run needs to continue in the same place; None if nothing."""
        return None

    def start(self, run: Path, config: Config, name: str, group: str | None = None, run_id: str | None = None) -> None:  # noqa: B027
        """Begin.

        Args:
            run: the run folder; nothing is written outside of it.
            config: the resolved configuration.
            name: name of the run, for people.
            group: what the runs of one sweep have in common.
            run_id: that of the run that is being resumed.
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

    start, rewind, log = _to_each("start"), _to_each("rewind"), _to_each("log")
    declare, picture, table = _to_each("declare"), _to_each("picture"), _to_each("table")
    checkpoint, summary, finish = _to_each("checkpoint"), _to_each("summary"), _to_each("finish")


class MetricsFile(Logger):
    """One JSON object a line: {"step": 50, "time": seconds since 1970, "loss": 0.31, ...}.

    The record of truth of a run: a line is in the file as soon as it is logged. A training that goes on from step n
    first removes the lines of later steps, which it will write again, and a last line that a kill has cut; a line on
    stderr says so if those up to n are not there. NaN and infinities are the strings "NaN", "Infinity" and
    "-Infinity", since JSON has no such numbers.

    Args:
        path: the file, such as <run>/metrics.jsonl; made when the first line is written.

    Raises:
        InputError: a line cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def rewind(self, step: int) -> None:
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        odd = sum(math.isinf(step_of(line)) for line in text.splitlines())
        if odd:
            _say(f"{self.path}: {odd} of its lines hold no values of a step; they are removed")
        kept = "".join(line + "\n" for line in text.splitlines() if step_of(line) <= step)
        last = max(map(step_of, kept.splitlines()), default=0)
        if last < step:
            _say(f"{self.path} lacks the values of steps {last + 1:.0f} to {step}; it was changed or lost")
        if kept != text:
            write_text(self.path, kept)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        row = {"step": step, "time": round(time.time(), 3)} | {key: _number(value) for key, value in scalars.items()}
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


def _number(value: float) -> float | str:
    value = float(value)
    return value if math.isfinite(value) else json.dumps(value)


@dataclass(eq=False)
class WandbLogger(Checked, Logger):
    """Weights & Biases, offline by default, so that no account is needed and nothing is sent.

    Its files lie in <run>/wandb; `wandb sync` uploads them later. It never stops a training: if it does not start
    online it continues offline, and if that fails too, or anything later, without it; one line on stderr reports each.

    Args:
        project: where the runs are collected; None takes the environment variable WANDB_PROJECT, and scoresde without.
        mode: online, offline or disabled; None takes the environment variable WANDB_MODE, and offline without one.
        entity: user or team; None takes WANDB_ENTITY, and the default of the account without.
        timeout: seconds to wait for the server when starting and when finishing.
        tags: words by which runs are found.
        job_type: such as train; None takes WANDB_JOB_TYPE.
        artifact: whether the last checkpoint of a training is kept there too.

    Raises:
        InputError: an unknown mode, an empty project or a timeout that is not positive.
    """

    project: Annotated[str, Constraint(bool, "a name")] | None = None
    mode: Literal["online", "offline", "disabled"] | None = None
    entity: str | None = None
    timeout: Positive = 60.0
    tags: tuple[str, ...] = ()
    job_type: str | None = None
    artifact: bool = False
    _id: str | None = field(default=None, init=False, repr=False)
    _run: Any = field(default=None, init=False, repr=False)
    _variables: list[str] = field(default_factory=list, init=False, repr=False)  # set from start to finish

    @property
    def run_id(self) -> str | None:
        return self._id

    def start(self, run: Path, config: Config, name: str, group: str | None = None, run_id: str | None = None) -> None:
        self._id = run_id or _former_id(run / "wandb")
        begin = {"dir": str(run), "config": without_secrets(config), "name": name, "group": group, "id": self._id}
        for mode in dict.fromkeys([self.mode or os.environ.get("WANDB_MODE") or "offline", "offline"]):
            try:
                self._keep_inside(run / "wandb")
                self._begin(mode, **begin)
                break
            except Exception as error:
                if mode == "offline":
                    self._give_up(error)
                else:
                    _say(f"W&B did not start in mode {mode} ({_line(error)}); it continues offline in {run}/wandb")

    def _keep_inside(self, folder: Path) -> None:
        """Have what W&B would put into the home folder, which may be full or read-only, below the run folder too."""
        for variable, path in (("WANDB_DATA_DIR", folder), ("WANDB_CACHE_DIR", folder / "cache")):
            if variable not in os.environ:
                path.mkdir(parents=True, exist_ok=True)
                os.environ[variable] = str(path)
                self._variables.append(variable)

    def _begin(self, mode: str, **begin: Any) -> None:
        wandb, wait = _wandb(), self.timeout
        wandb.setup(wandb.Settings(login_timeout=wait))  # the question for an account looks for it only there
        settings = wandb.Settings(silent=True, console="off", init_timeout=wait, finish_timeout=wait)
        project = self.project or os.environ.get("WANDB_PROJECT") or _PROJECT
        entity = self.entity or os.environ.get("WANDB_ENTITY")
        place: dict[str, Any] = {"project": project, "entity": entity, "mode": mode}
        place |= {"tags": list(self.tags) or None, "job_type": self.job_type}
        self._run = wandb.init(**place, **begin, resume="allow", reinit="finish_previous", settings=settings)
        if mode == "online" and self._run.disabled:
            raise TimeoutError("the question for an account was not answered")
        self._run.define_metric("*", step_metric="step")  # its own step refuses to go back, as a resumed training does
        self._id = self._run.id

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        self._do(lambda run: run.log({**scalars, "step": step}))

    def picture(self, name: str, path: Path, step: int) -> None:
        self._do(lambda run: run.log({name: _wandb().Image(str(path)), "step": step}))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
        content = [list(row) for row in rows]
        self._do(lambda run: run.log({name: _wandb().Table(columns=list(columns), data=content), "step": step}))

    def declare(self, name: str, direction: Direction) -> None:
        best = "max" if direction == "higher" else "min"
        self._do(lambda run: run.define_metric(name, step_metric="step", summary=f"{best},last"))

    def checkpoint(self, path: Path, step: int) -> None:
        def keep(run: Any) -> None:
            artifact = _wandb().Artifact(f"checkpoint-{run.id}", "model", metadata={"step": step})
            for file in sorted(path.iterdir()):  # add_dir would print what it does
                artifact.add_file(str(file), file.name)
            run.log_artifact(artifact)

        if self.artifact:
            self._do(keep)

    def summary(self, values: Mapping[str, float]) -> None:
        self._do(lambda run: run.summary.update(dict(values)))

    def finish(self, failed: bool = False) -> None:
        self._do(lambda run: run.finish(exit_code=int(failed)))
        self._run = None
        while self._variables:
            os.environ.pop(self._variables.pop(), None)

    def _do(self, act: Callable[[Any], None]) -> None:
        if self._run is not None:
            try:
                act(self._run)
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._run = None
        _say(f"W&B is not used from here on ({_line(error)}); every value is in metrics.jsonl")


def _former_id(folder: Path) -> str | None:
    """The id under which this run was logged before, also where it was killed before its first checkpoint."""
    found = sorted(folder.glob("*run-*/run-*.wandb"))
    return found[-1].stem.removeprefix("run-") if found else None


def _wandb() -> Any:
    import wandb  # takes seconds

    return wandb


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _line(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 250)
