"""Settings of a training, and the one call that runs it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch

from scoresde.data.dataset import Dataset
from scoresde.errors import InputError, require
from scoresde.loggers import Logger
from scoresde.model import ScoreModel
from scoresde.training import checkpoint as checkpoints
from scoresde.training.acceleration import Acceleration
from scoresde.training.averages import Averages
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.conditions import Conditions, conditions
from scoresde.training.fit import Evaluate, Fit, FitResult
from scoresde.training.power_ema import LONGEST
from scoresde.training.precision import Precision, half_type
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
        ema: decay of the average of the weights, see `Ema`; of several, the first is the one that is evaluated.
        clip: largest norm of the gradient; 0 turns clipping off.
        warmup: steps over which the learning rate rises to that of the optimizer.
        schedule: `cosine` lets it fall to zero at the end, `constant` keeps it.
        log_every: steps between logs.
        evaluate_every: steps between evaluations on held-out data; 0 evaluates at the end only.
        checkpoint_every: steps between checkpoints; 0 saves at the end only, and whenever an evaluation is the best.
        keep_last: how many of the newest checkpoints to keep; the best one is kept besides.
        monitor: the figure whose lowest value makes a checkpoint the best: heldout_loss, or any key that the
            `evaluate` function of `fit` returns.
        ema_power: lengths of power-function averages, see `PowerAverage`; two, such as [0.05, 0.1], allow an average of
            any length to be made after the training, with `scoresde ema`.
        snapshot_every: steps between the snapshots of those averages that are kept for that; 0 keeps none.
        precision: arithmetic of the network: `float32`, `bf16`, `fp16` with scaled gradients, or `auto`, which is bf16
            on CUDA devices that are good at it and float32 elsewhere. Weights, averages, optimizer state and loss are
            float32 in any case.
        micro_batch: items that go through the network at once, to fit into memory; must divide `batch_size`. The
            gradient is that of the whole batch. None: all of them.
        compile: compile the network with torch.compile; if that fails, one line says so and training goes on without.
        channels_last: keep weights and images in memory with their channels side by side.
        checkpoint_activations: save memory by computing the inside of residual blocks a second time on the way back.
        profile: write where the time goes into profile.json, and print it.
        augment: probability of each change of `scoresde.data.Augmentation` (0.12 in its paper); 0 turns it off. Needs
            images, and a network with condition `vector`, of size 9, without drop-out.

    Raises:
        InputError: a number out of range.
    """

    def __init__(
        self,
        steps: int = 3500,
        batch_size: int = 128,
        ema: float | tuple[float, ...] = 0.999,
        clip: float = 1.0,
        warmup: int = 100,
        schedule: Schedule = "cosine",
        log_every: int = 50,
        evaluate_every: int = 500,
        checkpoint_every: int = 500,
        keep_last: int = 2,
        monitor: str = "heldout_loss",
        ema_power: tuple[float, ...] = (),
        snapshot_every: int = 500,
        precision: Precision = "auto",
        micro_batch: int | None = None,
        compile: bool = False,
        channels_last: bool = False,
        checkpoint_activations: bool = False,
        profile: bool = False,
        augment: float = 0.0,
    ) -> None:
        positive = {"steps": steps, "batch_size": batch_size, "log_every": log_every, "keep_last": keep_last}
        for name, count in positive.items():
            require(count >= 1, name, count, "give an integer >= 1")
        others = {"warmup": warmup, "evaluate_every": evaluate_every, "checkpoint_every": checkpoint_every}
        for name, count in {**others, "snapshot_every": snapshot_every}.items():
            require(count >= 0, name, count, "give an integer >= 0")
        _check_averages(ema, ema_power)
        require(math.isfinite(clip) and clip >= 0, "clip", clip, "give a norm > 0, or 0 to turn clipping off")
        require(schedule in get_args(Schedule), "schedule", schedule, "give cosine or constant")
        require(bool(monitor), "monitor", monitor, "give the name of a figure, such as heldout_loss")
        require(precision in get_args(Precision), "precision", precision, "give auto, float32, bf16 or fp16")
        require(0 <= augment <= 1, "augment", augment, "give a probability in [0, 1], such as 0.12; 0 turns it off")
        wanted = f"give a divisor of batch_size, {batch_size}, or null for all at once"
        divides = micro_batch is None or (micro_batch >= 1 and batch_size % micro_batch == 0)
        require(divides, "micro_batch", micro_batch, wanted)
        self.steps, self.batch_size, self.ema, self.clip = steps, batch_size, ema, clip
        self.warmup, self.schedule, self.monitor, self.keep_last = warmup, schedule, monitor, keep_last
        self.log_every, self.evaluate_every, self.checkpoint_every = log_every, evaluate_every, checkpoint_every
        self.ema_power, self.snapshot_every, self.precision = ema_power, snapshot_every, precision
        self.micro_batch, self.compile, self.channels_last = micro_batch, compile, channels_last
        self.checkpoint_activations, self.profile, self.augment = checkpoint_activations, profile, augment

    def acceleration(self, device: torch.device) -> Acceleration:
        """How the network is to be called on a device."""
        dtype = half_type(self.precision, device)
        return Acceleration(dtype, self.compile, self.channels_last, self.checkpoint_activations)

    def averages(self, model: ScoreModel) -> Averages[ScoreModel]:
        """Fresh averages of the weights of `model`."""
        return Averages(model, self.ema if isinstance(self.ema, tuple) else (self.ema,), self.ema_power)

    def conditions(self, model: ScoreModel, dataset: Dataset) -> Conditions:
        """What the network is told in this training; raises InputError if network and data do not go together."""
        return conditions(model, dataset, self.augment)

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
            InputError: the run folder has checkpoints but none is given, the checkpoint does not fit, the network
                takes a condition that the data does not have, no figure is called `monitor`, or a checkpoint cannot be
                written.
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


def _check_averages(ema: float | tuple[float, ...], ema_power: tuple[float, ...]) -> None:
    decays = ema if isinstance(ema, tuple) else (ema,)
    wanted = "give a decay in [0, 1), such as 0.999, or a list of different ones; 0 turns averaging off"
    require(bool(decays) and all(0 <= d < 1 for d in decays) and len(set(decays)) == len(decays), "ema", ema, wanted)
    wanted = "give different lengths in (0, 0.288), such as [0.05, 0.1]"
    fine = all(0 < length < LONGEST for length in ema_power) and len(set(ema_power)) == len(ema_power)
    require(fine, "ema_power", list(ema_power), wanted)


@contextmanager
def _borrowed_generators(device: torch.device) -> Iterator[None]:
    """Put torch's global generators back as they were: they belong to the caller."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
