"""Resuming a run: what its stored configuration fixes, and what may be changed on the command line."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from scoresde._secrets import REMOVED
from scoresde.build import MEASURED, within
from scoresde.errors import TARGET, InputError
from scoresde.runs.config import get, leaves, put

# not that of a folder, which may be a stranger's: loggers call servers and write files, all but one
LOGGER, _NOWHERE = "logger", "scoresde.loggers.NoLogger"
FIXED = ("sde", "model", "data", "seed", "init")  # what the weights mean, and what they have seen
_CACHE = "data.cache"  # where the same data are kept
_PRESETS = ("experiment", "debug", "hparams_search")  # groups that set keys all over the configuration


def merge(stored: Mapping[str, Any], typed: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The stored configuration of a run with the changes that a resumed run may have.

    Args:
        stored: the configuration of the run.
        typed: the configuration as it would be for a new training, for the values of what was typed.
        overrides: what was typed.

    Raises:
        InputError: another setting would change; names both values.
    """
    merged = copy.deepcopy(dict(stored))
    if get(stored, f"{LOGGER}.{TARGET}") != _NOWHERE:
        merged[LOGGER] = typed[LOGGER]
    for path in _touched(overrides):
        old, new = get(stored, path), get(typed, path)
        if not within(path, FIXED) or within(path, (_CACHE,)):
            _take(merged, typed, path)
            continue
        flat_old, flat_new = dict(leaves(old, path)), dict(leaves(new, path))
        for key in [*flat_new, *flat_old]:
            before, now = flat_old.get(key), flat_new.get(key)
            if before in (now, REMOVED) or _left_to_data(key, now):
                continue
            if not within(key, FIXED) or within(key, (_CACHE,)):
                put(merged, key, now)
                continue
            raise InputError(
                f"{key}: this run was trained with {before!r}, not {now!r}; leave the setting out to resume the run, "
                "or leave out run= to train a new one, with init= from the weights of this one"
            )
    return merged


def _take(merged: dict[str, Any], typed: Mapping[str, Any], path: str) -> None:
    """Set the value at a path to the typed one, or remove it where `~` has removed it."""
    parent, _, last = path.rpartition(".")
    if not parent or last in (get(typed, parent) or {}):
        put(merged, path, get(typed, path))
    else:
        (get(merged, parent) or {}).pop(last, None)


def _left_to_data(key: str, value: Any) -> bool:
    """Whether a typed value stands for a number that the run has from its data."""
    return value == MEASURED or ("condition_size" in key.split(".") and not value)


def _touched(overrides: Sequence[str]) -> Iterator[str]:
    """The dotted paths that the typed settings are about."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    for text, override in zip(overrides, parser.parse_overrides(list(overrides)), strict=True):
        if override.key_or_group in _PRESETS:
            yield from _set_by_preset(text)
        else:
            yield override.package or override.key_or_group


def _set_by_preset(text: str) -> Iterator[str]:
    plain = dict(leaves(OmegaConf.to_container(compose("train"))))
    preset = dict(leaves(OmegaConf.to_container(compose("train", [text]))))
    return (key for key in {**plain, **preset} if plain.get(key) != preset.get(key))
