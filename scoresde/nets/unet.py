"""A U-Net for images of any size, light enough for a plain processor. Imports torch and this folder only."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from scoresde.errors import InputError, require
from scoresde.nets.embedding import NoiseModulation


class _Residual(nn.Module):
    """h + conv_2(silu(scale norm(conv_1(silu(norm(h)))) + shift)); begins as the identity, conv_2 being zero."""

    checkpointable = True  # trainer.checkpoint_activations keeps its input alone

    def __init__(self, width: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width, affine=False)  # scale and shift come from the noise level
        self.conv2 = _zero(nn.Conv2d(width, width, 3, padding=1))
        self.width, self.dropout = width, dropout

    def forward(self, h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        y = self.conv1(functional.silu(self.norm1(h)))
        y = functional.silu(torch.addcmul(shift, self.norm2(y), scale))
        if self.dropout and self.training:
            y = functional.dropout(y, self.dropout)
        out: Tensor = h + self.conv2(y)
        return out


class _Attention(nn.Module):
    """h + W softmax(q k / sqrt(d)) v over all pixels; q, k, v from norm(h). Begins as the identity, W being zero."""

    def __init__(self, width: int, groups: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)  # softmax cannot see a constant added to every key
        self.out = _zero(nn.Conv2d(width, width, 1))
        self.heads = heads

    def forward(self, h: Tensor) -> Tensor:
        size, width, rows, columns = h.shape
        qkv = self.qkv(self.norm(h)).reshape(size, 3, self.heads, width // self.heads, rows * columns)
        y = functional.scaled_dot_product_attention(*qkv.transpose(3, 4).unbind(1))
        out: Tensor = h + self.out(y.transpose(2, 3).reshape(h.shape))
        return out


class _Stage(nn.Module):
    """Residual blocks of one level in a row."""

    def __init__(self, width: int, blocks: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Residual(width, groups, dropout) for _ in range(blocks))

    def forward(self, h: Tensor, modulation: Iterator[Tensor]) -> Tensor:
        for block in self.blocks:
            h = block(h, next(modulation), next(modulation))
        return h


class UNet(nn.Module):
    """A U-Net whose residual blocks are modulated by the noise level: `net(x, c)`, for images of any size.

    Level l has `channels * multipliers[l]` channels and half the rows and columns of level l - 1. Each level has
    `blocks` residual blocks on the way down and as many on the way up, where the result of the way down is added:

        down    h_l = attention(blocks(S h_{l-1}))      S: 3x3, stride 2
        up      h_l <- blocks(h_l + double(U h_{l+1}))  U: 3x3; double: each pixel becomes 2x2

    A stride of 2 takes n rows to ceil(n/2), and doubling gives n or n + 1, of which n are kept. So every height and
    width fits and nothing is padded: group norm and attention see pixels of the image alone, and an image whose sides
    are multiples of 2^(levels-1) is treated as in any U-Net. The network may be called with other heights and widths
    than those of `event_shape`. Its output is zero at the start.

    Args:
        event_shape: (channels, height, width) of one image.
        channels: width of the finest level.
        multipliers: width of each level in units of `channels`; as many as there are levels.
        blocks: residual blocks of a level on each way.
        attention: levels with a self-attention layer, counted from 0, the finest, or from -1, the coarsest. Its cost
            grows with the square of the number of pixels of the level.
        heads: attention heads; must divide the width of the levels with attention.
        groups: groups of the group norms; must divide the width of every level.
        embedding: number of features of the noise level; even.
        dropout: probability in [0, 1) of dropping a value inside the residual blocks while training.

    Raises:
        InputError: an argument out of its range.

    Ronneberger et al. 2015 (arXiv 1505.04597); blocks of Dhariwal and Nichol 2021 (arXiv 2105.05233, section 3.1).
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        channels: int = 32,
        multipliers: tuple[int, ...] = (1, 2),
        blocks: int = 1,
        attention: tuple[int, ...] = (),
        heads: int = 2,
        groups: int = 8,
        embedding: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check_sizes(event_shape, channels, multipliers, blocks, dropout)
        widths = [channels * m for m in multipliers]
        attended = _attended(attention, heads, widths)
        _check_groups(groups, widths)

        def stage(width: int) -> _Stage:
            return _Stage(width, blocks, groups, dropout)

        pairs = list(pairwise(widths))  # (finer, coarser)
        order = [*widths, *widths[::-1]]  # all levels downwards, then all levels upwards
        self.modulation = NoiseModulation([w for w in order for _ in range(blocks)], embedding, event_ndim=2)
        self.first = nn.Conv2d(event_shape[0], widths[0], 3, padding=1)
        self.down_stages = nn.ModuleList(stage(w) for w in widths)
        self.attentions = nn.ModuleList(
            _Attention(w, groups, heads) if level in attended else nn.Identity() for level, w in enumerate(widths)
        )
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairs)
        self.middle = stage(widths[-1])
        self.ups = nn.ModuleList(nn.Conv2d(coarse, fine, 3, padding=1) for fine, coarse in reversed(pairs))
        self.up_stages = nn.ModuleList(stage(w) for w in widths[-2::-1])
        self.last_norm = nn.GroupNorm(groups, widths[0])
        self.last = _zero(nn.Conv2d(widths[0], event_shape[0], 3, padding=1))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """The output (B, channels, height, width) for x of that shape at noise levels c (B,)."""
        modulation = iter(self.modulation(c))
        if x.device.type == "cpu":  # faster there by a tenth; on CUDA, group norm would undo it in every block
            x = x.contiguous(memory_format=torch.channels_last)
        h = self.first(x)
        skips = []
        for level, (stage, attention) in enumerate(zip(self.down_stages, self.attentions, strict=True)):
            if level > 0:
                skips.append(h)
                h = self.downs[level - 1](h)
            h = attention(stage(h, modulation))
        h = self.middle(h, modulation)
        for up, stage in zip(self.ups, self.up_stages, strict=True):
            skip = skips.pop()
            h = functional.interpolate(up(h), scale_factor=2.0, mode="nearest")
            h = stage(h[..., : skip.shape[2], : skip.shape[3]] + skip, modulation)
        out: Tensor = self.last(functional.silu(self.last_norm(h)))
        return out.contiguous()


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _attended(attention: Sequence[int], heads: int, widths: Sequence[int]) -> set[int]:
    """The levels with attention, counted from 0."""
    levels = len(widths)
    require(heads >= 1, "heads", heads, "give an integer >= 1")
    for level in attention:
        wanted = f"there are {levels} levels: give 0 (finest) to {levels - 1}, or -1 (coarsest) to {-levels}"
        require(-levels <= level < levels, "attention", level, wanted)
        wanted = f"it must divide the {widths[level]} channels of level {level % levels}"
        require(widths[level] % heads == 0, "heads", heads, wanted)
    return {level % levels for level in attention}


def _check_groups(groups: int, widths: Sequence[int]) -> None:
    require(groups >= 1, "groups", groups, "give an integer >= 1")
    for level, width in enumerate(widths):
        require(width % groups == 0, "groups", groups, f"it must divide the {width} channels of level {level}")


def _check_sizes(
    event_shape: Sequence[int], channels: int, multipliers: Sequence[int], blocks: int, dropout: float
) -> None:
    if len(event_shape) != 3 or any(n < 1 for n in event_shape):
        raise InputError(
            f"event_shape: {tuple(event_shape)!r} is not allowed; a U-Net takes images, (channels, height,"
            " width), all >= 1; a ResidualMLP takes any shape"
        )
    require(channels >= 1, "channels", channels, "give an integer >= 1")
    wanted = "give one integer >= 1 for each level, such as [1, 2, 2]"
    require(len(multipliers) > 0 and all(m >= 1 for m in multipliers), "multipliers", list(multipliers), wanted)
    require(blocks >= 1, "blocks", blocks, "give an integer >= 1")
    require(0 <= dropout < 1, "dropout", dropout, "give a probability in [0, 1)")
