"""The topology that NCSN++, DDPM++, ADM and EDM2 share."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from scoresde.described import Described
from scoresde.nets.arguments import check_divides, check_event, heads_of, levels
from scoresde.nets.blocks import BOX, Down, Taps, Up
from scoresde.nets.condition import Cond, Conditions
from scoresde.nets.layers import quick, through


class Level(nn.Module):
    """What a network does at one resolution, and the step to the next one.

    Attributes:
        blocks: one after the other.
        resample: the step to the next level; None at the last one.
        side: what it does to the image that runs beside the features, if one does.
    """

    def __init__(self, blocks: Iterable[nn.Module] = ()) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.resample: nn.Module | None = None
        self.side: nn.Module | None = None


class Side(nn.Module):
    """What a step down does to the image that runs beside the features: `image, h = side(image, h)`.

    Attributes:
        image: channels of the image that leaves.
        outputs: channels of the features that leave.
    """

    image: int
    outputs: int


@dataclass(frozen=True)
class Parts:
    """What makes the parts of a `SkipUNet`.

    Attributes:
        encoder: makes a block of the down path, `encoder(inputs, outputs, resample=, attention=, cross=)`, which is
            called `block(h, pieces of the modulation, tokens)` and says the `sizes` of its pieces.
        decoder: makes a block of the middle or the up path.
        attention: makes what a block attends with, `attention(width, heads, context=)`.
        head_width: channels of each attention head; 0 for one head.
        context: width of the tokens that blocks attend to; 0 for none.
        taps: of the filter where the resolution changes.
        heads: of each attention, whatever its width; 0 for heads of `head_width`.
        between: makes the step between two levels, `between(width, resample)`; None for a block that changes the
            resolution.
        enter: makes `side` of a level in the down path, from the channels of the image and of the features.
        leave: makes `side` of a level in the up path, from the channels of the features.
    """

    encoder: Callable[..., nn.Module]
    decoder: Callable[..., nn.Module]
    attention: Callable[..., nn.Module]
    head_width: int
    context: int
    taps: Taps = BOX
    heads: int = 0
    between: Callable[[int, nn.Module], nn.Module] | None = None
    enter: Callable[[int, int], Side] | None = None
    leave: Callable[[int], nn.Module] | None = None

    def block(self, make: Callable[..., nn.Module], inputs: int, outputs: int, attends: bool = False) -> nn.Module:
        """A block that keeps the resolution, made by `encoder` or `decoder`."""
        if not attends:
            return make(inputs, outputs)
        heads = heads_of(outputs, self.head_width, self.heads)
        attention = self.attention(outputs, heads)
        cross = self.attention(outputs, heads, context=self.context) if self.context else None
        return make(inputs, outputs, attention=attention, cross=cross)

    def step(self, make: Callable[..., nn.Module], width: int, resample: nn.Module) -> nn.Module:
        """What changes the resolution between two levels."""
        return make(width, width, resample=resample) if self.between is None else self.between(width, resample)


class SkipUNet(Described, nn.Module):
    """A U-Net in which every result of the down path is concatenated to one of the up path: `net(x, c, cond)`.

        stem; for each level: blocks, step down;  block with attention, block;  for each level: blocks, step up; head

    A level has `blocks` blocks in the down path and one more in the up path, for the stem and each step down also pass
    their result across. Modules are registered in the order in which they are computed, coarsest level first in `up`;
    row k of the modulation's matrix belongs to the block that is k-th in that order.

    Subclasses say what the parts are: they set `condition`, `stem`, call `assemble`, and set `head` and `modulation`.

    Attributes:
        condition: of the argument `cond`.
        modulation: what the noise level and the condition say to the blocks; None if these do not listen.
        stem: the first layer.
        down: a `Level` for each resolution, finest first.
        middle: blocks at the coarsest resolution.
        up: a `Level` for each resolution, coarsest first.
        head: the last layers; None if the sides make the output.
        widths: channels of each level, finest first.
        attends: whether the blocks of each level attend.
        factor: heights and widths must be multiples of it.
    """

    condition: Conditions
    modulation: nn.Module | None
    stem: nn.Module
    head: nn.Module | None

    def __init__(
        self, event_shape: Sequence[int], channels: int, multipliers: Sequence[int], attention: Sequence[int]
    ) -> None:
        super().__init__()
        check_event(event_shape, (2,), f"{type(self).__name__} takes images, (channels, height, width)")
        self.widths, self.attends = levels(channels, multipliers, attention)
        self.factor = 2 ** (len(self.widths) - 1)
        check_divides(event_shape[1:], self.factor)
        for name in ("condition", "modulation", "stem"):  # their place in the order, before they can be made
            self.register_module(name, None)

    def concatenate(self, h: Tensor, skip: Tensor) -> Tensor:
        return torch.cat((h, skip), 1)

    def assemble(self, parts: Parts, channels: int, image: int, blocks: int, last_only: bool = False) -> None:
        """Make `down`, `middle` and `up`.

        Args:
            parts: makes their parts.
            channels: those that the stem leaves.
            image: channels of the input.
            blocks: blocks of a level in the down path.
            last_only: in the up path only the last block of a level attends.
        """
        passed = self._descend(parts, channels, image, blocks)
        width = self.widths[-1]
        middle = (parts.block(parts.decoder, width, width, attends) for attends in (True, False))
        self.middle = nn.ModuleList(middle)
        self._ascend(parts, passed, blocks, last_only)

    def _descend(self, parts: Parts, h: int, image: int, blocks: int) -> list[int]:
        """Make `down`; the channels of each result that passes to the up path."""
        passed = [h]
        self.down = nn.ModuleList()
        for k, width in enumerate(self.widths):
            level = Level()
            for _ in range(blocks):
                level.blocks.append(parts.block(parts.encoder, h, width, self.attends[k]))
                h = width
                passed.append(h)
            if k < len(self.widths) - 1:
                level.resample = parts.step(parts.encoder, width, Down(parts.taps))
                if parts.enter is not None:
                    level.side = side = parts.enter(image, width)
                    image, h = side.image, side.outputs
                passed.append(h)
            self.down.append(level)
        return passed

    def _ascend(self, parts: Parts, passed: list[int], blocks: int, last_only: bool) -> None:
        h = self.widths[-1]
        self.up = nn.ModuleList()
        for k, width in reversed(list(enumerate(self.widths))):
            level = Level()
            for i in range(blocks + 1):
                attends = self.attends[k] and (i == blocks or not last_only)
                level.blocks.append(parts.block(parts.decoder, h + passed.pop(), width, attends))
                h = width
            if parts.leave is not None:
                level.side = parts.leave(width)
            if k > 0:
                level.resample = parts.step(parts.decoder, width, Up(parts.taps))
            self.up.append(level)

    def pieces(self) -> list[int]:
        """Sizes of the pieces of the modulation, in the order of computation."""
        return [size for module in self.modules() for size in getattr(module, "sizes", ())]

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
        h = through(self.middle, h, pieces, tokens)
        drawn: Tensor | None = None
        for level in cast(Iterable[Level], self.up):
            for block in level.blocks:
                h = block(self.concatenate(h, passed.pop()), pieces, tokens)
            if level.side is not None:
                drawn, h = level.side(drawn, h)
            if level.resample is not None:
                h = level.resample(h, pieces, tokens)
        return cast(Tensor, drawn if self.head is None else self.head(h)).contiguous()
