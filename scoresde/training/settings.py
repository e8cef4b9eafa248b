"""The settings of a training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from scoresde.errors import require
from scoresde.training.acceleration import Precision
from scoresde.training.power_ema import LONGEST

Schedule = Literal["cosine", "constant"]
HELDOUT_LOSS = "heldout_loss"
_POSITIVE = ("steps", "batch_size", "log_every", "keep_last")
_EVERY = ("warmup", "evaluate_every", "checkpoint_every", "snapshot_every")


@dataclass
class Settings:
    """What `Trainer` is constructed with, checked; see there."""

    steps: int = 3500
    batch_size: int = 128
    ema: float | tuple[float, ...] = 0.999
    clip: float = 1.0
    warmup: int = 100
    schedule: Schedule = "cosine"
    log_every: int = 50
    evaluate_every: int = 500
    checkpoint_every: int = 500
    keep_last: int = 2
    monitor: str = HELDOUT_LOSS
    ema_power: tuple[float, ...] = ()
    snapshot_every: int = 500
    precision: Precision = "auto"
    micro_batch: int | None = None
    compile: bool = False
    channels_last: bool = False
    checkpoint_activations: bool = False
    profile: bool = False
    augment: float = 0.0

    def __post_init__(self) -> None:
        for name in (*_POSITIVE, *_EVERY):
            count, least = getattr(self, name), int(name in _POSITIVE)
            require(count >= least, name, count, f"give an integer >= {least}")
        clip, batch, micro = self.clip, self.batch_size, self.micro_batch
        wanted = "give a decay in [0, 1), such as 0.999, or a list of different ones; 0 turns averaging off"
        require(bool(self.decays) and _different(self.decays, lambda d: 0 <= d < 1), "ema", self.ema, wanted)
        wanted = "give different lengths in (0, 0.288), such as [0.05, 0.1]"
        powers = self.ema_power
        require(_different(powers, lambda length: 0 < length < LONGEST), "ema_power", list(powers), wanted)
        require(math.isfinite(clip) and clip >= 0, "clip", clip, "give a norm > 0, or 0 to turn clipping off")
        require(self.schedule in get_args(Schedule), "schedule", self.schedule, "give cosine or constant")
        require(bool(self.monitor), "monitor", self.monitor, "give the name of a metric, such as heldout_loss")
        require(self.precision in get_args(Precision), "precision", self.precision, "give auto, float32, bf16 or fp16")
        wanted = "give a probability in [0, 1], such as 0.12; 0 turns it off"
        require(0 <= self.augment <= 1, "augment", self.augment, wanted)
        wanted = f"give a divisor of batch_size, {batch}, or null for all at once"
        require(micro is None or (micro >= 1 and batch % micro == 0), "micro_batch", micro, wanted)

    @property
    def decays(self) -> tuple[float, ...]:
        """Those of the exponential averages."""
        return self.ema if isinstance(self.ema, tuple) else (self.ema,)

    def due(self, done: int) -> set[str]:
        """What is done after so many steps, of log, evaluation, checkpoint and snapshot."""
        rhythms = {"log": self.log_every, "evaluation": self.evaluate_every, "checkpoint": self.checkpoint_every}
        rhythms |= {"snapshot": self.snapshot_every} if self.ema_power else {}
        at_end = {"evaluation", "checkpoint"} if done == self.steps else set()
        return at_end | {what for what, every in rhythms.items() if every and done % every == 0}

    def rate(self, step: int) -> float:
        """The factor of the base learning rate in step 0, 1, ..., steps - 1; a resumed training needs no scheduler.

            cosine      min(1, (step + 1) / warmup) (1 + cos(pi step / steps)) / 2
            constant    min(1, (step + 1) / warmup)

        The cosine is that of Loshchilov and Hutter 2017 (arXiv 1608.03983), eq. 5, without restarts.
        """
        ramp = min(1.0, (step + 1) / max(self.warmup, 1))
        return ramp * (0.5 * (1 + math.cos(math.pi * step / self.steps)) if self.schedule == "cosine" else 1.0)


def _different(values: Sequence[float], valid: Callable[[float], bool]) -> bool:
    return all(map(valid, values)) and len(set(values)) == len(values)
