"""What a foreign layout calls the modules of a U-Net, as tables, and the parts that follow from them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, cast

from torch import nn

from scoresde.convert.forms import Form, same
from scoresde.convert.parts import Part
from scoresde.nets.blocks import ResidualBlock
from scoresde.nets.edm2 import MPBlock
from scoresde.nets.ncsnpp import InputSkip, OutputSkip, ResidualInput
from scoresde.nets.skip_unet import SkipUNet

FREQUENCIES, CLASSES, NULL = "modulation.embed.frequencies", "condition.embed.weight", "condition.null"
FIRST = (FREQUENCIES, "modulation.hidden.0", "modulation.hidden.1", CLASSES, NULL, "stem")
ALL = slice(None)
Direction = Literal["down", "middle", "up"]
Kind = Literal["block", "step", "resample", "residual", "skip", "output"]
_KINDS: dict[type[nn.Module], Kind] = {ResidualBlock: "step", MPBlock: "step", ResidualInput: "residual"}
_KINDS |= {InputSkip: "skip", OutputSkip: "output"}


class Spot(NamedTuple):
    """A module of a U-Net.

    Attributes:
        path: its name in the network.
        module: the module.
        direction: the half of the network, or its middle.
        level: counted from 0, the finest.
        kind: a `block`; between two levels a `step`, which is a residual block, or a `resample`, which is none; of an
            image beside the features `residual` or `skip`, by which it enters, or `output`.
        number: of a block within its level.
        rows: the rows of the modulation's matrix that belong to it; None if there are none.
    """

    path: str
    module: nn.Module
    direction: Direction
    level: int
    kind: Kind
    number: int = 0
    rows: slice | None = None

    @property
    def attends(self) -> bool:
        return getattr(self.module, "attention", None) is not None


def spots(net: SkipUNet) -> list[Spot]:
    """All blocks, steps between levels and sides, in the order of computation, in which they are registered."""
    done, row = [], 0
    for path, module in net.named_modules():
        if (spot := _spot(path, module, len(net.down) - 1)) is not None:
            size = sum(getattr(module, "sizes", ()))
            done.append(spot._replace(rows=slice(row, row + size)) if size else spot)
            row += size
    return done


def _spot(path: str, module: nn.Module, last: int) -> Spot | None:
    """What a module is, by its name in a network with levels from 0 to `last`; None for parts and lists of them."""
    match path.split("."):
        case ["middle", number]:
            return Spot(path, module, "middle", last, "block", int(number))
        case ["down" | "up" as half, k, *inside]:
            direction, level = cast(Direction, half), int(k) if half == "down" else last - int(k)
            match inside:
                case ["blocks", number]:
                    return Spot(path, module, direction, level, "block", int(number))
                case ["resample" | "side"]:
                    return Spot(path, module, direction, level, _KINDS.get(type(module), "resample"))
    return None


class Names:
    """The names that a layout has for our modules.

    Attributes:
        first: our names of what stands outside the levels, in front of them.
        last: likewise, behind them.
        top: the names of both.
        places: of a module, by its direction and kind, such as `up block`: the name of a block and of its attention, of
            the norm and the convolution of an output, or of a convolution. Filled in from `numbers` and `spot`.
        inside: within a block, of norm1, conv1, norm2, conv2, skip and modulation, and within its attention, of
            attention.norm, .out and .qkv; one layer, or several with commas between them that make one of ours.
        spot: the module whose parts are being named.
        forms: layouts of weights and biases, or of layers as a whole, by their names within our modules.
    """

    first: Sequence[str] = FIRST
    last: Sequence[str] = ("head.norm", "head.conv")
    top: Mapping[str, str]
    places: Mapping[str, str]
    inside: Mapping[str, str]
    forms: Mapping[str, Form]
    spot: Spot

    def numbers(self, spot: Spot) -> Mapping[str, int | str]:
        """What `places` needs besides the attributes of a `Spot`."""
        return {}

    def place(self, spot: Spot) -> tuple[str, str]:
        """The two names of `places`; the second is empty where there is one."""
        pattern = self.places[f"{spot.direction} {spot.kind}"]
        first, _, second = pattern.format(spot=spot, **self.numbers(spot)).partition(" ")
        return first, second

    def name(self, ours: str) -> str:
        """The name of what stands outside the levels; asked for in the order of computation."""
        return self.top[ours]

    def layer(self, inner: str, theirs: str, path: str = "", rows: slice = ALL) -> Iterator[Part]:
        """The weight and the bias of a layer, which has the name `inner` within the module at `path`."""
        for tensor in ("weight", "bias"):
            form = self.forms.get(f"{inner}.{tensor}", self.forms.get(inner, same))
            yield Part(f"{path}{inner}.{tensor}", f"{theirs}.{tensor}", form, rows)

    def parts(self, net: SkipUNet) -> Iterator[Part]:
        """All parts of a network, in the order of computation."""
        state = net.state_dict()
        for ours in self.first:
            yield from self._outside(ours, state)
        for self.spot in spots(net):
            yield from self._within(self.spot)
        for ours in self.last:
            yield from self._outside(ours, state)

    def _outside(self, ours: str, state: Mapping[str, object]) -> Iterator[Part]:
        if f"{ours}.weight" in state:
            yield from self.layer(ours, self.name(ours))
        elif ours in state:
            yield Part(ours, self.name(ours), self.forms.get(ours, same))

    def _within(self, spot: Spot) -> Iterator[Part]:
        names, path = self._inner(*self.place(spot)), f"{spot.path}."
        for inner, module in spot.module.named_modules():
            for i, theirs in enumerate(layers := names.get(inner, ())):
                size = len(module.get_parameter("weight")) // len(layers)
                yield from self.layer(inner, theirs, path, slice(i * size, (i + 1) * size))
        if spot.rows is not None:
            yield from self.layer("modulation.out", names["modulation"][0], rows=spot.rows)

    def _inner(self, first: str, second: str) -> dict[str, list[str]]:
        """The foreign layers that make each of ours within a module, from what `place` gives."""
        names = {"conv": [first], "halve.conv": [first], "head.norm": [first], "head.conv": [second]}
        for ours, theirs in self.inside.items():
            home = second if ours.startswith("attention.") else first
            names[ours] = [f"{home}.{layer}" for layer in theirs.split(",")]
        return names
