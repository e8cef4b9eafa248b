"""Averages of the weights of a network over a training, each a module of its own."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from scoresde.constraints import Checked, Probability
from scoresde.training.power_ema import POWER, exponent
from scoresde.training.shards import local
from scoresde.training.state import HALF, module_state

M = TypeVar("M", bound=nn.Module)


class Average(Generic[M]):
    """A running average of a module's parameters, avg <- d_n avg + (1 - d_n) weights in update n = 0, 1, ...

    Buffers are copied, not averaged. The average is computed in float32 also for a network in half precision (whose
    spacing of numbers is wider than one update); float64 stays float64.

    Args:
        module: what is averaged; it is copied.
        factor: the factor d_n of the old average in update number n.

    Attributes:
        module: the average, a module of its own in evaluation mode that asks for no gradients.
        updates: number of updates so far; part of the state of a training.
    """

    def __init__(self, module: M, factor: Callable[[int], float]) -> None:
        self.updates, self._factor = 0, factor
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        half = [t for t in (*self.module.parameters(), *self.module.buffers()) if t.dtype in HALF]
        for tensor in half:
            tensor.data = tensor.data.float()
        self._widened = bool(half)
        self._averages = list(map(local, self.module.parameters()))
        self._copies = list(self.module.buffers())
        self._source: nn.Module | None = None
        self._weights, self._buffers = list[Tensor](), list[Tensor]()

    @torch.no_grad()
    def update(self, module: M) -> None:
        """Update the average with the weights of `module`; no copy between host and device."""
        if module is not self._source:  # walking the module tree in every step would cost more than the average
            self._source = module
            self._weights, self._buffers = list(map(local, module.parameters())), list(module.buffers())
        factor, weights = self._factor(self.updates), self._weights
        if factor == 0:
            torch._foreach_copy_(self._averages, weights)
        else:
            if self._widened:
                weights = [w.to(a.dtype) for w, a in zip(weights, self._averages, strict=True)]
            torch._foreach_lerp_(self._averages, weights, 1 - factor)
        if self._copies:
            torch._foreach_copy_(self._copies, self._buffers)
        self.updates += 1


class Ema(Checked, Average[M]):
    """Exponential moving average of a module's parameters, with a warm-up in which the random start is forgotten.

        ema <- d_n ema + (1 - d_n) weights,   d_n = min(decay, (1 + n) / (10 + n)),   n = updates so far

    Args:
        module: what is averaged; it is copied.
        decay: in [0, 1); 0 makes a plain copy of the newest weights.

    Raises:
        InputError: decay outside [0, 1).
    """

    def __init__(self, module: M, decay: Probability) -> None:
        super().__init__(module, lambda n: min(decay, (1 + n) / (10 + n)))


class PowerAverage(Average[M]):
    """The power-function average of a module's parameters from the first step on, always of the same relative length.

        avg <- d_n avg + (1 - d_n) weights,   d_n = (1 - 1 / (n + 1))^(gamma + 1),   n = updates so far

    After n updates step i has had the weight (i/n)^(gamma+1) - ((i-1)/n)^(gamma+1), the integral of its profile over
    that step (arXiv 2312.02696, section 3.1; see `scoresde.training.power_ema`).

    Args:
        module: what is averaged; it is copied.
        length: relative width of the average, in (0, 0.288).

    Raises:
        InputError: length out of range.
    """

    def __init__(self, module: M, length: float) -> None:
        power = exponent(length) + 1
        super().__init__(module, lambda n: float((1 - 1 / (n + 1)) ** power))


class Averages(Generic[M]):
    """All averages of one training: exponential ones of several decays, and power functions of several lengths.

    Args:
        module: what is averaged.
        decays: of the exponential averages, at least one; the first is evaluated and sampled from.
        lengths: of the power-function averages, from which `scoresde ema` computes others after the training.

    Attributes:
        members: all averages by their file names in a checkpoint: ema, ema-0.9999, ..., power-0.1, ...
    """

    def __init__(self, module: M, decays: Sequence[float], lengths: Sequence[float] = ()) -> None:
        self.members: dict[str, Average[M]] = {f"ema-{d}" if i else "ema": Ema(module, d) for i, d in enumerate(decays)}
        self.members |= {f"{POWER}{length}": PowerAverage(module, length) for length in lengths}

    @property
    def first(self) -> M:
        """The average that is evaluated and sampled from."""
        return self.members["ema"].module

    def states(self) -> dict[str, Mapping[str, Tensor]]:
        """The weights and buffers of every average."""
        return {name: module_state(member.module) for name, member in self.members.items()}

    def update(self, module: M) -> None:
        """Update every average with the weights of `module`."""
        for member in self.members.values():
            member.update(module)
