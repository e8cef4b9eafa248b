"""Acceleration of the network in training: half precision, compilation, channels last, recomputed activations.

Weights, averages, optimizer state and loss stay in float32. Each option replaces the `forward` of a module while a
training runs. Modules, parameters and the names in their state do not change, so checkpoints do not depend on the
options.
"""

import copy
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scoresde.errors import require
from scoresde.model import device_of

Precision = Literal["auto", "float32", "bf16", "fp16"]

_BACKEND = "inductor"
_AMPERE = 8  # the first CUDA generation with fast bfloat16

_Forward = Callable[..., Any]


def half_type(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The half precision type on a device; None for float32.

    `auto` is bf16 on CUDA devices of compute capability 8 or higher, where it is fast, and float32 elsewhere.
    """
    if precision == "auto":
        good = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= _AMPERE
        return torch.bfloat16 if good else None
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": None}[precision]


def gradient_scaler(dtype: torch.dtype | None, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss so that small gradients of float16 do not vanish (Micikevicius et al. 2018, arXiv 1710.03740,
    section 3.2). Disabled in other types: bfloat16 has the range of float32."""
    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)


@dataclass(frozen=True)
class Acceleration:
    """The options; by default all are off.

    Args:
        dtype: half precision of the network's matrix products and convolutions (autocast); None for float32.
        compile: compile the network; if that fails, print the reason in one line and continue without.
        channels_last: store 4-D weights and inputs in the channels-last memory format.
        checkpoint_activations: keep only the inputs of modules whose class sets `checkpointable = True`, and recompute
            their activations in the backward pass (Chen et al. 2016, arXiv 1604.06174).
    """

    dtype: torch.dtype | None = None
    compile: bool = False
    channels_last: bool = False
    checkpoint_activations: bool = False

    def prepare(self, net: nn.Module) -> None:
        """Convert the memory format of the weights, before averages and optimizer state are made like them.

        Raises:
            InputError: activations are to be recomputed, but no module of the network allows it.
        """
        possible = not self.checkpoint_activations or bool(_checkpointable(net))
        wanted = f"{type(net).__name__} has no module whose class sets checkpointable = True; set it, or give false"
        require(possible, "checkpoint_activations", True, wanted)
        if self.channels_last:
            for weight in net.parameters():
                if weight.ndim == 4:
                    weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    @contextmanager
    def applied(self, net: nn.Module) -> Iterator[None]:
        """A context in which calls of `net` are accelerated, and float32 matrix products run in TF32 on CUDA (10 bits
        of mantissa), as convolutions do."""
        device = device_of(net).type
        with ExitStack() as stack:
            if device == "cuda":
                stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
                torch.set_float32_matmul_precision("high")
            if self.checkpoint_activations:
                for block in _checkpointable(net):
                    stack.enter_context(_forward_of(block, _recomputed(block.forward)))
            if self.dtype is not None:
                stack.enter_context(_forward_of(net, torch.autocast(device, self.dtype)(net.forward)))
            if self.channels_last:
                stack.enter_context(_forward_of(net, _fed_channels_last(net.forward)))
            if self.compile:
                stack.enter_context(_forward_of(net, _Compiled(net.forward)))
            yield


@contextmanager
def repeatable(wanted: bool) -> Iterator[None]:
    """A context in which torch uses only algorithms that give the same bits each time, if that is wanted.

    cuBLAS needs a work space of fixed size for that, which it reads from the environment at its first call.
    """
    if not wanted:
        yield
        return
    before, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)


def _checkpointable(net: nn.Module) -> list[nn.Module]:
    return [m for m in net.modules() if getattr(type(m), "checkpointable", False)]


@contextmanager
def _forward_of(module: nn.Module, stand_in: _Forward) -> Iterator[None]:
    before = vars(module).get("forward")
    module.forward = stand_in
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


def _recomputed(forward: _Forward) -> _Forward:
    def once(*args: Any, **kwargs: Any) -> Any:
        return forward(*(copy.copy(a) if isinstance(a, Iterator) else a for a in args), **kwargs)

    def call(*args: Any, **kwargs: Any) -> Any:
        # the copies of a tee begin at the same item, so the second pass takes from an iterator what the first one took
        repeatable = (itertools.tee(a, 1)[0] if isinstance(a, Iterator) else a for a in args)
        # the random generators are restored for the second pass, so dropout drops the same values
        return checkpoint(once, *repeatable, use_reentrant=False, **kwargs)

    return call


def _fed_channels_last(forward: _Forward) -> _Forward:
    def call(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return forward(x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x, *args, **kwargs)

    return call


class _Compiled:
    """The compiled function; from the first failure of the compiler on, the original one."""

    def __init__(self, forward: _Forward) -> None:
        self._plain: _Forward = forward
        self._compiled: _Forward | None = torch.compile(forward, backend=_BACKEND, dynamic=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._compiled is None:
            return self._plain(*args, **kwargs)
        try:
            return self._compiled(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler may fail in any way; an error of the network is raised again below
            cause = getattr(error, "inner_exception", error)
            line = next(iter(str(cause).strip().splitlines()), "")
            print(f"compile: failed ({type(cause).__name__}: {line}); going on without", file=sys.stderr)
            self._compiled = None
        return self._plain(*args, **kwargs)
