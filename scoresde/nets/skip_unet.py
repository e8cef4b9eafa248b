"""The topology that NCSN++, DDPM++, ADM and EDM2 share, and the blocks of the first three."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from scoresde.described import Described
from scoresde.nets.blocks import BOX, Down, FilteredConv, ResampledConv, ResidualBlock, StridedConv, Up
from scoresde.nets.condition import Cond, Conditions
from scoresde.nets.layers import ImageAttention, check_divides, heads_of, quick


class Place(NamedTuple):
    """Where a block stands: in the down or the up path, whether it changes the resolution, whether it attends."""

    direction: Literal["down", "up"]
    resample: Literal["keep", "down", "up"] = "keep"
    attends: bool = False


class Level(nn.Module):
    """What a network does at one resolution, and the step to the next one.

    Attributes:
        blocks: one after the other.
        resample: the step to the next level; None at the last one.
        side: what it does to the image that runs beside the features, if one does.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.resample: nn.Module | None = None
        self.side: nn.Module | None = None


Side = Callable[[int], tuple[nn.Module, int] | None]  # of a level: a module and the channels that it leaves


def _no_side(level: int) -> None:
    return None


class SkipUNet(Described, nn.Module):
    """A U-Net in which every result of the down path is concatenated to one of the up path: `net(x, c, cond)`.

        stem; for each level: blocks, step down;  block with attention, block;  for each level: blocks, step up; head

    A level has `blocks` blocks in the down path and one more in the up path, for the stem and each step down also pass
    their result across. Modules are registered in the order in which they are computed, coarsest level first in `up`;
    row k of the modulation's matrix belongs to the block that is k-th in that order.

    Subclasses say what the parts are: they set `stem`, call `assemble`, and set `head` and `modulation`.

    Attributes:
        condition: of the argument `cond`.
        modulation: what the noise level and the condition say to the blocks; None if these do not listen.
        stem: the first layer.
        down: a `Level` for each resolution, finest first.
        middle: blocks at the coarsest resolution.
        up: a `Level` for each resolution, coarsest first.
        head: the last layers; None if the sides make the output.
        factor: heights and widths must be multiples of it.
    """

    modulation: nn.Module | None
    stem: nn.Module
    head: nn.Module | None

    def __init__(self, event_shape: Sequence[int], levels: int, condition: Conditions) -> None:
        super().__init__()
        self.factor = 2 ** (levels - 1)
        check_divides(event_shape[1:], self.factor)
        self.condition = condition
        self.register_module("modulation", None)  # their place in the order, before they can be made
        self.register_module("stem", None)

    @abstractmethod
    def block(self, inputs: int, outputs: int, place: Place) -> nn.Module:
        """A block called `block(h, pieces of the modulation, tokens)`, with `sizes` of its pieces."""

    def attentions(self, place: Place, make: Callable[[int], nn.Module]) -> tuple[nn.Module | None, nn.Module | None]:
        """Self-attention and attention to tokens at a place; `make` takes the width of the tokens, 0 for the first."""
        if not place.attends:
            return None, None
        return make(0), make(self.condition.context) if self.condition.context else None

    def concatenate(self, h: Tensor, skip: Tensor) -> Tensor:
        return torch.cat((h, skip), 1)

    def assemble(
        self,
        widths: Sequence[int],
        blocks: int,
        attended: set[int],
        last_only: bool,
        enter: Side = _no_side,
        leave: Side = _no_side,
        stem: int | None = None,
    ) -> None:
        """Make `down`, `middle` and `up`.

        Args:
            widths: channels of each level.
            blocks: blocks of a level in the down path.
            attended: levels whose blocks attend.
            last_only: in the up path only the last block of such a level attends.
            enter: makes `side` of a level in the down path.
            leave: makes `side` of a level in the up path.
            stem: channels that the stem leaves; those of the first level if not given.
        """
        h = widths[0] if stem is None else stem
        passed = [h]
        self.down = nn.ModuleList()
        for k, width in enumerate(widths):
            made = [self.block(width if i else h, width, Place("down", "keep", k in attended)) for i in range(blocks)]
            level, h = Level(made), width
            passed += [width] * blocks
            if k < len(widths) - 1:
                level.resample = self.block(width, width, Place("down", "down"))
                if side := enter(k):
                    level.side, h = side
                passed.append(h)
            self.down.append(level)
        self.middle = nn.ModuleList((self.block(h, h, Place("up", "keep", True)), self.block(h, h, Place("up"))))
        self.up = nn.ModuleList()
        for k, width in reversed(list(enumerate(widths))):
            made = []
            for i in range(blocks + 1):
                attends = k in attended and (i == blocks or not last_only)
                made.append(self.block(h + passed.pop(), width, Place("up", "keep", attends)))
                h = width
            level = Level(made)
            if side := leave(k):
                level.side = side[0]
            level.resample = self.block(h, h, Place("up", "up")) if k > 0 else None
            self.up.append(level)

    def pieces(self) -> list[int]:
        """Sizes of the pieces of the modulation, in the order of computation."""
        blocks = (m for m in self.modules() if m is not self)
        return [size for block in blocks for size in getattr(block, "sizes", ())]

    def forward(self, x: Tensor, c: Tensor, cond: Cond = None) -> Tensor:
        """The output (B, channels, height, width) for x of that shape, noise levels c (B,) and a condition.

        Raises:
            InputError: a size that cannot be halved as often as there are levels, a condition that does not fit.
        """
        check_divides(x.shape[2:], self.factor, "x")
        x, vector, tokens = self.condition(cond, x)
        pieces: Iterator[Tensor] = iter(() if self.modulation is None else self.modulation(c, vector))
        x = quick(x)
        h, image = self.stem(x), x
        passed = [h]
        for level in cast(Iterable[Level], self.down):
            for block in level.blocks:
                h = block(h, pieces, tokens)
                passed.append(h)
            if level.resample is not None:
                h = level.resample(h, pieces, tokens)
                if level.side is not None:
                    image, h = level.side(image, h)
                passed.append(h)
        for block in self.middle:
            h = block(h, pieces, tokens)
        drawn: Tensor | None = None
        for level in cast(Iterable[Level], self.up):
            for block in level.blocks:
                h = block(self.concatenate(h, passed.pop()), pieces, tokens)
            if level.side is not None:
                drawn, h = level.side(drawn, h)
            if level.resample is not None:
                h = level.resample(h, pieces, tokens)
        out = cast(Tensor, drawn) if self.head is None else cast(Tensor, self.head(h))
        return out.contiguous()


