"""What every foreign layout makes: settings of our network, and the list of its parts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from scoresde.convert.facts import Facts, Given
from scoresde.convert.files import Source
from scoresde.convert.parts import Part, Tensors

Config = dict[str, Any]


@dataclass
class Plan:
    """How foreign weights become a model.

    Attributes:
        net, model, sde: configurations as plain values, `_target_` included; `model` is without `net`.
        event_shape: (channels, height, width).
        centered: whether its data are in [-1, 1], else in [0, 1].
        parts: of our network made from `net`.
        prepare: makes tensors that the parts name of those in the file.
        dropped: what of the file is not used, and why.
        notes: what the reader of the report should know.
    """

    net: Config
    model: Config
    sde: Config
    event_shape: tuple[int, int, int]
    centered: bool
    parts: Callable[[nn.Module], list[Part]]
    prepare: Callable[[Tensors], Tensors] = field(default=lambda tensors: tensors)
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Layout(Protocol):
    """What each module about a foreign layout offers."""

    NAME: str

    def matches(self, source: Source) -> bool:
        """Whether a file is of this layout."""

    def given_by(self, config: Mapping[str, Any]) -> dict[str, Given]:
        """What a configuration of the original says, by our names."""

    def plan(self, source: Source, facts: Facts) -> Plan:
        """How the weights become a model."""

    def averaged(self, source: Source) -> Tensors | None:
        """The moving averages by name, if there are any."""


def labelled(label: str, scale: float, shift: float = 0.0, centered: bool = True, precond: str = "eps") -> Config:
    """The configuration of a `LabelledModel`; data in [0, 1] are centred for the network."""
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
