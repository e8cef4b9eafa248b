"""What every foreign layout makes: what is known of a network and from where, and settings of ours."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from scoresde.convert.config import Config, lookup, multipliers
from scoresde.convert.files import Source
from scoresde.convert.parts import Part, Tensors
from scoresde.errors import InputError, refuse


class Given(NamedTuple):
    """A value that was given by the user or by a configuration.

    Attributes:
        value: plain.
        name: the key under which it was given, for messages.
        firm: whether it was given on purpose; otherwise the weights silently win.
    """

    value: Any
    name: str
    firm: bool = True


@dataclass
class Facts:
    """Values by name; what the weights say wins, and what was given on purpose must not contradict it.

    Attributes:
        given: by the name that this project has for it, such as `channels`.
        inferred: values that follow from the weights.
        used: given values that were asked for.
        assumed: defaults that were asked for.
    """

    given: Mapping[str, Given]
    inferred: dict[str, Any] = field(default_factory=dict)
    used: dict[str, Any] = field(default_factory=dict)
    assumed: dict[str, Any] = field(default_factory=dict)

    def infer(self, key: str, value: Any, source: str) -> Any:
        """Record a value that follows from the weights.

        Raises:
            InputError: another one was given on purpose.
        """
        given = self.given.get(key)
        if given is not None and given.firm and _plain(given.value) != _plain(value):
            raise InputError(f"{given.name}: {given.value!r} was given, but by the weights it is {value!r} ({source})")
        self.inferred[key] = _plain(value)
        return value

    def need(self, key: str, remedy: str) -> Any:
        """The value from the weights or the user.

        Raises:
            InputError: there is none.
        """
        known = key in {*self.given, *self.inferred}
        refuse(not known, f"{key}: cannot be inferred from the weights; {remedy}")
        return self.get(key, None)

    def get(self, key: str, default: Any) -> Any:
        """The value from the weights or the user, or else the default."""
        if key in self.inferred:
            return self.inferred[key]
        if key in self.given:
            self.used[key] = _plain(self.given[key].value)
            return self.given[key].value
        self.assumed[key] = _plain(default)
        return default

    def network(
        self, source: str, channels: int, widths: Sequence[int], blocks: int, attention: Sequence[int], classes: int
    ) -> Config:
        """What every layout says of a network, as arguments of ours.

        Args:
            source: what the others were read from, for messages.
            channels: of the first convolution.
            widths: of the levels.
            blocks: of a level in the down path.
            attention: the levels that attend.
            classes: how many; 0 if it is not conditioned on one.
        """
        found: Config = {"channels": channels, "multipliers": multipliers(widths, channels), "blocks": blocks}
        found["attention"] = attention
        net = {key: self.infer(key, value, source) for key, value in found.items()}
        if classes:
            net |= {"condition_size": self.infer("condition_size", classes, source), "condition": "class"}
        return {**net, "noise_scale": 1.0}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


class Named(Protocol):
    """What knows the parts of a network."""

    def parts(self, net: Any) -> Iterator[Part]:
        """All parts of a network, in the order of computation."""


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
        dropped: the tensors of the file that are not used, and why.
        made: tensors that no file stores; see `unstored`.
        prepare: makes the tensors that the parts name from the used ones of the file.
        notes: what the reader of the report should know.
    """

    net: Config
    model: Config
    sde: Config
    event_shape: tuple[int, int, int]
    names: Named
    centered: bool = True
    dropped: dict[str, str] = field(default_factory=dict)
    made: Tensors = field(default_factory=dict)
    prepare: Callable[[Tensors], Tensors] = dict
    notes: list[str] = field(default_factory=list)

    def prepared(self, tensors: Tensors) -> Tensors:
        """The tensors that the parts name."""
        used = {name: tensor for name, tensor in tensors.items() if name not in self.dropped}
        return self.made | self.prepare(used)


class Layout(ABC):
    """A foreign layout.

    Attributes:
        name: in reports.
        mark: how the name of a tensor begins that a file of this layout has, as a regular expression.
        keys: what its configuration calls our values, as dotted keys.
        unset: what stands in that configuration for values that are not set.
    """

    name: str
    mark: str
    keys: Mapping[str, str] = MappingProxyType({})
    unset: Sequence[Any] = (None,)

    def matches(self, source: Source) -> bool:
        """Whether a file is of this layout."""
        return any(re.match(self.mark, name) for name in source.raw)

    def given(self, config: Mapping[str, Any]) -> dict[str, Given]:
        """What a configuration of the original says, by our names."""
        return {
            ours: Given(value.lower() if isinstance(value, str) else value, f"config {key}")
            for key, ours in self.keys.items()
            if (value := lookup(config, key)) not in self.unset
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


def unstored(net: Config, frequencies: Tensor) -> Tensors:
    """What no file stores, by its foreign name: the frequencies of positional features, and the class of no class."""
    made = {"frequencies": frequencies} if net.get("noise", "positional") == "positional" else {}
    return made | ({"null": torch.zeros(4 * net["channels"])} if "condition" in net else {})
