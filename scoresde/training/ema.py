"""Averages of the weights of a network over a training, each a module of its own."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from scoresde.errors import require

M = TypeVar("M", bound=nn.Module)
_HALF = (torch.float16, torch.bfloat16)


class Average(ABC, Generic[M]):
    """A running average of a module's parameters, avg <- d_n avg + (1 - d_n) weights in update n = 0, 1, ...

    Buffers are copied, not averaged. The average is computed in float32 also for a network in half precision (whose
    spacing of numbers is wider than one update); float64 stays float64.

    Args:
        module: what is averaged; it is copied.

    Attributes:
        module: the average, a module of its own in evaluation mode that asks for no gradients.
        updates: number of updates so far; part of the state of a training.
    """

    def __init__(self, module: M) -> None:
        self.updates = 0
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        half = [t for t in (*self.module.parameters(), *self.module.buffers()) if t.dtype in _HALF]
        for tensor in half:
            tensor.data = tensor.data.float()
        self._widened = bool(half)
        self._averages: list[Tensor] = list(self.module.parameters())
        self._copies: list[Tensor] = list(self.module.buffers())
        self._source: nn.Module | None = None
        self._weights: list[Tensor] = []
        self._buffers: list[Tensor] = []

    @abstractmethod
    def factor(self, n: int) -> float:
        """The factor d_n of the old average in update number n."""

    @torch.no_grad()
    def update(self, module: M) -> None:
        """Update the average with the weights of `module`; no copy between host and device."""
        if module is not self._source:  # walking the module tree in every step would cost more than the average
            self._source, self._weights, self._buffers = module, list(module.parameters()), list(module.buffers())
        factor = self.factor(self.updates)
        if factor == 0:
            torch._foreach_copy_(self._averages, self._weights)
        else:
            weights = self._weights
            if self._widened:
                weights = [w.to(a.dtype) for w, a in zip(weights, self._averages, strict=True)]
            torch._foreach_lerp_(self._averages, weights, 1 - factor)
        if self._copies:
            torch._foreach_copy_(self._copies, self._buffers)
        self.updates += 1


class Ema(Average[M]):
    """Exponential moving average of a module's parameters, with a warm-up in which the random start is forgotten.

        ema <- d_n ema + (1 - d_n) weights,   d_n = min(decay, (1 + n) / (10 + n)),   n = updates so far

    Args:
        module: what is averaged; it is copied.
        decay: in [0, 1); 0 makes a plain copy of the newest weights.

    Raises:
        InputError: decay outside [0, 1).
    """

    def __init__(self, module: M, decay: float) -> None:
        require(0 <= decay < 1, "ema", decay, "give a decay in [0, 1), such as 0.999; 0 turns averaging off")
        super().__init__(module)
        self.decay = decay

    def factor(self, n: int) -> float:
        return min(self.decay, (1 + n) / (10 + n))
