"""The settings of a training."""

import math
from typing import TypeVar, get_args

import torch
from torch import nn

from scoresde.data.dataset import Dataset
from scoresde.errors import require
from scoresde.training.acceleration import Acceleration
from scoresde.training.averages import Averages
from scoresde.training.conditions import TrainingConditions, conditions
from scoresde.training.power_ema import LONGEST
from scoresde.training.precision import Precision, half_type
from scoresde.training.schedule import Schedule

M = TypeVar("M", bound=nn.Module)


class Settings:
    """What `Trainer` is constructed with, checked; see there."""

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
        require(bool(monitor), "monitor", monitor, "give the name of a metric, such as heldout_loss")
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
        """How the network is called on a device."""
        dtype = half_type(self.precision, device)
        return Acceleration(dtype, self.compile, self.channels_last, self.checkpoint_activations)

    def averages(self, model: M) -> Averages[M]:
        """Fresh averages of the weights of `model`."""
        return Averages(model, self.ema if isinstance(self.ema, tuple) else (self.ema,), self.ema_power)

    def conditions(self, model: nn.Module, dataset: Dataset) -> TrainingConditions:
        """The conditions of this training; raises InputError if network and data do not fit together."""
        return conditions(model, dataset, self.augment)


def _check_averages(ema: float | tuple[float, ...], ema_power: tuple[float, ...]) -> None:
    decays = ema if isinstance(ema, tuple) else (ema,)
    wanted = "give a decay in [0, 1), such as 0.999, or a list of different ones; 0 turns averaging off"
    require(bool(decays) and all(0 <= d < 1 for d in decays) and len(set(decays)) == len(decays), "ema", ema, wanted)
    wanted = "give different lengths in (0, 0.288), such as [0.05, 0.1]"
    fine = all(0 < length < LONGEST for length in ema_power) and len(set(ema_power)) == len(ema_power)
    require(fine, "ema_power", list(ema_power), wanted)
