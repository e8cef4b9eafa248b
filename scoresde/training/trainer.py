"""Settings of a training, and the one call that runs it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from scoresde.data.dataset import Dataset
from scoresde.errors import InputError, require
from scoresde.loggers import Logger
from scoresde.model import ScoreModel
from scoresde.training import checkpoint as checkpoints
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.fit import Evaluate, Fit, FitResult
from scoresde.training.schedule import Schedule
from scoresde.training.step import Loss
from scoresde.training.stop import StopSignals

__all__ = ["FitResult", "Trainer"]


class Trainer:
    """Trains a score model by stochastic gradient descent.

    Everything about step k is a function of (seed, k) and the state of model, average and optimizer, so a training that
    was stopped or killed and goes on from a checkpoint ends, on the CPU, in the bit-identical weights.

    Args:
        steps: training steps in all, those before a resume included.
        batch_size: items in a step.
        ema: decay of the average of the weights, see `Ema`.
        clip: largest norm of the gradient; 0 turns clipping off.
        warmup: steps over which the learning rate rises to that of the optimizer.
        schedule: `cosine` lets it fall to zero at the end, `constant` keeps it.
        log_every: steps between logs.
        evaluate_every: steps between evaluations on held-out data; 0 evaluates at the end only.
        checkpoint_every: steps between checkpoints; 0 saves at the end only, and whenever an evaluation is the best.
        keep_last: how many of the newest checkpoints to keep; the best one is kept besides.
        monitor: the figure whose lowest value makes a checkpoint the best: heldout_loss, or any key that the
            `evaluate` function of `fit` returns.

    Raises:
        InputError: a number out of range.
    """

    def __init__(
        self,
        steps: int = 3500,
        batch_size: int = 128,
        ema: float = 0.999,
        clip: float = 1.0,
        warmup: int = 100,
        schedule: Schedule = "cosine",
        log_every: int = 50,
        evaluate_every: int = 500,
        checkpoint_every: int = 500,
        keep_last: int = 2,
        monitor: str = "heldout_loss",
    ) -> None:
        positive = {"steps": steps, "batch_size": batch_size, "log_every": log_every, "keep_last": keep_last}
        for name, count in positive.items():
            require(count >= 1, name, count, "give an integer >= 1")
        others = {"warmup": warmup, "evaluate_every": evaluate_every, "checkpoint_every": checkpoint_every}
        for name, count in others.items():
            require(count >= 0, name, count, "give an integer >= 0")
        require(0 <= ema < 1, "ema", ema, "give a decay in [0, 1), such as 0.999; 0 turns averaging off")
        require(math.isfinite(clip) and clip >= 0, "clip", clip, "give a norm > 0, or 0 to turn clipping off")
        require(schedule in ("cosine", "constant"), "schedule", schedule, "give cosine or constant")
        require(bool(monitor), "monitor", monitor, "give the name of a figure, such as heldout_loss")
        self.steps, self.batch_size, self.ema, self.clip = steps, batch_size, ema, clip
        self.warmup, self.schedule, self.monitor, self.keep_last = warmup, schedule, monitor, keep_last
        self.log_every, self.evaluate_every, self.checkpoint_every = log_every, evaluate_every, checkpoint_every

    def fit(
        self,
        model: ScoreModel,
        dataset: Dataset,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        run: Path,
        seed: int,
        logger: Logger,
        checkpoint: Checkpoint | None = None,
        evaluate: Evaluate | None = None,
        state: dict[str, Any] | None = None,
    ) -> FitResult:
        """Train `model` in place, up to step `steps`.

        Args:
            model: the network, on its device; afterwards it holds the raw weights.
            dataset: training and held-out items.
            loss: what is minimised.
            optimizer: over the parameters of `model`; its learning rate is the base of the schedule.
            run: folder for the checkpoints.
            seed: with the number of the step, decides every random number. Global generators end as they were.
            logger: where figures go; already started.
            checkpoint: where to go on from. Settings (learning rate, batch size, ...) are those given here.
            evaluate: called as evaluate(averaged model, step) at every evaluation; what it returns is logged.
            state: more to store in state.json.

        Raises:
            InputError: the run folder has checkpoints but none is given, the checkpoint does not fit, no figure is
                called `monitor`, or a checkpoint cannot be written.
            TrainingDiverged: a loss, gradient or weight is not finite.
            Interrupted: SIGINT or SIGTERM arrived; everything is saved.
        """
        run = Path(run)
        if checkpoint is None and checkpoints.saved_steps(run):
            raise InputError(f"run: {run} already holds checkpoints; resume from one of them or give another folder")
        training = model.training
        with _borrowed_generators(model.device), StopSignals() as signals:
            fit = Fit(self, model, dataset, loss, optimizer, run, seed, logger, checkpoint, evaluate, state or {})
            try:
                return fit(signals)
            finally:
                fit.step.restore_rate()
                model.train(training)


@contextmanager
def _borrowed_generators(device: torch.device) -> Iterator[None]:
    """Put torch's global generators back as they were: they belong to the caller."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
