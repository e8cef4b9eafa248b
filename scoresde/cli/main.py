"""The command `scoresde`: finds the subcommand, lets Hydra compose its configuration, and turns errors into one line.

What takes time is imported when it is needed: `--help` and mistakes in the configuration are answered without torch.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import scoresde
from scoresde.cli.arguments import parted
from scoresde.cli.command import Command, command, named, overview
from scoresde.cli.plugins import quieted
from scoresde.cli.processes import taking_part
from scoresde.cli.stops import TaskFailed, Terminated, code_and_reason, terminate
from scoresde.cli.sweep import Sweep, opened, parted_sweep
from scoresde.errors import InputError, refuse
from scoresde.files import held, of_the_disk, remove_abandoned
from scoresde.named import config_folder
from scoresde.parallel import joined
from scoresde.runs.folder import quoted
from scoresde.training.stop import STOPPING, handling

# Hydra writes nothing of its own and stays in the working directory
_QUIET = (
    *("hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null"),
    *("hydra.job.chdir=false", "hydra.run.dir=.", "hydra.sweep.subdir=."),
)
_MULTIRUN = {"-m", "--multirun"}
_SEARCH = ("sweeper=", "hparams_search=")  # mean nothing for a single job


def main(argv: Sequence[str] | None = None) -> int:
    """Run `scoresde` with these arguments (those of the process by default) and return the exit code.

    0: done. 1: a bug, with its traceback; or `doctor` found something wrong. 2: an input that the user can fix, said
    in one line. 128 + its number: stopped by SIGINT, SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with handling(set(STOPPING) - {signal.SIGINT}, terminate), of_the_disk(), taking_part(arguments) as asked:
            code = _dispatch(arguments) if asked else 0
            sys.stdout.flush()
            joined().leave()
            return code
    except BrokenPipeError:  # such as `scoresde train --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the interpreter's last flush is quiet too
        return 128 + signal.SIGPIPE
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt as stop:
        code, reason = code_and_reason(stop)
        return _fail(reason, code)


def _fail(message: str, code: int = 2) -> int:
    if joined().speaks():
        print("error: " + " ".join(message.split()), file=sys.stderr)
    joined().leave(failed=True)
    return code


def _dispatch(arguments: list[str]) -> int:
    arguments = named(arguments)
    name = arguments[0] if arguments else "--help"
    if name in ("--help", "-h", "help"):
        print(overview(), end="")
    elif name == "--version":
        print(f"scoresde {scoresde.__version__}")
    elif name == "completion":
        from scoresde.cli.completion import completion

        print(completion(arguments[1:]), end="")
    elif {"--help", "-h"} & set(arguments):
        print(command(name).help(arguments[1:]), end="")
    else:
        return _run(command(name), arguments[1:])
    return 0


def _run(row: Command, arguments: list[str]) -> int:
    """Let Hydra compose the configuration and call the task of the command, once or once for each job of a sweep."""
    flags, settings = parted(row.name, arguments)
    given, typed = parted_sweep(settings)
    remove_abandoned(Path(tempfile.gettempdir()), "scoresde-*")
    searching = any(setting.startswith(_SEARCH) for setting in typed)
    if given is None and not searching and _MULTIRUN.isdisjoint(flags):
        return _called(row, [*flags, *_QUIET], typed)
    count = joined().size  # each of which would choose the jobs for itself
    key = "trainer.devices" if row.trains else "devices"
    refuse(count > 1, f"multirun: not in {count} processes; start one, with {key}={count}")
    flags += ["-m"] if _MULTIRUN.isdisjoint(flags) else []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(f".{os.getpid()}", "scoresde-")))
        stack.enter_context(held(scratch))
        sweep = stack.enter_context(opened(row, given, flags, typed, scratch))
        stack.enter_context(quieted(typed))
        where = f"hydra.sweep.dir={quoted(str(sweep.folder))}"
        return _swept(sweep, lambda: _called(row, [*flags, *_QUIET, where], typed))


def _swept(sweep: Sweep, call: Callable[[], int]) -> int:
    """Run the jobs of a sweep, and say which have failed and how to go on with those that were stopped."""
    try:
        with sweep.to_the_end():
            code = call()
    except KeyboardInterrupt as stop:
        first = next(iter(sweep.signals), signal.SIGINT)  # in Ray all are KeyboardInterrupt
        code, reason = code_and_reason(stop if first == signal.SIGINT else Terminated(first))
        _fail(reason)
    except Exception as error:  # a job failed in a way that ends a sweep: its sweeper or its process did
        failed = sweep.report(stopped=True)
        if isinstance(error, InputError) or not failed:
            raise
        sweep.say_how_to_go_on()
        return failed
    if not code:
        sweep.show()
    failed = sweep.report()
    if code:
        sweep.say_how_to_go_on()
    return code or failed


def _called(row: Command, arguments: list[str], typed: list[str]) -> int:
    """Call Hydra; what is typed comes last, and so wins."""
    try:
        _call_hydra(row, [*arguments, *typed])
    except SystemExit as stop:  # of --cfg, and of a training that was asked to stop
        return int(stop.code or 0)
    except TaskFailed as failed:
        raise failed.__cause__ or failed from None
    except Exception as error:
        from scoresde.cli.mistakes import explain

        if message := explain(error, row.name, config_folder(), typed):
            raise InputError(message) from error
        raise
    return 0


def _call_hydra(row: Command, arguments: list[str]) -> None:
    """Call Hydra as a program of this name would, and let it raise exceptions instead of leaving the process."""
    import hydra

    from scoresde.cli.jobs import run_job

    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR", "0")
    sys.argv = [f"scoresde {row.name}", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        decorate = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=row.name)
        decorate(lambda cfg: run_job(row, cfg))()
    finally:
        sys.argv = argv
        os.environ["HYDRA_FULL_ERROR"] = full_error
