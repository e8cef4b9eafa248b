"""`devices` and `trainer.devices`: the processes of one machine that a job itself starts, by the launcher of torch."""

import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from inspect import signature
from typing import Any, cast

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from scoresde.cli.allocator import keep_freed_memory
from scoresde.cli.command import command
from scoresde.cli.processes import taking_part
from scoresde.cli.stops import code_and_reason, terminate
from scoresde.cli.sweep_job import Job, take_part
from scoresde.errors import InputError, refuse
from scoresde.files import of_the_disk
from scoresde.parallel import sharing, world
from scoresde.training.stop import STOPPING, handling

_NOBODY = 4.0  # seconds in which the launcher takes an answer
_SHUTDOWN = 20  # seconds in which processes must save and end, when one is lost or a signal arrives


def require_devices(count: int, device: str, key: str) -> None:
    """Refuse more processes than a machine has devices.

    Args:
        count: of processes.
        device: of the configuration, such as `auto`.
        key: that says how many.

    Raises:
        InputError: names it.
    """
    import torch

    cards = torch.cuda.device_count() if device != "cpu" else 0
    there, kind = (cards, "CUDA devices") if cards else (len(os.sched_getaffinity(0)), "processor cores")
    most = 2 ** (there.bit_length() - 1)
    refuse(count > there, f"{key}: {count} is more than the {there} {kind} here; give at most {most}")


def in_processes(name: str, count: int, cfg: Mapping[str, Any], job: Job | None = None, hint: str = "") -> float | None:
    """Do the work of a command in several processes of this machine; returns what it does.

    Args:
        name: of the command.
        count: of processes.
        cfg: the configuration.
        job: of a sweep, if it is one.
        hint: how to go on after a loss.

    Raises:
        InputError: the first one of them, or that one was lost.
        KeyboardInterrupt: a signal has stopped all.
        SystemExit: likewise; what had to be said was said.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for own in logging.root.manager.loggerDict:
        if own.startswith(("torch.distributed", "torch.multiprocessing")):
            logging.getLogger(own).setLevel(logging.CRITICAL)  # what they say is said here in one line
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")  # of what a kill leaves
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))
    with tempfile.TemporaryDirectory(f".{os.getpid()}", "scoresde-") as scratch, handling(STOPPING, _ignored):
        newer: dict[str, Any] = {"signals_to_handle": "SIGTERM,SIGINT,SIGHUP,SIGUSR1", "shutdown_timeout": _SHUTDOWN}
        launch = LaunchConfig(
            1, 1, count, DefaultLogsSpecs(scratch), run_id=secrets.token_hex(4), rdzv_backend="c10d",
            rdzv_endpoint="localhost:0", max_restarts=0,
            **{name: value for name, value in newer.items() if name in signature(LaunchConfig).parameters},
        )  # fmt: skip
        hydra, about = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
        try:
            answers = elastic_launch(launch, _work)(hydra, about, name, dict(cfg), job)
        except SignalException as stop:  # which all processes have had; a training has said what is saved
            if not command(name).trains:
                terminate(stop.sigval, None)
            raise SystemExit(128 + stop.sigval) from None
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            how = signal.Signals(-failure.exitcode).name if failure.exitcode < 0 else f"exit code {failure.exitcode}"
            said = f"parallel: process {rank} of {count} ended by {how}"
            raise InputError("; ".join(filter(None, [said, hint]))) from None
        finally:
            if job:
                job.reread()
    kinds = dict(answers.values())
    if "error" in kinds:
        raise InputError(kinds["error"])
    if "stopped" in kinds:
        raise SystemExit(kinds["stopped"])
    if "ended" in kinds:  # all that one signal has ended, and what lost these
        code, why = max(answer for kind, answer in answers.values() if kind == "ended")
        print(f"error: {why}", file=sys.stderr)
        raise SystemExit(code)
    value: float | None = answers[0][1]
    return value


def _ignored(number: int, frame: object) -> None:
    """The handler until that of the launcher is there."""


def _work(hydra: Any, about: DictConfig, name: str, cfg: dict[str, Any], job: Job | None) -> tuple[str, Any]:
    """What each process does: the work of the command, in the place of the job that has started it."""
    GlobalHydra.instance().hydra = hydra  # which a resume asks what was typed
    HydraConfig.instance().cfg = about  # type: ignore[assignment]  # its own methods set a DictConfig too
    keep_freed_memory()
    take_part(job)
    row = command(name)
    answer, failed = cast(tuple[str, Any], ("", None)), False
    with taking_part([name]), handling(set(STOPPING) - {signal.SIGINT}, terminate):
        try:
            with of_the_disk(), sharing():
                answer = ("value", row.work(row.settings.of(cfg), cfg))
        except InputError as error:
            answer = ("error", str(error)) if world().speaks() else ("", None)
        except SystemExit as stop:
            answer = ("stopped", stop.code)
        except KeyboardInterrupt as stop:
            world().speaks()  # by the job, which hears of it
            answer, failed = ("ended", code_and_reason(stop)), True
    world().leave(failed or answer[0] not in ("value", "stopped"))
    if answer[0] in ("stopped", "ended"):  # nobody takes the answer if the launcher was stopped too
        last = threading.Timer(_NOBODY, os._exit, [1])
        last.daemon = True
        last.start()
    return answer
