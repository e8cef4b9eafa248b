"""What every command does around its work: plain configuration in, a folder for its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scoresde.build import TARGET, did_you_mean
from scoresde.cli.allocator import keep_freed_memory
from scoresde.cli.stops import TaskFailed
from scoresde.cli.sweep_job import current, run_in_sweep, sweeping, varied, worker_kept
from scoresde.errors import InputError, refuse
from scoresde.files import of_the_disk
from scoresde.parallel import sharing, world
from scoresde.parallel.shared import sharers, with_all
from scoresde.plain import key_of
from scoresde.runs.folder import new_folder
from scoresde.training import checkpoint as checkpoints

if TYPE_CHECKING:
    from scoresde.cli.command import Command


def overrides() -> list[str]:
    """What was typed for this job, apart from its folder, and from where and in which order jobs run."""
    return [o for o in HydraConfig.get().overrides.task if not o.startswith(("run=", "launcher=", "sweeper="))]


def typed_keys() -> list[str]:
    """The keys of `overrides`."""
    return [*map(key_of, overrides())]


def run_job(command: Command, cfg: DictConfig) -> float | None:
    """Call the work of a command with its settings and the configuration as plain values."""
    keep_freed_memory()

    def work() -> float | None:
        with of_the_disk():
            values = plain(cfg, command.keys)
            settings = command.settings.of(values)
            if (count := getattr(settings, "devices", 1)) > 1 and world().size == 1:
                from scoresde.cli.launch import in_processes, require_devices

                require_devices(count, values["device"], "devices")
                return in_processes(command.name, count, values, current())
            with sharing():
                return command.work(settings, values)

    if sweeping():
        with worker_kept():
            return run_in_sweep(command.name, _identity(command, cfg), work)
    try:
        return work()
    except Exception as error:
        raise TaskFailed from error


def _identity(command: Command, cfg: DictConfig) -> dict[str, Any]:
    """What decides the result of a job: its configuration, as far as it can be resolved, and the state of its run."""
    try:
        values = plain(cfg, command.keys)
    except InputError:  # which its work will raise again
        values = cast(dict[str, Any], OmegaConf.to_container(cfg))
    run = values.get("run")
    if command.name != "train" and isinstance(run, str) and (steps := checkpoints.saved_steps(Path(run))):
        values["run"] = [run, steps[-1]]  # it may have been trained further
    return values


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
        raise InputError(f"{error.full_key or 'configuration'}: {reason}; give a value") from None
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
            job = current()
            return job.place(parent, name) if job else new_folder(parent, name)
        Path(given).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{key}: no folder can be made here ({error}); give another place with {key}=") from None
    return Path(given)


def out_folder(out: str | None, parent: Path, name: str) -> Path:
    """The folder `out`, in which each job of a sweep makes one of its own; None for a new one in `parent`.

    The first one of several processes makes it.
    """
    made = _made(out, parent, name) if sharers().first else None
    with with_all() as group:
        return Path(group.share(str(made)))


def _made(out: str | None, parent: Path, name: str) -> Path:
    taken = out is not None and bool(checkpoints.saved_steps(Path(out)))
    refuse(taken, f"out: {out} is the folder of a run, whose files would be replaced; give another folder")
    if out is not None and sweeping():
        return result_folder("out", None, Path(out), name)
    return result_folder("out", out, parent, name)


def usual_place(name: str, label: str | None = None) -> tuple[Path, str]:
    """Parent and name of a new folder: in runs/ the given name; in the folder of a sweep the label and what varies."""
    if not sweeping():
        return Path("runs"), name
    hydra, own = HydraConfig.get(), varied()
    labels = [label] if label and f"name={label}" not in own else []
    return Path(hydra.sweep.dir), "-".join([str(hydra.job.num + 1), *labels, *own])


def logged_as(folder: Path) -> tuple[str, str | None]:
    """Name and group for a logger: of a job what varies, and the sweep; otherwise the folder's name, and none."""
    if not sweeping():
        return folder.name, None
    return " ".join(varied()) or folder.name, Path(HydraConfig.get().sweep.dir).name
