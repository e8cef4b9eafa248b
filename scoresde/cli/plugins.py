"""The libraries behind launchers and sweepers: without lines of their own, and without their handlers of signals."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

from scoresde.training.stop import STOPPING

# each job marks its lines, and Ray takes lines for the same that differ in numbers alone; errors are said by `main`
_RAY = {"RAY_DEDUP_LOGS": "0", "RAY_COLOR_PREFIX": "0", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}


@contextmanager
def quieted(typed: Sequence[str]) -> Iterator[None]:
    """A context in which Ray and Optuna do what they should and no more, if these settings ask for them."""
    with ExitStack() as stack:
        if _wanted("ray", "launcher", typed):
            stack.enter_context(_ray())
        if _wanted("optuna", "sweeper", typed) or any(setting.startswith("hparams_search=") for setting in typed):
            _optuna()
        yield


def _wanted(library: str, group: str, typed: Sequence[str]) -> bool:
    return any(setting in (f"{group}={library}", f"hydra/{group}={library}") for setting in typed)


@contextmanager
def _ray() -> Iterator[None]:
    """Put our handlers back once Ray has started: its own for SIGTERM aborts the program after three seconds."""
    if find_spec("ray") is None:
        yield
        return
    for name, value in _RAY.items():
        os.environ.setdefault(name, value)
    import ray

    init = ray.init

    def start(*arguments: Any, **more: Any) -> Any:
        ours = {number: signal.getsignal(number) for number in STOPPING}
        try:
            return init(*arguments, **more)
        finally:
            for number, handler in ours.items():
                signal.signal(number, handler or signal.SIG_DFL)

    ray.init = start
    try:
        yield
    finally:
        ray.init = init


def _optuna() -> None:
    if find_spec("optuna") is not None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
