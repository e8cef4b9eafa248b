"""What every command does around its work: plain configuration in, failures of single jobs of a sweep out."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scoresde.build import TARGET, did_you_mean
from scoresde.cli.allocator import keep_freed_memory
from scoresde.cli.failures import VARIABLE, TaskFailed
from scoresde.errors import InputError
from scoresde.files import of_the_disk
from scoresde.runs.folder import new_folder

if TYPE_CHECKING:
    from scoresde.cli.command import Command


def sweeping() -> bool:
    """Whether this is one job of several."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def overrides() -> list[str]:
    """What was typed for this job, apart from its folder, and from where and in which order jobs run."""
    return [o for o in HydraConfig.get().overrides.task if not o.startswith(("run=", "launcher=", "sweeper="))]


def typed_keys() -> list[str]:
    """The keys of `overrides`."""
    return [override.lstrip("+~").split("=")[0] for override in overrides()]


def varied() -> list[str]:
    """Of what was typed, that in which this job differs from others of its sweep; all, where that is not known."""
    note = Path(HydraConfig.get().sweep.dir) / "multirun.yaml"  # which Hydra's sweepers write
    if not note.is_file():
        return overrides()
    common = OmegaConf.load(note).hydra.overrides.task
    return [o for o in overrides() if o not in common and not o.startswith("~")]


def run_job(command: Command, cfg: DictConfig) -> float | None:
    """Call the work of a command with its settings and the configuration as plain values.

    In a sweep a failure is recorded and the other jobs run: Hydra's own sweeper is not informed, others (Optuna) get
    the exception, as a failed trial.
    """
    keep_freed_memory()
    try:
        with of_the_disk():
            values = plain(cfg, command.keys)
            return command.work(command.settings.of(values), values)
    except Exception as error:
        if not sweeping():
            raise TaskFailed from error
        fixable = isinstance(error, InputError)
        if not fixable:
            traceback.print_exc()
        note_failure(str(error) if fixable else f"{type(error).__name__}: {error}", fixable)
        if "BasicSweeper" not in HydraConfig.get().sweeper["_target_"]:
            raise
    return None


def plain(cfg: DictConfig, keys: Sequence[str]) -> dict[str, Any]:
    """The configuration as plain values, complete and resolved.

    Raises:
        InputError: a required value is missing, a key is unknown or was deleted, or a reference leads nowhere.
    """
    try:
        for key in sorted(OmegaConf.missing_keys(cfg)):
            raise InputError(f"{key}: not given; {_wanted(key)}")
        values: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{error.full_key or 'configuration'}: {reason}") from None
    for key in sorted(values.keys() - set(keys)):
        raise InputError(f"{key}: no such key{did_you_mean(key, keys)} (keys: {', '.join(keys)})")
    for key in sorted(set(keys) - values.keys()):
        raise InputError(f"{key}: it is empty or was deleted, and this command needs it")
    return values


def _wanted(key: str) -> str:
    """What to write for a required value."""
    if key.endswith(TARGET):
        return f"name your class: {key}=mypackage.MyClass allow=[mypackage]"
    return "give a folder made by scoresde train, such as run=runs/NAME" if key == "run" else f"write {key}=..."


def chosen(group: str, cfg: Mapping[str, Any]) -> str:
    """The option of a group; the class of its configuration where that is the user's own, or no option is."""
    option = HydraConfig.get().runtime.choices.get(group)
    return str(cfg[TARGET]).rpartition(".")[2] if option in (None, "custom") and TARGET in cfg else str(option)


def note_failure(message: str, fixable: bool) -> None:
    """Record how this job of a sweep failed, and whether the user can fix it."""
    row = {"job": HydraConfig.get().job.num, "overrides": " ".join(varied()), "input": fixable, "message": message}
    with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as file:  # one write: jobs may run at the same time
        file.write(json.dumps(row) + "\n")


def result_folder(key: str, given: str | None, parent: Path, name: str) -> Path:
    """The folder `given` by the user, or a new one.

    Args:
        key: the setting that names it.
        given: its value.
        parent: of a new folder.
        name: with which that of a new folder begins.

    Raises:
        InputError: it cannot be made.
    """
    try:
        if given is None:
            return new_folder(parent, name)
        Path(given).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{key}: no folder can be made here ({error}); give another place with {key}=") from None
    return Path(given)


def out_folder(out: str | None, parent: Path, name: str) -> Path:
    """The folder `out`, in which each job of a sweep makes one of its own; None for a new one in `parent`."""
    if out is not None and sweeping():
        return result_folder("out", None, Path(out), name)
    return result_folder("out", out, parent, name)


def usual_place(name: str, label: str | None = None) -> tuple[Path, str]:
    """Parent and name of a new folder: in runs/ the given name; in the folder of a sweep the label and what varies."""
    if not sweeping():
        return Path("runs"), name
    hydra, own = HydraConfig.get(), varied()
    labels = [label] if label and f"name={label}" not in own else []
    return Path(hydra.sweep.dir), "-".join([str(hydra.job.num), *labels, *own])


def logged_as(folder: Path) -> tuple[str, str | None]:
    """Name and group for a logger: of a job what varies, and the sweep; otherwise the folder's name, and none."""
    if not sweeping():
        return folder.name, None
    return " ".join(varied()) or folder.name, Path(HydraConfig.get().sweep.dir).name
