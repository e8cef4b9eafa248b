"""Parts of a computation that several processes share out: each makes some of them, and all get all, in order."""

import builtins
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from scoresde.errors import InputError
from scoresde.parallel.alone import World
from scoresde.parallel.join import world

T = TypeVar("T")
_ALONE = World()
_SHARING: ContextVar[World] = ContextVar("scoresde_sharing", default=_ALONE)


class Lost(KeyboardInterrupt):
    """Another process has ended; it unwinds the stack as Ctrl-C does, so that what is done so far is kept."""


@contextmanager
def sharing(among: World | None = None) -> Iterator[World]:
    """Within, the processes share out the batches of samples and of items; the same bits, whatever their number.

        with scoresde.parallel.sharing() as processes:
            samples = run.sample(50_000)
            if processes.first:
                numpy.save("samples.npy", samples)

    It begins in all processes, and all make the same calls of `Run.sample`, `scoresde.evaluate` and `scoresde.compare`
    within. Without it these know nothing of other processes, so that one of them may sample while others train. Nor
    does `Sampler.sample` ever, since models and metrics may call it in any order.

    Args:
        among: the processes; those of torchrun or srun by default.
    """
    among = world() if among is None else among
    token = _SHARING.set(among)
    try:
        yield among
    finally:
        _SHARING.reset(token)


def sharers() -> World:
    """The processes of `sharing`, or this one alone."""
    return _SHARING.get()


@contextmanager
def with_all() -> Iterator[World]:
    """Within, the processes of `sharing` talk to each other; that one is gone is raised as `Lost`."""
    try:
        yield sharers()
    except InputError as error:
        raise Lost(str(error)) from error


@contextmanager
def first_before_others() -> Iterator[None]:
    """What the first process does within, it has done when the others begin: they find the files that it has kept."""
    group = sharers()
    try:
        if not group.first:
            with with_all():
                group.meet()
        yield
    finally:
        if group.first:
            with with_all():
                group.meet()


def shared(parts: Sequence[T], make: Callable[[T], Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the arrays of each part, in order, in all processes of `sharing`, of which each makes every so many-th.

    What a process makes, it makes alone; an error in a part is raised in all processes, after the parts before it. Each
    process holds two parts at a time.

    Args:
        parts: of a computation, the same in all processes.
        make: the arrays of a part by name, or what numpy makes arrays of.
    """
    group = sharers()
    if group.size == 1:
        yield from map(make, parts)
        return
    for begin in range(0, len(parts), group.size):
        turn = parts[begin : begin + group.size]
        failed, own = None, b""
        if group.rank < len(turn):
            with sharing(_ALONE):
                try:
                    own = _packed(make(turn[group.rank]))
                except Exception as error:
                    failed, own = error, _packed({"failed": [type(error).__name__, str(error)]})
        for rank in range(len(turn)):
            with with_all():
                arrays = _unpacked(group.pass_on(own, rank))
            if "failed" in arrays:
                raise failed if failed and rank == group.rank else _error(*arrays["failed"].tolist())
            yield arrays


def _packed(arrays: Mapping[str, Any]) -> bytes:
    import numpy as np

    np.savez(stream := io.BytesIO(), **arrays)
    return stream.getvalue()


def _unpacked(own: bytes) -> dict[str, Any]:
    import numpy as np

    with np.load(io.BytesIO(own)) as stored:  # never a pickle
        return dict(stored)


def _error(kind: str, text: str) -> Exception:
    """The error of another process."""
    known = getattr(builtins, kind, RuntimeError)
    usual = isinstance(known, type) and issubclass(known, Exception)
    usual &= not issubclass(known, UnicodeError | ExceptionGroup)  # these want more than a text
    return InputError(text) if kind == InputError.__name__ else (known if usual else RuntimeError)(text)
