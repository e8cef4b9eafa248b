"""How the network is called while it trains: half precision, compiled, channels last, activations recomputed.

Each of these puts a function in the place of a module's `forward` for as long as a training lasts. Modules, parameters
and the names of their states stay as they are, so checkpoints know nothing of it.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scoresde.errors import InputError

_BACKEND = "inductor"

_Forward = Callable[..., Any]


@dataclass(frozen=True)
class Acceleration:
    """The switches; all off is the network as it stands.

    Args:
        dtype: half precision of the network's matrix products and convolutions (autocast); None for float32.
        compile: compile the network, or say in one line why that failed and go on without.
        channels_last: keep 4-D weights and inputs in memory with their channels side by side.
        checkpoint_activations: keep only the inputs of the modules whose class says `checkpointable = True`, and
            compute what is inside them a second time on the way back (Chen et al. 2016, arXiv 1604.06174).
    """

    dtype: torch.dtype | None = None
    compile: bool = False
    channels_last: bool = False
    checkpoint_activations: bool = False

    def prepare(self, net: nn.Module) -> None:
        """Bring the weights into the wanted layout, before anything is made after their pattern.

        Raises:
            InputError: activations are to be recomputed and no module of the network allows it.
        """
        if self.checkpoint_activations and not _checkpointable(net):
            raise InputError(
                f"checkpoint_activations: True is not possible, since {type(net).__name__} has no module whose class "
                "says checkpointable = True; give false, or mark its blocks so"
            )
        if self.channels_last:
            for weight in net.parameters():
                if weight.ndim == 4:
                    weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    @contextmanager
    def applied(self, net: nn.Module) -> Iterator[None]:
        """While open, calls of `net` are accelerated."""
        with ExitStack() as stack:
            if self.checkpoint_activations:
                for block in _checkpointable(net):
                    stack.enter_context(_forward_of(block, _recomputed(block.forward)))
            if self.dtype is not None:
                stack.enter_context(_forward_of(net, _in_half_precision(net.forward, self.dtype)))
            if self.channels_last:
                stack.enter_context(_forward_of(net, _fed_channels_last(net.forward)))
            if self.compile:
                stack.enter_context(_forward_of(net, _Compiled(net.forward)))
            yield


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
    def call(*args: Any, **kwargs: Any) -> Any:
        def again(*args: Any) -> Any:
            return forward(*(iter(a) if isinstance(a, _Tape) else a for a in args), **kwargs)

        # random generators are put back for the second time, so dropout drops the same values
        return checkpoint(again, *(_Tape(a) if isinstance(a, Iterator) else a for a in args), use_reentrant=False)

    return call


class _Tape:
    """What an iterator gave the first time, for the second time."""

    def __init__(self, source: Iterator[Any]) -> None:
        self._source, self._taken = source, list[Any]()

    def __iter__(self) -> Iterator[Any]:
        yield from tuple(self._taken)
        for item in self._source:
            self._taken.append(item)
            yield item


def _in_half_precision(forward: _Forward, dtype: torch.dtype) -> _Forward:
    def call(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(x.device.type, dtype):
            return forward(x, *args, **kwargs)

    return call


def _fed_channels_last(forward: _Forward) -> _Forward:
    def call(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return forward(x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x, *args, **kwargs)

    return call


class _Compiled:
    """The compiled function, until compiling fails: then the function as it was, for good."""

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
        except Exception as error:  # a compiler may fail in any way; if it is the network, it fails again below
            cause = getattr(error, "inner_exception", error)
            line = next(iter(str(cause).strip().splitlines()), "")
            print(f"trainer.compile: failed ({type(cause).__name__}: {line}); going on without", file=sys.stderr)
            self._compiled = None
        return self._plain(*args, **kwargs)
