"""How many samples a network evaluates, and evaluation mode: right in every thread, whatever wraps the model."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn


class Evaluations:
    """What was spent within `count_evaluations`.

    Attributes:
        samples: number of samples evaluated so far.
        products: products with Jacobians of models so far, one for each sample and direction.
    """

    def __init__(self) -> None:
        self.samples = self.products = 0
        self._lock = threading.Lock()

    def add(self, samples: int = 0, products: int = 0) -> None:
        with self._lock:
            self.samples += samples
            self.products += products


class _Frame:
    """A call of a model, or a block that watches calls; `called` once a model was called within."""

    __slots__ = ("called", "counters", "watch")

    def __init__(self, counters: tuple[Evaluations, ...], watch: Callable[[Any], None] | None = None) -> None:
        self.counters, self.watch, self.called = counters, watch, False


_FRAME: ContextVar[_Frame | None] = ContextVar("scoresde_frame", default=None)


@contextmanager
def _block(counters: tuple[Evaluations, ...] = (), watch: Callable[[Any], None] | None = None) -> Iterator[None]:
    outer = _FRAME.get()
    inner = _Frame(counters + (() if outer is None else outer.counters), watch)
    token = _FRAME.set(inner)
    try:
        yield
    finally:
        _FRAME.reset(token)
        if outer is not None:
            outer.called |= inner.called


@contextmanager
def count_evaluations() -> Iterator[Evaluations]:
    """Count the samples that models evaluate within the block, in this thread.

        with scoresde.count_evaluations() as spent:
            model(x, t)
        spent.samples  # len(x)

    A call of a model counts each of its samples once, unless the model called other models: then these count, so that
    wrappers of any depth need no code for it. Blocks may be nested. Each thread has its own count.
    """
    spent = Evaluations()
    with _block((spent,)):
        yield spent


@contextmanager
def uncounted() -> Iterator[None]:
    """Calls of models that do not count: what is passed through the network again only for want of memory."""
    token = _FRAME.set(None)
    try:
        yield
    finally:
        _FRAME.reset(token)


@contextmanager
def first_x0() -> Iterator[list[Any]]:
    """A list that gets x0_hat of the first call within the block; the calls that a model makes do not count."""
    seen: list[Any] = []

    def note(prediction: Any) -> None:
        if not seen:
            seen.append(prediction.x0)  # now: a rule may write into its x afterwards

    with _block(watch=note):
        yield seen


def count_products(number: int) -> None:
    """Add products with a Jacobian to the active counters."""
    frame = _FRAME.get()
    for counter in () if frame is None else frame.counters:
        counter.add(products=number)


def counted(call: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
    """`call(x, ...)`, added to the active counters; for `Model.__call__`."""
    outer = _FRAME.get()
    if outer is None:
        return call(x, *args, **kwargs)
    inner = _Frame(outer.counters)
    token = _FRAME.set(inner)
    try:
        prediction = call(x, *args, **kwargs)
    finally:
        _FRAME.reset(token)
    outer.called = True
    if not inner.called:
        for counter in outer.counters:
            counter.add(len(x))
    if outer.watch is not None:
        outer.watch(prediction)
    return prediction


_HELD: WeakKeyDictionary[nn.Module, tuple[int, bool]] = WeakKeyDictionary()  # blocks that hold a module, its own mode
_LOCK = threading.Lock()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; afterwards each module is in the mode in which it was.

    Threads may share modules: a module returns to its mode when the last of their blocks ends.
    """
    modules = list(model.modules())
    with _LOCK:
        for module in modules:
            blocks, mode = _HELD.get(module, (0, module.training))
            _HELD[module] = blocks + 1, mode
        model.eval()
    try:
        yield
    finally:
        with _LOCK:
            _release(model, modules)


def _release(model: nn.Module, modules: list[nn.Module]) -> None:
    held = {module: _HELD.pop(module) for module in modules}
    if all(blocks == 1 for blocks, _ in held.values()):
        model.train(held[model][1])  # for networks that do more than set a flag
    for module, (blocks, mode) in held.items():
        if blocks > 1:
            _HELD[module] = blocks - 1, mode
        else:
            module.training = mode