class ResidualUNet(SkipUNet):
    """A `SkipUNet` of residual blocks; a subclass sets these attributes before `assemble`.

    Attributes:
        options: arguments of every `ResidualBlock`.
        head_width: channels of each attention head; 0 for one head.
        taps: of the filter where the resolution changes.
        between: makes the step between two levels; None changes the resolution inside of residual blocks.
        project: blocks that change the resolution have a projection though they keep the width.
    """

    options: dict[str, Any]
    head_width: int = 0
    taps: tuple[float, ...] = BOX
    between: Callable[[int, int, nn.Module], nn.Module] | None = None
    project = False

    def block(self, inputs: int, outputs: int, place: Place) -> nn.Module:
        changes = {"keep": None, "down": Down(self.taps), "up": Up(self.taps)}[place.resample]
        if changes is not None and self.between is not None:
            return self.between(inputs, outputs, changes)
        norm, rescale = self.options["norm"], self.options.get("rescale", False)
        attend = partial(ImageAttention, outputs, norm=norm, rescale=rescale)
        attention, cross = self.attentions(
            place, lambda context: attend(heads_of(outputs, self.head_width), context=context)
        )
        project = self.project and changes is not None
        parts: dict[str, Any] = {"resample": changes, "project": project, "attention": attention, "cross": cross}
        return ResidualBlock(inputs, outputs, **self.options, **parts)


def step_between(
    inputs: int, outputs: int, changes: nn.Module, conv: bool = True, pad: Literal["both", "end"] = "both"
) -> nn.Module:
    """A step between two levels without a residual block: a convolution of stride 2 or of doubled pixels, if `conv`."""
    if isinstance(changes, Up) or not conv:
        return ResampledConv(inputs, outputs, changes, conv)
    if isinstance(changes, Down) and changes.padding:  # a filter wider than two
        return FilteredConv(inputs, outputs)
    return StridedConv(inputs, outputs, pad=pad)
