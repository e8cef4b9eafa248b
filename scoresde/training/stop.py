"""Early ends of a training: it diverges, or a signal stops it."""

import math
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from scoresde.errors import InputError


def _known(*names: str) -> tuple[int, ...]:
    """The signals of these names; some systems lack a few."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


# Ctrl-C, an end, a closed terminal, and the warnings of queues (sbatch --signal=USR1@60, and submitit's SIGUSR2)
STOPPING = _known("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
_HANG_UP = _known("SIGHUP")
_ONE_PRESS = 0.1  # seconds


class TrainingDiverged(InputError):
    """A loss, a gradient or a weight is NaN or infinite; no weights after that were saved.

    Attributes:
        step: the first such step, counted from 1.
        checkpoint: the newest good checkpoint, or None.
    """

    def __init__(self, what: str, step: int, checkpoint: Path | None) -> None:
        kept = "no checkpoint was saved yet" if checkpoint is None else f"the last good checkpoint is {checkpoint}"
        super().__init__(
            f"training diverged at step {step}: {what}; {kept}; try a smaller optimizer.lr, "
            "a longer trainer.warmup or a trainer.clip such as 1.0"
        )
        self.step, self.checkpoint = step, checkpoint


class Interrupted(Exception):
    """A signal of `STOPPING` arrived; the step was completed and everything is saved.

    Attributes:
        signal: the number of the signal; a command should exit with 128 + signal.
        step: steps done.
        path: the checkpoint to resume from; None without a run folder.
    """

    def __init__(self, number: int, step: int, path: Path | None) -> None:
        saved = "nothing was saved, without a run folder" if path is None else f"saved {path}"
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; {saved}")
        self.signal, self.step, self.path = number, step, path


@contextmanager
def handling(numbers: Iterable[int], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Call a function for signals within the block.

    Outside the main thread, where Python allows no handlers, signals keep their meaning, and so does SIGHUP where it is
    ignored: the program was started by nohup.
    """
    allowed = threading.current_thread() is threading.main_thread()
    taken = [n for n in numbers if allowed and not (n in _HANG_UP and signal.getsignal(n) is signal.SIG_IGN)]

    def call(number: int, frame: FrameType | None) -> None:
        if number in _HANG_UP:
            _leave_closed_terminal()
        handler(number, frame)

    before = {number: signal.signal(number, call) for number in taken}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former or signal.SIG_DFL)  # None: it was not set from Python


def _leave_closed_terminal() -> None:
    """Send the output nowhere if its terminal is gone, where each line would be an error and keep us from saving."""
    for stream in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yield a list in which signals of `STOPPING` are recorded within the block, where they interrupt nothing.

    Only a second SIGINT raises KeyboardInterrupt at once. One Ctrl-C is often delivered twice (to the process and,
    through a launcher, to its group), so what follows the first within a tenth of a second is no second one.
    """
    received: list[int] = []
    first = math.inf

    def note(number: int, _: object) -> None:
        nonlocal first
        if number == signal.SIGINT and time.monotonic() > first + _ONE_PRESS:
            raise KeyboardInterrupt
        first = min(first, time.monotonic())
        received.append(number)

    with handling(STOPPING, note):
        yield received
