"""What every foreign layout makes: settings of our network, and the names of its parts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from scoresde.convert.facts import Facts, Given
from scoresde.convert.files import Source
from scoresde.convert.names import Names
from scoresde.convert.parts import Tensors
from scoresde.errors import InputError

Config = dict[str, Any]
Allowed = dict[str, tuple[Any, ...]]


@dataclass
class Plan:
    """How foreign weights become a model.

    Attributes:
        net: configuration of the network as plain values, with `_target_`.
        model: configuration of the model, without `net`.
        sde: configuration of the SDE.
        event_shape: (channels, height, width).
        names: of the parts of the network.
        centered: whether its data are in [-1, 1]; otherwise in [0, 1].
        prepare: makes the tensors that the parts name from those in the file.
        dropped: what in the file is not used, and why.
        notes: what the reader of the report should know.
    """

    net: Config
    model: Config
    sde: Config
    event_shape: tuple[int, int, int]
    names: Names
    centered: bool = True
    prepare: Callable[[Tensors], Tensors] = dict
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Layout(ABC):
    """A foreign layout.

    Attributes:
        name: in reports.
        keys: what its configuration calls our values, as dotted keys.
    """

    name: str
    keys: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def matches(self, source: Source) -> bool:
        """Whether a file is of this layout."""

    def given(self, config: Mapping[str, Any]) -> dict[str, Given]:
        """What a configuration of the original says, by our names."""
        return {
            ours: Given(value.lower() if isinstance(value, str) else value, f"config {key}")
            for key, ours in self.keys.items()
            if (value := lookup(config, key)) is not None
        }

    @abstractmethod
    def plan(self, source: Source, facts: Facts) -> Plan:
        """How the weights become a model.

        Raises:
            InputError: a value is unknown, contradicts another, or is not supported.
        """

    def averages(self, source: Source) -> Tensors | None:
        """The moving averages by name, if there are any."""
        return source.averages if isinstance(source.averages, dict) else None


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
        if value not in values and str(value).lower() not in values:
            raise InputError(f"{where} {key}: {value!r} cannot be converted; only {' or '.join(map(repr, values))} can")


def labelled(label: str, scale: float, shift: float = 0.0, centered: bool = True, precond: str = "eps") -> Config:
    """The configuration of a `LabelledModel`; data in [0, 1] are centered for the network."""
    return {
        "_target_": "scoresde.convert.LabelledModel",
        "precond": precond,
        "sigma_data": 0.5 if centered else 0.25,
        "label": label,
        "label_scale": scale,
        "label_shift": shift,
        "gain": 1.0 if centered else 2.0,
        "centre": 0.0 if centered else 0.5,
    }


def discrete_vp(schedule: str, levels: int, first: float, last: float) -> Config:
    """The configuration of a `DiscreteVPSDE`."""
    rates = {"schedule": schedule, "levels": levels, "first": first, "last": last}
    return {"_target_": "scoresde.convert.DiscreteVPSDE", **rates}
