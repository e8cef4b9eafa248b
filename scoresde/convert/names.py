"""What a foreign layout calls the modules of a U-Net, as tables, and the parts that follow from them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, cast

from torch import nn

from scoresde.convert.parts import SAME, Form, Part
from scoresde.nets.blocks import ResidualBlock
from scoresde.nets.embedding import Modulation
from scoresde.nets.layers import ImageAttention
from scoresde.nets.skip_unet import Level, SkipUNet

FREQUENCIES, CLASSES, NULL = "modulation.embed.frequencies", "condition.embed.weight", "condition.null"
Direction = Literal["down", "middle", "up"]
Role = Literal["block", "resample", "side"]


class Spot(NamedTuple):
    """A module of a U-Net.

    Attributes:
        path: its name in the network.
        module: the module.
        direction: the half of the network, or its middle.
        level: counted from 0, the finest.
        role: a block, the step to the next level, or the module of an image beside the features.
        number: of a block within its level.
        rows: the rows of the modulation's matrix that belong to it; None if there are none.
    """

    path: str
    module: nn.Module
    direction: Direction
    level: int
    role: Role
    number: int = 0
    rows: slice | None = None

    @property
    def attends(self) -> bool:
        return isinstance(self.module, ResidualBlock) and self.module.attention is not None


def spots(net: SkipUNet) -> list[Spot]:
    """All blocks, steps between levels and sides, in the order of computation."""
    done, row = [], 0
    for spot in _modules(net):
        size = sum(getattr(spot.module, "sizes", ()))
        done.append(spot._replace(rows=slice(row, row + size)) if size else spot)
        row += size
    return done


def _modules(net: SkipUNet) -> Iterator[Spot]:
    last = len(net.down) - 1
    for k, level in enumerate(net.down):
        yield from _level(cast(Level, level), f"down.{k}", "down", k)
    for i, block in enumerate(net.middle):
        yield Spot(f"middle.{i}", block, "middle", last, "block", i)
    for k, level in enumerate(net.up):
        yield from _level(cast(Level, level), f"up.{k}", "up", last - k)


def _level(level: Level, path: str, direction: Direction, k: int) -> Iterator[Spot]:
    for i, block in enumerate(level.blocks):
        yield Spot(f"{path}.blocks.{i}", block, direction, k, "block", i)
    roles: tuple[Role, ...] = ("resample", "side") if direction == "down" else ("side", "resample")
    for role in roles:
        if (module := getattr(level, role)) is not None:
            yield Spot(f"{path}.{role}", module, direction, k, role)


class Names(ABC):
    """The names that a layout has for our modules.

    Attributes:
        top: of what stands outside the levels: the keys are `FREQUENCIES`, `CLASSES`, `NULL`, modulation.hidden.0 and
            .1, stem, head.norm and head.conv.
        block: within a residual block, of norm1, conv1, norm2, conv2, skip and modulation.
        attention: within an attention, of norm and out.
        qkv: the layers of q, k and v: one or three.
        features: layout of the columns of modulation.hidden.0.
        affine: layout of the biases of the modulation.
        sign: layout of the last convolution; `NEGATED` where the output stands for -eps.
    """

    top: Mapping[str, str]
    block: Mapping[str, str]
    attention: Mapping[str, str]
    qkv: Sequence[str] = ("qkv",)
    features: Form = SAME
    affine: Form = SAME
    sign: Form = SAME

    @abstractmethod
    def place(self, spot: Spot) -> tuple[str, str]:
        """The names of a block and of its attention; of the norm and the convolution of a side; or of a convolution."""

    def name(self, ours: str) -> str:
        """The name of what stands outside the levels; asked for in the order of computation."""
        return self.top[ours]

    def layer(
        self, ours: str, theirs: str, weight: Form = SAME, bias: Form = SAME, rows: slice | None = None
    ) -> Iterator[Part]:
        """The weight and the bias of a layer."""
        yield Part(f"{ours}.weight", f"{theirs}.weight", weight, rows)
        yield Part(f"{ours}.bias", f"{theirs}.bias", bias, rows)

    def of_qkv(self, module: ImageAttention) -> Form:
        """Layout of the rows of the layer of q, k and v."""
        return SAME

    def parts(self, net: SkipUNet) -> Iterator[Part]:
        """All parts of a network, in the order of computation."""
        if isinstance(net.modulation, Modulation):
            yield Part(FREQUENCIES, self.name(FREQUENCIES))
            for ours, form in (("modulation.hidden.0", self.features), ("modulation.hidden.1", SAME)):
                yield from self.layer(ours, self.name(ours), form)
        if "class" in net.condition.members:
            yield from (Part(ours, self.name(ours)) for ours in (CLASSES, NULL))
        yield from self.layer("stem", self.name("stem"))
        for spot in spots(net):
            yield from self._spot(spot, *self.place(spot))
        if net.head is not None:
            yield from self._head("head", self.name("head.norm"), self.name("head.conv"))

    def _spot(self, spot: Spot, first: str, second: str) -> Iterator[Part]:
        module, path = spot.module, spot.path
        if isinstance(module, ResidualBlock):
            yield from self._block(spot, module, first)
            if isinstance(module.attention, ImageAttention):
                yield from self._attention(module.attention, f"{path}.attention", second)
        elif spot.role == "side" and spot.direction == "up":
            yield from self._head(f"{path}.head", first, second)
        elif hasattr(module, "halve"):
            yield from self.layer(f"{path}.halve.conv", first)
        elif module.conv is not None:
            yield from self.layer(f"{path}.conv", first)

    def _block(self, spot: Spot, module: ResidualBlock, theirs: str) -> Iterator[Part]:
        for ours in ("norm1", "conv1", "norm2", "conv2", *(["skip"] if module.skip is not None else [])):
            yield from self.layer(f"{spot.path}.{ours}", f"{theirs}.{self.block[ours]}")
        if spot.rows is not None:
            name = f"{theirs}.{self.block['modulation']}"
            yield from self.layer("modulation.out", name, bias=self.affine, rows=spot.rows)

    def _attention(self, module: ImageAttention, ours: str, theirs: str) -> Iterator[Part]:
        for part in ("norm", "out"):
            yield from self.layer(f"{ours}.{part}", f"{theirs}.{self.attention[part]}")
        rows, form = 3 * module.out.in_features // len(self.qkv), self.of_qkv(module)
        for i, part in enumerate(self.qkv):
            yield from self.layer(f"{ours}.qkv", f"{theirs}.{part}", form, form, slice(i * rows, (i + 1) * rows))

    def _head(self, ours: str, norm: str, conv: str) -> Iterator[Part]:
        yield from self.layer(f"{ours}.norm", norm)
        yield from self.layer(f"{ours}.conv", conv, self.sign, self.sign)
