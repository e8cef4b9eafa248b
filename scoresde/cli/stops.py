"""How work ends early: none of these but `JobFailed` passes through Hydra's own handling of exceptions."""

import os
import signal
from typing import NoReturn

from scoresde.parallel.shared import Lost
from scoresde.training.stop import STOPPING


class TaskFailed(BaseException):
    """The one task of a command failed; its cause is what `main` reports. Hydra catches only `Exception`."""


class JobFailed(Exception):
    """A job of a sweep has a result, and it is bad; the user can read why above."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2 arrived, as its argument says."""


def terminate(number: int, frame: object) -> NoReturn:
    """Let a signal unwind the stack as Ctrl-C does, so that half-written files are removed."""
    raise Terminated(number) if number != signal.SIGINT else KeyboardInterrupt


def code_and_reason(stop: BaseException) -> tuple[int, str]:
    """The exit code of a program that ends so, and why: 143 and `stopped by SIGTERM`."""
    if isinstance(stop, SystemExit):
        code = int(stop.code or 0)
        return code, f"stopped by {signal.Signals(code - 128).name}" if code > 128 else "ended"
    if isinstance(stop, Lost):
        return 2, str(stop)
    if isinstance(stop, Terminated):
        number = signal.Signals(stop.args[0])
        return 128 + number, f"stopped by {number.name}"
    return 128 + signal.SIGINT, "stopped by Ctrl-C"


def queue_again(stop: BaseException) -> None:
    """Pass the warning of Slurm on to submitit, once all is saved: it queues the job again and ends the process."""
    number = code_and_reason(stop)[0] - 128
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and number in STOPPING and callable(signal.getsignal(number)):
        signal.raise_signal(number)
