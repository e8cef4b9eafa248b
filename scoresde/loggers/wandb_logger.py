"""Weights & Biases: the values of the record of a run, with pictures and tables."""

import os
import shlex
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from scoresde._secrets import without_secrets
from scoresde.constraints import Checked, Constraint, Positive
from scoresde.loggers.logger import Config, Direction, Logger, say
from scoresde.loggers.metrics_file import METRICS, rows
from scoresde.loggers.wandb_files import Medium, files_of, identity, keep, kept, known_rows, picture

_PROJECT = "scoresde"
_FLUSH = 0.1  # seconds; with the 15 of W&B, a training that is killed loses what was logged in them


@dataclass(eq=False)
class WandbLogger(Checked, Logger):
    """Weights & Biases, offline by default, so that no account is needed and nothing is sent.

    Its files lie in <run>/wandb; `wandb sync` uploads them later, with the command that is printed at the end. It never
    stops a training: if it does not start online it continues offline, and if that fails too, or anything later,
    without it; one line on stderr reports each. A resumed training sends the values, pictures and tables that a kill
    has kept from these files, and nothing twice.

    Args:
        project: where the runs are collected; None takes the environment variable WANDB_PROJECT, and scoresde without.
        mode: online, offline or disabled; None takes the environment variable WANDB_MODE, and offline without one.
        entity: user or team; None takes WANDB_ENTITY, and the default of the account without.
        timeout: seconds to wait for the server when starting and when finishing.
        tags: words by which runs are found.
        job_type: such as train; None takes WANDB_JOB_TYPE, and the name of the command without.
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
    _folder: Path = field(default=Path(), init=False, repr=False)  # of the run
    _known: set[str] | None = field(default=None, init=False, repr=False)  # rows of earlier sessions, if there are any
    _variables: list[str] = field(default_factory=list, init=False, repr=False)  # set from start to finish

    @property
    def run_id(self) -> str | None:
        return self._id

    def start(
        self, run: Path, config: Config, name: str, group: str | None = None, run_id: str | None = None,
        command: str | None = None,
    ) -> None:  # fmt: skip
        self._folder, former = run, files_of(run / "wandb", run_id)
        self._id = run_id or (former[-1].stem.removeprefix("run-") if former else None)
        kind = self.job_type or os.environ.get("WANDB_JOB_TYPE") or command
        begin = {"dir": str(run), "config": without_secrets(config), "name": name, "group": group, "id": self._id}
        for mode in dict.fromkeys([self.mode or os.environ.get("WANDB_MODE") or "offline", "offline"]):
            try:
                self._keep_inside(run / "wandb")
                self._begin(mode, **begin, job_type=kind)
                break
            except Exception as error:
                if mode == "offline":
                    self._give_up(error)
                else:
                    say(f"W&B did not start in mode {mode} ({_line(error)}); it continues offline in {run}/wandb")
        self._look_back(former)

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
        settings = wandb.Settings(
            silent=True, console="off", init_timeout=wait, finish_timeout=wait, x_transaction_log_flush_interval=_FLUSH
        )
        project = self.project or os.environ.get("WANDB_PROJECT") or _PROJECT
        entity = self.entity or os.environ.get("WANDB_ENTITY")
        place = {"project": project, "entity": entity, "mode": mode, "tags": list(self.tags) or None}
        # a run of its own, also beside one that another thread or the user has begun in this process
        self._run = wandb.init(**place, **begin, resume="allow", reinit="create_new", settings=settings)
        if mode == "online" and self._run.disabled:
            raise TimeoutError("the question for an account was not answered")
        self._run.define_metric("*", step_metric="step")  # its own step refuses to go back, as a resumed training does
        self._id = self._run.id

    def _look_back(self, former: Sequence[Path]) -> None:
        try:
            self._known = known_rows(former) if former and self._run is not None else None
        except Exception as error:
            say(f"W&B: values that a kill has lost are not sent again ({_line(error)}); {METRICS} has them")

    def rewind(self, step: int) -> None:
        """Send what the records have and W&B lacks, since a kill came between; not if its files are gone."""

        def send(_: Any) -> None:
            for logged, scalars in rows(self._folder / METRICS):
                if logged <= step:
                    self.log(scalars, logged)
            for medium in kept(self._folder, step):
                self._send(medium)

        if self._known is not None:
            self._do(send)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        if self._known and identity({**scalars, "step": step}) in self._known:
            return
        self._do(lambda run: run.log({**scalars, "step": step}))

    def picture(self, name: str, path: Path, step: int) -> None:
        self._do(lambda _: self._send(picture(self._folder, name, path, step), new=True))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
        table = {"step": step, "name": name, "columns": [*columns], "data": [list(row) for row in rows]}
        self._do(lambda _: self._send(table, new=True))

    def _send(self, medium: Medium, new: bool = False) -> None:
        """Log a picture or a table, unless an earlier session has; a `new` one is recorded before."""
        if self._known is not None:
            if (own := identity(medium)) in self._known:
                return
            self._known.add(own)
        if new:
            keep(self._folder, medium)
        wandb, path = _wandb(), self._folder / medium.get("path", "")
        if "data" in medium:  # whose jobs without a result have words where others have numbers
            shown = wandb.Table(medium["columns"], medium["data"], allow_mixed_types=True)
        else:
            shown = wandb.Image(str(path))
        self._run.log({medium["name"]: shown, "step": medium["step"]})

    def declare(self, name: str, direction: Direction) -> None:
        best = "max" if direction == "higher" else "min"
        self._do(lambda run: run.define_metric(name, step_metric="step", summary=f"{best},last"))

    def checkpoint(self, path: Path, step: int) -> None:
        def send(run: Any) -> None:
            artifact = _wandb().Artifact(f"checkpoint-{run.id}", "model", metadata={"step": step})
            for file in sorted(path.iterdir()):  # add_dir would print what it does
                artifact.add_file(str(file), file.name)
            run.log_artifact(artifact)

        if self.artifact:
            self._do(send)

    def summary(self, values: Mapping[str, float]) -> None:
        self._do(lambda run: run.summary.update(dict(values)))

    def finish(self, failed: bool = False) -> None:
        offline = self._run is not None and self._run.offline and not self._run.disabled
        self._do(lambda run: run.finish(exit_code=int(failed)))
        if offline and self._run is not None:
            place = shlex.quote(str(self._folder / "wandb"))
            say(f"W&B: nothing was sent; to send it: wandb sync {place}/offline-run-*-{self._id}")
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
        say(f"W&B is not used from here on ({_line(error)}); every value is in {METRICS}")


def _wandb() -> Any:
    if "wandb" not in sys.modules:  # of a parent, whose service still holds the run of a sibling that was killed
        os.environ.pop("WANDB_SERVICE", None)
    import wandb  # takes seconds

    return wandb


def _line(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 250)
