"""The settings of a training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from scoresde.constraints import (
    Checked,
    Constraint,
    Count,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    PowerOfTwo,
    Probability,
    Steps,
    at_least,
    checked,
    fitting,
)
from scoresde.errors import require
from scoresde.training.acceleration import Precision
from scoresde.training.power_ema import LONGEST

Schedule = Literal["cosine", "constant"]
Strategy = Literal["exact", "ddp", "fsdp"]
HELDOUT_LOSS = "heldout_loss"


def _different(values: Sequence[float]) -> bool:
    return len(set(values)) == len(values)


def _lengths(values: Sequence[float]) -> bool:
    return _different(values) and all(0 < length < LONGEST for length in values)


_Norm = Annotated[float, Constraint(lambda c: 0 <= c < math.inf, "a norm > 0, or 0 to turn clipping off")]
_Decay = Annotated[float, Constraint(lambda d: 0 <= d < 1, "a decay in [0, 1), such as 0.999 (0 turns averaging off)")]
_Decays = Annotated[tuple[_Decay, ...], Constraint(lambda ds: bool(ds) and _different(ds), "a list of different ones")]
_Lengths = Annotated[tuple[float, ...], Constraint(_lengths, "different lengths in (0, 0.288), such as [0.05, 0.1]")]
_Chance = Annotated[float, Constraint(lambda p: 0 <= p <= 1, "a probability in [0, 1], such as 0.12; 0 turns it off")]
_Metric = Annotated[str, Constraint(bool, "the name of a metric, such as heldout_loss")]


@dataclass
class Settings(Checked):
    """What `Trainer` is constructed with, checked; see there."""

    steps: Steps = 3500
    batch_size: Count = 128
    ema: _Decay | _Decays = 0.999
    clip: _Norm = 1.0
    warmup: NonNegativeInt = 100
    schedule: Schedule = "cosine"
    log_every: Count = 50
    evaluate_every: NonNegativeInt = 500
    checkpoint_every: NonNegativeInt = 500
    keep_last: Count = 2
    monitor: _Metric = HELDOUT_LOSS
    ema_power: _Lengths = ()
    snapshot_every: NonNegativeInt = 500
    precision: Precision = "auto"
    micro_batch: Count | None = None
    compile: bool = False
    channels_last: bool = False
    checkpoint_activations: bool = False
    profile: bool = False
    augment: _Chance = 0.0
    dequantise: bool = False
    restart: NonNegativeInt = 0
    picture_every: NonNegativeInt = 0
    deterministic: bool = False
    devices: PowerOfTwo = 1
    strategy: Strategy = "exact"
    auto_check: Annotated[int, at_least(0), fitting(1000)] = 64

    def __post_init__(self) -> None:
        batch, micro = self.batch_size, self.micro_batch
        wanted = f"give a divisor of batch_size, {batch}, or null for all at once"
        require(micro is None or batch % micro == 0, "micro_batch", micro, wanted)
        require(self.restart < self.steps, "restart", self.restart, f"give a step before the last one, {self.steps}")

    @property
    def decays(self) -> tuple[float, ...]:
        """Those of the exponential averages."""
        return (self.ema,) if isinstance(self.ema, float | int) else tuple(self.ema)

    def due(self, done: int) -> set[str]:
        """What is done after so many steps, of log, evaluation, checkpoint, snapshot and picture."""
        rhythms = {"log": self.log_every, "evaluation": self.evaluate_every, "checkpoint": self.checkpoint_every}
        rhythms |= {"picture": self.picture_every} | ({"snapshot": self.snapshot_every} if self.ema_power else {})
        at_end = {"evaluation", "checkpoint"} if done == self.steps else set()
        return at_end | {what for what, every in rhythms.items() if every and done % every == 0}

    def rate(self, step: int) -> float:
        """The factor of the base learning rate in step 0, 1, ..., steps - 1; a resumed training needs no scheduler.

            cosine      min(1, (step + 1) / warmup) (1 + cos(pi step / steps)) / 2
            constant    min(1, (step + 1) / warmup)

        Up to `restart`, `steps` is `restart`; from there on both are counted from it. The cosine is that of Loshchilov
        and Hutter 2017 (arXiv 1608.03983), eq. 5.
        """
        begin, end = (self.restart, self.steps) if step >= self.restart else (0, self.restart)
        k, n = step - begin, end - begin
        ramp = min(1.0, (k + 1) / max(self.warmup, 1))
        return ramp * (0.5 * (1 + math.cos(math.pi * k / n)) if self.schedule == "cosine" else 1.0)


# arguments of optimizers by the names that all of them have; those of torch refuse less, and without a name
_OPTIMIZERS: dict[str, Any] = {
    "lr": Positive, "eps": NonNegative, "weight_decay": NonNegative, "momentum": Fraction,
    "betas": tuple[Probability, Probability],
}  # fmt: skip


def check_optimizer(cfg: Any) -> None:
    """Raise InputError for a wrong number in the configuration of an optimizer, with its key."""
    for key, kind in _OPTIMIZERS.items():
        if isinstance(cfg, Mapping) and key in cfg:
            checked(cfg[key], f"optimizer.{key}", kind)
