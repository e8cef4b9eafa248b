"""Early ends of a training: it diverges, or a signal stops it."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from scoresde.errors import InputError


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
    """SIGINT or SIGTERM arrived; the step was completed and everything is saved.

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

    Outside the main thread, where Python allows no handlers, signals keep their meaning.
    """
    allowed = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in numbers if allowed}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former or signal.SIG_DFL)  # None: it was not set from Python


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yield a list in which SIGINT and SIGTERM are recorded within the block, where they interrupt nothing.

    Further signals change nothing: a Ctrl-C is often delivered twice (to the process and, through a launcher, to its
    group), and the second must not interrupt the saving that the first requested.
    """
    received: list[int] = []
    with handling((signal.SIGINT, signal.SIGTERM), lambda number, _: received.append(number)):
        yield received
