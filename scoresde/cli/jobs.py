"""What every command does around its work: plain configuration in, failures of single jobs of a sweep out."""

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scoresde.build import did_you_mean
from scoresde.cli.failures import VARIABLE, TaskFailed
from scoresde.errors import InputError


def sweeping() -> bool:
    """Whether this is one job of several."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def overrides() -> list[str]:
    """What was typed for this job, apart from its folder."""
    return [o for o in HydraConfig.get().overrides.task if not o.startswith("run=")]


def varied() -> list[str]:
    """Of what was typed, that in which this job differs from others of its sweep; all, where that is not known."""
    note = Path(HydraConfig.get().sweep.dir) / "multirun.yaml"  # which Hydra's sweepers write
    if not note.is_file():
        return overrides()
    common = OmegaConf.load(note).hydra.overrides.task
    return [o for o in overrides() if o not in common and not o.startswith("~")]


def run_job(work: Callable[[dict[str, Any]], float | None], cfg: DictConfig, keys: tuple[str, ...]) -> float | None:
    """Call `work` with the configuration as plain values.

    In a sweep a failure is written down and the other jobs run: Hydra's own sweeper needs to know nothing of it, others
    (Optuna) get the exception, as a failed trial.

    Args:
        work: the task; may return the figure that a sweeper should minimise.
        cfg: what Hydra composed.
        keys: the keys that this command has at the top.
    """
    try:
        return work(plain(cfg, keys))
    except Exception as error:
        if not sweeping():
            raise TaskFailed from error
        if not isinstance(error, InputError):
            traceback.print_exc()
        mendable = isinstance(error, InputError)
        note_failure(str(error) if mendable else f"{type(error).__name__}: {error}", mendable)
        if "BasicSweeper" not in HydraConfig.get().sweeper["_target_"]:
            raise
    return None


def plain(cfg: DictConfig, keys: tuple[str, ...]) -> dict[str, Any]:
    """The configuration as plain values, complete and resolved.

    Raises:
        InputError: a value that must be given is not, a key is unknown or was deleted, a reference leads nowhere.
    """
    try:
        for key in sorted(OmegaConf.missing_keys(cfg)):
            raise InputError(f"{key}: not given{_EXAMPLES.get(key, f'; write {key}=...')}")
        values: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{error.full_key or 'configuration'}: {reason}") from None
    for key in values:
        if key not in keys:
            raise InputError(f"{key}: no such key{did_you_mean(key, keys)} (keys: {', '.join(keys)})")
    for key in keys:
        if key not in values:
            raise InputError(f"{key}: it was deleted, and this command needs it")
    return values


_EXAMPLES = {
    "run": "; give the folder that scoresde train has made, such as run=runs/NAME",
    "model.net._target_": "; name your network: model.net._target_=mypackage.MyNet allow=[mypackage]",
}


def note_failure(message: str, mendable: bool) -> None:
    """Write down how this job of a sweep failed, and whether the person at the keyboard can mend it."""
    row = {"job": HydraConfig.get().job.num, "overrides": " ".join(varied()), "input": mendable, "message": message}
    with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as file:  # one write: jobs may run at the same time
        file.write(json.dumps(row) + "\n")
