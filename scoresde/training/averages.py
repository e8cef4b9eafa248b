"""All averages of one training: exponential ones of several decays, and power functions of several lengths."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from torch import nn

from scoresde.training.ema import Average, Ema
from scoresde.training.power_ema import PowerAverage

M = TypeVar("M", bound=nn.Module)


def is_average(name: str) -> bool:
    """Whether the module `name` of a checkpoint is an average of the weights."""
    return name == "ema" or name.startswith(("ema-", "power-"))


class Averages(Generic[M]):
    """Averages of the weights of one module, updated together.

    Args:
        module: what is averaged.
        decays: of the exponential averages, at least one; the first is evaluated and sampled from.
        lengths: of the power-function averages, from which `scoresde ema` computes others after the training.

    Attributes:
        members: all averages by their file names in a checkpoint: ema, ema-0.9999, ..., power-0.1, ...
        power: the power-function averages among them.
    """

    def __init__(self, module: M, decays: Sequence[float], lengths: Sequence[float] = ()) -> None:
        exponential = {f"ema-{d}" if i else "ema": Ema(module, d) for i, d in enumerate(decays)}
        self.power = {f"power-{length}": PowerAverage(module, length) for length in lengths}
        self.members: dict[str, Average[M]] = {**exponential, **self.power}

    @property
    def first(self) -> M:
        """The average that is evaluated and sampled from."""
        return self.members["ema"].module

    @property
    def updates(self) -> int:
        """Number of updates so far, the same for all."""
        return self.members["ema"].updates

    @updates.setter
    def updates(self, n: int) -> None:
        for member in self.members.values():
            member.updates = n

    def update(self, module: M) -> None:
        """Update every average with the weights of `module`."""
        for member in self.members.values():
            member.update(module)
