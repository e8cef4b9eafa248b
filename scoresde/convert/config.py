"""Configurations: those of the originals are looked up in, those of ours are made."""

from collections.abc import Mapping, Sequence
from typing import Any

from scoresde.errors import refuse

Config = dict[str, Any]
Allowed = dict[str, tuple[Any, ...]]


def lookup(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """The value at a dotted key of nested mappings."""
    section, _, rest = key.partition(".")
    value = config.get(section, {} if rest else default)
    return lookup(value or {}, rest, default) if rest else value


def check_allowed(config: Mapping[str, Any], allowed: Allowed, where: str) -> None:
    """Raise InputError unless each key has one of its values; the first is the default.

    Args:
        config: of the original.
        allowed: values by dotted key.
        where: put before the key in messages.
    """
    for key, values in allowed.items():
        value = lookup(config, key, values[0])
        known = value in values or str(value).lower() in values
        refuse(not known, f"{where} {key}: {value!r} cannot be converted; only {' or '.join(map(repr, values))} can")


def multipliers(widths: Sequence[int], channels: int) -> list[int]:
    """The widths of the levels in units of `channels`.

    Raises:
        InputError: one of them is no multiple.
    """
    refuse(any(w % channels for w in widths), f"file: widths {list(widths)} are no multiples of {channels}")
    return [w // channels for w in widths]


def labelled(label: str, scale: float, shift: float = 0.0, centered: bool = True, precond: str = "eps") -> Config:
    """The configuration of a `LabelledModel`; data in [0, 1] are centered for the network."""
    units = {"sigma_data": 0.5, "gain": 1.0, "centre": 0.0}
    if not centered:
        units = {"sigma_data": 0.25, "gain": 2.0, "centre": 0.5}
    labels = {"label": label, "label_scale": scale, "label_shift": shift}
    return {"_target_": "scoresde.LabelledModel", "precond": precond, **units, **labels}


def discrete_vp(schedule: str, levels: int, first: float, last: float) -> Config:
    """The configuration of a `DiscreteVPSDE`."""
    rates = {"schedule": schedule, "levels": levels, "first": first, "last": last}
    return {"_target_": "scoresde.DiscreteVPSDE", **rates}


def edm(sigma_data: float = 0.5, low: float = 0.002, high: float = 80.0) -> tuple[Config, Config]:
    """The configurations of the SDE and of the model of EDM's preconditioning."""
    model = {"_target_": "scoresde.ScoreModel", "precond": "edm", "sigma_data": sigma_data}
    return {"_target_": "scoresde.EDMSDE", "sigma_min": low, "sigma_max": high}, model


def flow(scale: float, shift: float = 0.0, t_min: float = 1e-3) -> tuple[Config, Config]:
    """The configurations of straight lines and of a network that predicts eps - x0, of the label scale t + shift."""
    return {"_target_": "scoresde.RectifiedSDE", "t_min": t_min}, labelled("time", scale, shift, precond="velocity")
