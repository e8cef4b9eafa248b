"""The command `scoresde`: finds the subcommand, lets Hydra compose its configuration, and turns errors into one line.

What takes time is imported when it is needed: `--help` and mistakes in the configuration are answered without torch.
"""

import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import scoresde
from scoresde.cli.arguments import parted
from scoresde.cli.command import Command, command, named, overview
from scoresde.cli.failures import VARIABLE, TaskFailed
from scoresde.errors import InputError
from scoresde.files import held, of_the_disk, remove_abandoned
from scoresde.named import config_folder
from scoresde.runs.folder import quoted, timestamp
from scoresde.training.stop import STOPPING, handling

# Hydra writes nothing of its own and stays in the working directory
_QUIET = (
    *("hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null"),
    *("hydra.job.chdir=false", "hydra.run.dir=.", "hydra.sweep.subdir=."),
)


class Terminated(KeyboardInterrupt):
    """SIGTERM, SIGHUP or SIGUSR1 arrived, as its argument says."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `scoresde` with these arguments (those of the process by default) and return the exit code.

    0: done. 1: a bug, with its traceback; or `doctor` found something wrong. 2: an input that the user can fix, said
    in one line. 130, 143, 129, 138: stopped by SIGINT, SIGTERM, SIGHUP or SIGUSR1.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with handling(set(STOPPING) - {signal.SIGINT}, _terminate), of_the_disk():
            code = _dispatch(arguments)
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # such as `scoresde train --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the interpreter's last flush is quiet too
        return 128 + signal.SIGPIPE
    except InputError as error:
        return _fail(str(error))
    except Terminated as stop:
        number = signal.Signals(stop.args[0])
        return _fail(f"stopped by {number.name}", 128 + number)
    except KeyboardInterrupt:
        return _fail("stopped by Ctrl-C", 128 + signal.SIGINT)


def _fail(message: str, code: int = 2) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code


def _terminate(number: int, frame: object) -> None:
    """Let a signal unwind the stack as Ctrl-C does, so that half-written files are removed."""
    raise Terminated(number)


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
    flags, typed = parted(row.name, arguments)
    remove_abandoned(Path(tempfile.gettempdir()), "scoresde-*")
    with tempfile.TemporaryDirectory(f".{os.getpid()}", "scoresde-") as scratch, held(Path(scratch)):
        failures, sweep = Path(scratch) / "failures", _sweep_folder(row, Path(scratch))
        supplied = [f"hydra.sweep.dir={quoted(str(sweep))}", f"+hydra.job.env_set.{VARIABLE}={quoted(str(failures))}"]
        try:
            _call_hydra(row, [*flags, *_QUIET, *supplied, *typed])  # what is typed comes last, and so wins
        except SystemExit as stop:  # of --cfg, and of a training that was asked to stop
            return int(stop.code or 0)
        except TaskFailed as failed:
            raise failed.__cause__ or failed from None
        except Exception as error:
            from scoresde.cli.mistakes import explain

            if message := explain(error, row.name, config_folder(), typed):
                raise InputError(message) from error
            if not failures.is_file():
                raise
        finally:
            _remove_if_unused(sweep)
        return _report_jobs(failures) if failures.is_file() else 0


def _sweep_folder(row: Command, scratch: Path) -> Path:
    """One for the whole sweep, chosen here since each job may run in a process of its own."""
    if not row.makes_folders:  # its results lie in the run that it uses, or are printed
        return scratch / "sweep"
    return Path("runs") / f"sweep-{timestamp()}-{secrets.token_hex(3)}"


def _remove_if_unused(sweep: Path) -> None:
    """A sweep that never got to a run leaves nothing behind."""
    if [p.name for p in sweep.glob("*")] == ["multirun.yaml"]:
        shutil.rmtree(sweep)


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


def _report_jobs(failures: Path) -> int:
    """One line for each failed job of a sweep; the others have finished."""
    rows = [json.loads(line) for line in failures.read_text(encoding="utf-8").splitlines()]
    for row in sorted(rows, key=itemgetter("job")):
        _fail(f"job {row['job']} ({row['overrides']}): {row['message']}")
    return 2 if all(row["input"] for row in rows) else 1
