"""The stored configuration of a run: plain values, without secrets, in today's names."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoresde._secrets import without_secrets
from scoresde.build import MEASURED, build
from scoresde.errors import InputError, refuse
from scoresde.files import read_yaml, write_text
from scoresde.plain import each, join, to_yaml
from scoresde.progress import note
from scoresde.runs.folder import CONFIG, check_inside
from scoresde.runs.upgrade import upgraded

if TYPE_CHECKING:
    from scoresde.data import Dataset

CONVERTED = "convert.json"
CLASSIFIES = "classifies"  # a key of the folder of a classifier of noisy data: the run for whose data it is
CACHE = "cache"  # folders that the user gives, on this machine
_SEAL = ("# SHA-256 of the lines below", "delete this line if you edit them")  # older versions wrote none
_MEASURED = ("sigma_max", "sigma_data", "classes")  # attributes of a data set of the same names


def write_config(run: Path, cfg: Mapping[str, Any]) -> None:
    """Write the resolved configuration, without secrets, under a line with its SHA-256."""
    write_text(run / CONFIG, _sealed(to_yaml(without_secrets(cfg))))


def _sealed(text: str) -> str:
    """A text under a line with its SHA-256; above it, since a file that is cut keeps its beginning."""
    return f"{'; '.join(_SEAL)}: {hashlib.sha256(text.encode()).hexdigest()}\n{text}"


@cache
def _say_changed(path: Path, text: str) -> None:
    """Say once that a file is not as it was written: people edit it, and disks damage it."""
    changed = "was changed since it was written; if you have edited it, delete its first line"
    note(f"warning: {path}: {changed}, else take it from a copy")


def read_config(run: Path) -> dict[str, Any]:
    """The configuration of a run as plain values, without what would have a stranger's folder write elsewhere.

    A file that was changed under the line with its SHA-256 is read, with a warning.

    Raises:
        InputError: the folder or the file is missing or damaged, holds references, or is refused by `check_inside`.
    """
    path = run / CONFIG
    check_inside(run)
    if not path.is_file():
        what = f"{run} is not the folder of a run, it has no {CONFIG}"
        missing = what if run.is_dir() else f"there is no folder {run} (seen from {Path.cwd()})"
        raise InputError(f"run: {missing}{_runs_near(run)}")
    cfg, text = read_yaml(path, str(path)), path.read_text(encoding="utf-8")
    sealed = any(part in text for part in _SEAL)  # also if one of them is damaged
    if sealed and text != _sealed(text.partition("\n")[2]):
        _say_changed(path, text)
    refuse(not isinstance(cfg, dict), f"{path}: holds {type(cfg).__name__}, not a mapping of keys to values")
    wanted = "a reference, which no stored configuration may hold; give the value"
    for key, value in leaves(cfg):
        refuse("${" in str(value), f"{path}: {key}: {value!r} is {wanted}")  # not written by this program
    kept: dict[str, Any] = _without_caches(upgraded(cfg))
    return kept


def _without_caches(cfg: Any, key: str = "") -> Any:
    return None if key == CACHE and isinstance(cfg, str) else each(cfg, _without_caches)


def stored_data(cfg: Mapping[str, Any], run: Path, allow: Sequence[str] = ()) -> Any:
    """The source of the data of a run, to be loaded.

    Raises:
        InputError: it would be fetched from elsewhere, which the user has not allowed.
    """
    from scoresde.data.dataset import DataSource  # imports torch

    source = build(section(cfg, "data", run), "data", allow, DataSource, run=run)
    where = f"data.path: {getattr(source, 'path', '')} is not on this machine"
    wanted = "a stored configuration fetches nothing unless it is allowed; add allow=[datasets]"
    refuse(getattr(source, "online", False) and "datasets" not in allow, f"{where}, and {wanted}")
    return source


def _runs_near(run: Path) -> str:
    """Runs to name in an error message: those in the folder, else the newest ones in `runs`."""
    for parent in (run, Path("runs")):
        found = list(parent.glob(f"*/{CONFIG}")) if parent.is_dir() else []
        if found:
            newest = sorted(found, key=lambda p: p.stat().st_mtime)[-3:]
            return f"; there are {', '.join(str(p.parent) for p in reversed(newest))}"
    return "; scoresde train makes one"


def section(cfg: Mapping[str, Any], key: str, run: Path) -> Any:
    """A part of a stored configuration that must be there."""
    why = "the file is not as scoresde train wrote it"
    if (run / CONVERTED).is_file():
        why = "this run was converted, not trained here; scoresde convert data=... gives it data to compare with"
    refuse(key not in cfg, f"{run / CONFIG}: {key} is missing; {why}")
    return cfg[key]


def refuse_classifier(cfg: Mapping[str, Any], run: Path) -> None:
    """Refuse the folder of a classifier of noisy data where that of a score model is wanted."""
    wanted = "give the run for whose data it is, with classifier= for this folder"
    refuse(CLASSIFIES in cfg, f"run: {run} holds a classifier of noisy data, not a score model; {wanted}")


def of_run(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """What tells runs apart whose samples are put side by side."""
    return {key: cfg.get(key) for key in ("model", "sde", "data")}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything in a configuration that holds nothing more."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, join(path, key))
    else:
        yield path, value


def get(cfg: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None if there is none."""
    value: Any = cfg
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def put(cfg: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path."""
    *parents, last = path.split(".")
    for key in parents:
        cfg = cfg.setdefault(key, {})
    cfg[last] = value


def measured(cfg: Any, dataset: "Dataset", key: str = "") -> Any:
    """A copy of a configuration with numbers in place of `measured`, so that it can be used without the data."""
    if key in _MEASURED and cfg == MEASURED:
        return getattr(dataset, key)
    return each(cfg, lambda value, name: measured(value, dataset, name))
