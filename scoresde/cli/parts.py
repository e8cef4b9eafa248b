"""Batches that are kept until all are drawn: how a call that was stopped is continued."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scoresde.cli.jobs import overrides
from scoresde.cli.sweep_job import sweeping
from scoresde.kept import PARTS
from scoresde.parallel.shared import sharers
from scoresde.runs import setting


@contextmanager
def continuable(out: Path, run: Path) -> Iterator[Path]:
    """Yield the folder of parts in `out`; it is removed at the end, and kept with a hint if Ctrl-C or a kill comes."""
    place = out / PARTS
    sharers().hint = continuation("sample", out, run)
    try:
        yield place
    except KeyboardInterrupt:
        if any(place.glob("*.npz")):
            continue_with("sample", out, run)
            raise
        shutil.rmtree(place, ignore_errors=True)
        raise
    except Exception:
        if not any(place.glob("*.npz")):
            shutil.rmtree(place, ignore_errors=True)
        raise
    shutil.rmtree(place, ignore_errors=True)


def continue_with(command: str, out: Path, run: Path | None) -> None:
    """Say how a command that was stopped goes on in its folder, with the run that was given, if any; not in a sweep."""
    if hint := continuation(command, out, run):
        print(hint, file=sys.stderr)


def continuation(command: str, out: Path, run: Path | None) -> str:
    """What `continue_with` says."""
    if sweeping():
        return ""
    typed = [shlex.quote(o) for o in overrides() if not o.startswith("out=")]
    given, rest = [] if run is None else [setting(run)], setting(out).replace("run=", "out=", 1)
    return " ".join([f"continue with: scoresde {command}", *given, *typed, rest])
