"""Early ends of a training: it diverges, or a signal stops it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

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


class StopSignals:
    """The first of SIGINT and SIGTERM that arrived within `stop_signals`: its number in `received`, or None."""

    received: int | None = None

    def note(self, number: int, frame: Any) -> None:
        """The handler of the signals."""
        self.received = self.received or number


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """A context in which SIGINT and SIGTERM are recorded and interrupt nothing.

    Further signals change nothing: a Ctrl-C is often delivered twice (to the process and, through a launcher, to its
    group), and the second must not interrupt the saving that the first requested. Outside the main thread, where
    Python allows no handlers, signals keep their meaning.
    """

    signals, numbers = StopSignals(), (signal.SIGINT, signal.SIGTERM)
    with ExitStack() as stack:
        for number in numbers if threading.current_thread() is threading.main_thread() else ():
            before = signal.signal(number, signals.note)
            # None: it was not set from Python
            stack.callback(signal.signal, number, signal.SIG_DFL if before is None else before)
        yield signals
