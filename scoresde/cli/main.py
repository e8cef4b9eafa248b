"""The command `scoresde`: finds the subcommand, lets Hydra compose its configuration, and turns errors into one line.

What takes time is imported when it is needed: `--help` and mistakes in the configuration are answered without torch.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import scoresde
from scoresde.build import did_you_mean
from scoresde.cli.arguments import check_flags, flags_first
from scoresde.cli.failures import VARIABLE, TaskFailed
from scoresde.errors import InputError
from scoresde.runs import timestamp

COMMANDS = {
    "train": "train a score network, draw samples from it and say how good they are",
    "sample": "draw samples from a trained run",
    "compare": "compare samplers on a trained run or on an exact problem",
    "tune": "find the time grid that suits a trained run and a number of steps",
    "ema": "average the weights of a trained run over another length of its training",
    "doctor": "say whether an SDE is sound and fits the data",
    "convert": "make a run of weights from other projects, or a diffusers folder of a run",
}

OVERVIEW = """\
scoresde: score-based generative modelling with stochastic differential equations

usage: scoresde COMMAND [key=value ...]

commands:
{commands}

examples:
  scoresde train                                       handwritten digits, a few minutes on a laptop
  scoresde train experiment=moons                      points in the plane, under a minute
  scoresde train data=folder data.path=photos data.size=32
  scoresde train -m sde=vp,ve,subvp seed=0,1           six trainings, one after the other
  scoresde sample run=runs/RUN n=100                   RUN is the folder that train has made
  scoresde sample run=runs/RUN solver=heun,ddim sampler.steps=10,20 -m
  scoresde compare run=runs/RUN                        which solver for how many evaluations
  scoresde tune run=runs/RUN sampler.steps=8           the best grid for few steps, for solver=tuned
  scoresde ema run=runs/RUN length=0.1                 another average, of a run with trainer.ema_power=[0.05,0.1]
  scoresde doctor sde=ve data=moons                    is anything wrong with this SDE on these data?
  scoresde convert file=checkpoint.pth config=config.json out=runs/RUN      weights that you have

  scoresde COMMAND --help    what can be set, with ten examples
  scoresde --version
"""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


def config_folder() -> Path:
    """Where the YAML files are: inside an installed package, else at the top of the repository."""
    package = Path(scoresde.__file__).resolve().parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def main(argv: Sequence[str] | None = None) -> int:
    """Run `scoresde` with these arguments (those of the process by default) and return the exit code.

    0: done. 1: a fault of the program, with its traceback; or `doctor` found something wrong. 2: something that the
    person at the keyboard can mend, said in one line. 130, 143: stopped by SIGINT or SIGTERM.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with _sigterm_as_exception():
            code = _dispatch(arguments)
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # such as `scoresde train --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the interpreter's last flush is quiet too
        return 128 + signal.SIGPIPE
    except InputError as error:
        return _fail(str(error))
    except Terminated:
        return _fail("stopped by SIGTERM", 128 + signal.SIGTERM)
    except KeyboardInterrupt:
        return _fail("stopped by Ctrl-C", 128 + signal.SIGINT)


def _fail(message: str, code: int = 2) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code


@contextmanager
def _sigterm_as_exception() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that half-written files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _dispatch(arguments: list[str]) -> int:
    command = arguments[0] if arguments else "--help"
    if command in ("--help", "-h", "help"):
        rows = [f"  {name:<8}{what}" for name, what in COMMANDS.items()]
        print(OVERVIEW.format(commands="\n".join(rows)), end="")
        return 0
    if command == "--version":
        print(f"scoresde {scoresde.__version__}")
        return 0
    if command not in COMMANDS:
        near = did_you_mean(command, COMMANDS, "scoresde ")
        raise InputError(f"{command}: no such command{near} (commands: {', '.join(COMMANDS)})")
    return _run(command, arguments[1:])


def _run(command: str, arguments: list[str]) -> int:
    """Let Hydra compose the configuration and call the task of the command, once or once for each job of a sweep."""
    check_flags(command, arguments)
    with tempfile.TemporaryDirectory(prefix="scoresde-") as scratch, _full_errors():
        failures, sweep = Path(scratch) / "failures", _sweep_folder(command, Path(scratch))
        supplied = [f"hydra.sweep.dir={_quoted(sweep)}", f"+hydra.job.env_set.{VARIABLE}={_quoted(failures)}"]
        try:
            _call_hydra(command, flags_first(arguments, supplied))
        except SystemExit as stop:  # of --help, and of a training that was told to stop
            return int(stop.code or 0)
        except TaskFailed as failed:
            raise failed.__cause__ or failed from None
        except Exception as error:
            from scoresde.cli.mistakes import explain

            message = explain(error, command, config_folder(), arguments)
            if message is None and not failures.is_file():
                raise
            if message is not None:
                raise InputError(message) from error
        finally:
            _remove_if_unused(sweep)
        return _report_jobs(failures) if failures.is_file() else 0


def _sweep_folder(command: str, scratch: Path) -> Path:
    """One for the whole sweep, chosen here since each job may run in a process of its own."""
    if command in (
        "sample",
        "tune",
        "ema",
        "doctor",
        "convert",
    ):  # the results lie in the run from which they come, or are printed
        return scratch / "sweep"
    return Path("runs") / f"sweep-{timestamp()}-{secrets.token_hex(3)}"


def _remove_if_unused(sweep: Path) -> None:
    """A sweep that never got to a run leaves nothing behind."""
    if sweep.is_dir() and [p.name for p in sweep.iterdir()] == ["multirun.yaml"]:
        shutil.rmtree(sweep)


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


@contextmanager
def _full_errors() -> Iterator[None]:
    """Let Hydra raise exceptions instead of printing them and leaving the process."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _call_hydra(command: str, arguments: list[str]) -> None:
    import hydra

    task: Callable[[Any], Any] = importlib.import_module(f"scoresde.cli.{command}").task
    before = sys.argv
    sys.argv = [f"scoresde {command}", *arguments]
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=command)(task)()
    finally:
        sys.argv = before


def _report_jobs(failures: Path) -> int:
    """One line for each failed job of a sweep; the others have finished."""
    rows = [json.loads(line) for line in failures.read_text(encoding="utf-8").splitlines()]
    for row in sorted(rows, key=lambda r: int(r["job"])):
        _fail(f"job {row['job']} ({row['overrides']}): {row['message']}")
    return 2 if all(row["input"] for row in rows) else 1
