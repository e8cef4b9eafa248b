"""A training in the folder of a run: its configuration, its logs, its checkpoints and its summary."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import nn
from torch.optim import Optimizer

from scoresde import runs
from scoresde.data import Dataset
from scoresde.data.memory import save
from scoresde.files import writing
from scoresde.loggers import METRICS, Logger, Loggers, MetricsFile
from scoresde.loss import Loss
from scoresde.parallel import sharing, world
from scoresde.training import FitResult, Trainer
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.job import Direction, Evaluate
from scoresde.training.shares import parts_of

M = TypeVar("M", bound=nn.Module)
R = TypeVar("R")


@dataclass(kw_only=True)
class Recorded(ABC, Generic[M, R]):
    """A training that is recorded in the folder of a run, ready to run; a subclass says what comes at its end.

    Attributes:
        config: as plain values; stored in the run.
        dataset: training and held-out items.
        model: on its device.
        loss: what is minimized.
        optimizer: over the parameters of `model`.
        trainer: how long and how to train.
        seed: decides everything random.
        logger: where values go besides <run>/metrics.jsonl.
        keep_data: write the data into the run, since no configuration can name them.
        command: whose folder it is.
        evaluate: values that are logged at every evaluation besides the held-out loss.
        direction: in which `trainer.monitor` gets better.
    """

    config: dict[str, Any]
    dataset: Dataset
    model: M
    loss: Loss[Any]
    optimizer: Optimizer
    trainer: Trainer
    seed: int
    logger: Logger
    keep_data: bool = False
    command: str = "train"
    evaluate: Evaluate[M] | None = None
    direction: Direction = "lower"

    def __post_init__(self) -> None:
        self.loss.check(self.model)
        parts_of(self.trainer, world())

    def run(
        self, folder: Path, *, checkpoint: Checkpoint | None = None, group: str | None = None, name: str | None = None,
        callbacks: Any = (),
    ) -> tuple[FitResult[M], R]:  # fmt: skip
        """Train, do what comes at the end, and write everything into the folder of a run, which exists and is locked.

        Args:
            folder: of the run.
            checkpoint: where to resume.
            group: what the runs of one sweep have in common.
            name: for people; that of the folder by default.
            callbacks: see `Trainer.fit`.
        """
        logger = Loggers([MetricsFile(folder / METRICS), self.logger] if world().first else [])
        monitor = self.trainer.monitor

        def begin() -> None:
            self._write(folder, checkpoint)
            run_id = None if checkpoint is None else checkpoint.state.get("run_id")
            config = runs.without_secrets(self.config)
            logger.start(folder, config, name or folder.name, group, run_id, self.command)
            logger.declare(monitor, self.direction)
            if checkpoint is None:
                logger.rewind(-1)  # of what was killed before its first checkpoint

        with sharing() as processes, _finished(logger):
            result = self.trainer.fit(
                self.model, self.dataset, loss=self.loss, optimizer=self.optimizer, run=folder, seed=self.seed,
                logger=logger, checkpoint=checkpoint, evaluate=self.evaluate, callbacks=callbacks,
                direction=self.direction, begin=begin, picture=partial(self.picture, folder, logger),
            )  # fmt: skip
            if result.best is not None:
                logger.summary({f"best_{monitor}": result.best.value, "best_step": result.best.step})
            if result.path is not None:
                logger.checkpoint(result.path, result.step)
            results, summary = self.finish(folder, result, logger, processes.first)
            if not processes.first:
                return result, results
        runs.write_json(folder / runs.SUMMARY, summary)  # what is killed before all is logged is done again
        return result, results

    @abstractmethod
    def finish(self, folder: Path, result: FitResult[M], logger: Logger, first: bool) -> tuple[R, dict[str, Any]]:
        """What comes after the last step, in each process: results, and in the `first` one the summary of the run."""

    def picture(self, folder: Path, logger: Logger, model: M, step: int) -> None:
        """Draw a picture of a model that is being trained."""

    def _write(self, folder: Path, start: Checkpoint | None) -> None:
        """Write what a resumed training needs; the configuration first, which makes the folder that of a run."""
        with writing(folder / runs.SUMMARY):
            (folder / runs.SUMMARY).unlink(missing_ok=True)  # its results are those of an earlier end
        if start is not None:
            runs.record_changes(folder, start.step, self.config)
        runs.write_config(folder, self.config)
        if self.keep_data and start is None:
            save(self.dataset, folder)


@contextmanager
def _finished(logger: Logger) -> Iterator[None]:
    """A context at whose end the loggers are finished, whatever happens."""
    try:
        yield
    except BaseException:
        logger.finish(failed=True)
        raise
    logger.finish(failed=False)


def of_training(result: FitResult[Any]) -> dict[str, Any]:
    """What the summary says of every training."""
    best = None if result.best is None else dataclasses.asdict(result.best)
    return {
        "step": result.step, "training_seconds": result.seconds, "loss": result.loss, "best_checkpoint": best,
    }  # fmt: skip
