"""What a training is given and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)
Direction = Literal["lower", "higher"]


@dataclass(frozen=True)
class Best:
    """The best value of the monitored metric so far, and the step of the checkpoint that reached it."""

    step: int
    metric: str
    value: float


class Progress(NamedTuple, Generic[M]):
    """What a callback is given.

    Attributes:
        step: steps done.
        steps: steps in all.
        model: the model with the raw weights, in training mode; not to be changed.
        ema: the model with averaged weights, in evaluation mode.
        values: the latest value of everything logged so far, such as loss, lr and heldout_loss.
        best: see `Best`; None before the first evaluation.
    """

    step: int
    steps: int
    model: M
    ema: M
    values: dict[str, float]
    best: Best | None


Evaluate = Callable[[M, int], dict[str, float]]
Callback = Callable[[Progress[M]], object]


@dataclass(frozen=True)
class FitResult(Generic[M]):
    """What a training returns.

    Attributes:
        step: steps done, earlier ones included.
        ema: the model with averaged weights, in evaluation mode: the one to sample from.
        loss: mean training loss between the last two logs; NaN before the first.
        seconds: wall-clock time, that of the sessions before a resume included.
        best: see `Best`; None before the first evaluation.
        path: the newest checkpoint; None without a run folder.
    """

    step: int
    ema: M
    loss: float
    seconds: float
    best: Best | None
    path: Path | None
