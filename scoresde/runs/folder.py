"""The folder of a run or of a result: its name and its lock."""

import os
import re
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from scoresde._version import __version__
from scoresde.errors import refuse
from scoresde.files import is_held, reserved
from scoresde.parallel import world

CONFIG, SUMMARY, HISTORY = "config.yaml", "summary.json", "history.json"
RESULTS = "results.json"
_FOR_HYDRA = re.compile(r",|^['\"]|^null$")  # what the command line does not take for a path as it stands


def free_folder(parent: Path, name: str) -> Path:
    """A path `parent/<name>-<random>`, at which there is nothing yet."""
    # no character with a meaning to a shell or to Hydra
    short = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)[:80].strip("_")
    path = parent / f"{short}-{secrets.token_hex(3)}"
    return free_folder(parent, name) if path.exists() else path


def new_folder(parent: Path, name: str) -> Path:
    """Make `free_folder(parent, name)`, a folder that no other program has."""
    while True:
        path = free_folder(parent, name)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path


def holds_run(run: Path, key: str = "run") -> bool:
    """Whether the folder that a setting names holds a run, and so is resumed; False if it is not there or empty.

    Raises:
        InputError: it is a file, or has other files in it.
    """
    refuse(run.exists() and not run.is_dir(), f"{key}: {run} is a file; give a folder")
    if not run.is_dir() or all(p.name.startswith((".lock", f".{CONFIG}.")) for p in run.iterdir()):
        return False  # at most what a program leaves that is killed while it writes the configuration
    wanted = "is not empty and not the folder of a run; give a new folder, or that of a run"
    refuse(not (run / CONFIG).is_file(), f"{key}: {run} {wanted}")
    return True


def check_inside(run: Path) -> None:
    """Refuse a run folder, perhaps from somebody else, from which a link leads out, or that holds pipes or devices.

    Links among the logs of W&B, wandb/*/logs/*, may lead anywhere, as they do in a run that was moved: nothing follows
    them.

    Raises:
        InputError: names the first of them.
    """
    root = os.path.realpath(run)
    for folder, names, files in os.walk(root):
        for path in (Path(folder, name) for name in (*names, *files)):
            target = Path(os.path.realpath(path))
            where = f"run: {path} is a link to {target}; links out of a run folder are not followed"
            parts = path.relative_to(root).parts
            out = path.is_symlink() and not target.is_relative_to(root)
            out = out and (len(parts) != 4 or (parts[0], parts[2]) != ("wandb", "logs"))
            refuse(out, f"{where}, so put the files themselves there")
            special = path.exists() and not (path.is_file() or path.is_dir())
            refuse(special, f"run: {path} is neither a file nor a folder; remove it")


def setting(run: Path) -> str:
    """How a run folder is typed on the command line."""
    text = str(run)
    return shlex.quote(f"run={quoted(text) if _FOR_HYDRA.search(text) else text}")


def quoted(text: str) -> str:
    """A text in quotes, as Hydra's grammar reads it: only backslashes in front of a quote are doubled."""
    inner = re.sub(r"(\\*)'", r"\1\1\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", inner) + "'"


def timestamp() -> str:
    """Local time as a part of a folder's name."""
    return datetime.now().strftime("%Y%m%d-%H%M%S")


def versions() -> dict[str, str]:
    """What a result was made with."""
    import platform
    from importlib.metadata import version

    installed = {name: version(name) for name in ("torch", "numpy")}
    return {"scoresde": __version__, **installed, "python": platform.python_version(), "system": platform.platform()}


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the lock of a run folder; a second program that wants to write there fails.

    Raises:
        InputError: another program holds it, or it is refused by `check_inside`.
    """
    if not world().first:  # it works with the one that holds the lock
        yield
        return
    check_inside(run)
    with reserved(run / ".lock", "run", str(run)):
        _clear(run)
        yield


def in_use(run: Path) -> bool:
    """Whether a program holds the lock of a run folder."""
    return is_held(run / ".lock")


def _clear(run: Path) -> None:
    """Remove what a killed program has left: temporary files, and folders with nothing in them."""
    for path in run.glob(".*"):
        if path.suffix[1:].isdigit() and path.is_file():
            path.unlink(missing_ok=True)
    for top in [*run.glob("wandb"), *run.glob("torchinductor*")]:
        for folder, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):  # it is not empty
                Path(folder).rmdir()
