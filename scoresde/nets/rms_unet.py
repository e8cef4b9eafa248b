"""The U-Net of denoising-diffusion-pytorch, with linear attention. Imports torch and this folder only."""

import math
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn

from scoresde.constraints import Count, NonNegativeInt, Probability
from scoresde.described import Described
from scoresde.errors import require
from scoresde.nets.arguments import Even, Multipliers, Outputs, check_divides, check_event, levels
from scoresde.nets.blocks import ResampledConv, Up
from scoresde.nets.condition import Cond, named
from scoresde.nets.embedding import FourierEmbedding, Modulation, RandomFourierEmbedding, Waves, begin_at_one
from scoresde.nets.layers import convolution, quick, through, zero
from scoresde.nets.skip_unet import Level

_MEMORIES = 4  # learned keys and values of each head


class RMSUNet(Described, nn.Module):
    """A U-Net with norms over channels and attention at every level, most of it linear: `net(x, c)` for images.

        stem; for each level: block, block with attention, step;  block with attention, block;
        for each level: block, block with attention, step;  block with the stem's result beside, 1x1 convolution

    The blocks of a level have the width of the level above it in the down path, that of the stem at the finest, and
    its own in the up path. It takes no condition. Its output is zero at the start.

    Args:
        event_shape: (channels, height, width) of one image; the sizes must be multiples of 2^(levels - 1).
        channels: the unit of widths.
        multipliers: width of each level in units of `channels`; each has half the rows and columns of the last.
        stem: width of the first layer; 0 for `channels`.
        attention: levels with attention of quadratic cost, counted from 0, the finest, or from -1, the coarsest; the
            middle has it in any case. That of the others is linear in the number of pixels.
        heads: attention heads of each level.
        head_width: channels of each head, of each level.
        noise: features of the label noise_scale c of the noise level: `positional`, or `fourier`, at random frequencies
            and with the label beside.
        features: number of random features.
        noise_scale: see above.
        outputs: channels of the output for each of the event; 2 where the model learns variances.
        dropout: probability in [0, 1) of dropping a value inside the residual blocks while training.

    Raises:
        InputError: an argument out of its range, and sizes that cannot be halved.

    Linear attention: Shen et al. 2021 (arXiv 1812.01243), with the learned keys and values of Sukhbaatar et al. 2019
    (arXiv 1907.01470).
    """

    def __init__(
        self,
        event_shape: tuple[Count, ...],
        channels: Even = 64,
        multipliers: Multipliers = (1, 2, 4, 8),
        *,
        stem: NonNegativeInt = 0,
        attention: tuple[int, ...] = (-1,),
        heads: Multipliers = (4, 4, 4, 4),
        head_width: Multipliers = (32, 32, 32, 32),
        noise: Literal["positional", "fourier"] = "positional",
        features: Even = 16,
        noise_scale: float = 250.0,
        outputs: Outputs = 1,
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__()
        check_event(event_shape, (2,), "RMSUNet takes images, (channels, height, width)")
        widths, full = levels(channels, multipliers, attention)
        first, self.factor = stem or channels, 2 ** (len(widths) - 1)
        check_divides(event_shape[1:], self.factor)
        one_each = len(heads) == len(head_width) == len(widths)
        require(one_each, "heads", heads, f"give heads and head_width for each of {len(widths)} levels")
        block = partial(RMSBlock, dropout=dropout)

        def pair(k: int, inputs: int, width: int, resample: nn.Module, conv: nn.Module) -> Level:
            attends = MemoryAttention(width, heads[k], head_width[k], full[k])
            level = Level([block(inputs, width), block(inputs, width, attends)])
            level.resample = ResampledConv(resample, conv)
            return level

        self.stem = convolution(event_shape[0], first, 7)
        self.down, up = nn.ModuleList(), []
        for k, (fine, coarse) in enumerate(pairwise([first, *widths])):
            halves = k < len(widths) - 1
            halve = nn.PixelUnshuffle(2) if halves else nn.Identity()
            conv = convolution(4 * fine, coarse, 1) if halves else convolution(fine, coarse, 3)
            self.down.append(pair(k, fine, fine, halve, conv))
            up.append(pair(k, fine + coarse, coarse, Up() if k else nn.Identity(), convolution(coarse, fine, 3)))
        attends = MemoryAttention(widths[-1], heads[-1], head_width[-1], True)
        self.middle = nn.ModuleList([block(widths[-1], widths[-1], attends), block(widths[-1], widths[-1])])
        self.up = nn.ModuleList(reversed(up))
        self.last = block(2 * first, first)
        self.head = zero(convolution(first, outputs * event_shape[0], 1))
        sizes = [size for module in self.modules() if isinstance(module, RMSBlock) for size in module.sizes]
        embed: Waves = FourierEmbedding(channels, 1e-4, 1.0, noise_scale)
        if noise == "fourier":
            embed = _WithLabel(features, 1.0, noise_scale)
        modulation = Modulation(embed, [4 * channels] * 2, sizes, 2, activation=nn.functional.gelu)
        self.modulation = begin_at_one(modulation)

    def forward(self, x: Tensor, c: Tensor, cond: Cond = None) -> Tensor:
        """The output (B, channels, height, width) for x of that shape and noise levels c (B,).

        Raises:
            InputError: a size that cannot be halved as often as there are levels, or a condition.
        """
        check_divides(x.shape[2:], self.factor, "x")
        named({}, cond)
        pieces = iter(self.modulation(c))
        h = self.stem(quick(x))
        passed = [h]
        for level in cast(Iterable[Level], self.down):
            for block in level.blocks:
                h = block(h, pieces)
                passed.append(h)
            h = through([level.resample], h)
        h = through(self.middle, h, pieces)
        for level in cast(Iterable[Level], self.up):
            for block in level.blocks:
                h = block(torch.cat((h, passed.pop()), 1), pieces)
            h = through([level.resample], h)
        return cast(Tensor, self.head(self.last(torch.cat((h, passed.pop()), 1), pieces))).contiguous()


class RMSNorm(nn.Module):
    """gain h / rms(h), over the channels of each pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, h: Tensor) -> Tensor:
        return nn.functional.normalize(h, dim=1) * (self.gain * math.sqrt(self.gain.numel()))


class RMSBlock(nn.Module):
    """skip(h) + silu(norm_2(conv_2(silu(scale norm_1(conv_1(h)) + shift)))), then attention."""

    checkpointable = True  # trainer.checkpoint_activations keeps its inputs alone

    def __init__(self, inputs: int, outputs: int, attention: nn.Module | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(inputs, outputs, 3), RMSNorm(outputs)
        self.conv2, self.norm2 = convolution(outputs, outputs, 3), RMSNorm(outputs)
        self.skip = convolution(inputs, outputs, 1) if inputs != outputs else None
        self.attention, self.dropout, self.sizes = attention, dropout, [outputs] * 2

    def forward(self, h: Tensor, modulation: Iterator[Tensor]) -> Tensor:
        """The output (B, outputs, height, width) for h (B, inputs, height, width), with a scale and a shift."""
        scale, shift = next(modulation), next(modulation)
        y = nn.functional.silu(torch.addcmul(shift, self.norm1(self.conv1(h)), scale))
        y = nn.functional.dropout(y, self.dropout, self.training)
        y = through([self.skip], h) + nn.functional.silu(self.norm2(self.conv2(y)))
        return y if self.attention is None else cast(Tensor, self.attention(y))


class MemoryAttention(nn.Module):
    """h + out(attention among the pixels and learned memories).

        full    softmax(q k^T / sqrt(d)) v, over keys
        linear  softmax(q) (softmax(k)^T v) / sqrt(d), of q over channels and of k over keys; out ends in a norm

    Args:
        width: number of channels.
        heads: attention heads.
        head_width: d.
        full: which of the two.
    """

    def __init__(self, width: int, heads: int, head_width: int, full: bool) -> None:
        super().__init__()
        inner = heads * head_width
        self.norm = RMSNorm(width)
        self.memory = nn.Parameter(torch.randn(2, heads, head_width, _MEMORIES))  # keys, then values
        self.qkv = nn.Conv2d(width, 3 * inner, 1, bias=False)
        out = convolution(inner, width, 1)
        self.out = out if full else nn.Sequential(out, RMSNorm(width))
        self.full = full

    def forward(self, h: Tensor) -> Tensor:
        """The output (B, width, height, width of images) for h of that shape."""
        q, *kv = self.qkv(self.norm(h)).flatten(2).unflatten(1, (3, *self.memory.shape[1:3])).unbind(1)
        k, v = (torch.cat((m.expand(len(h), -1, -1, -1), t), 3) for m, t in zip(self.memory, kv, strict=True))
        if self.full:
            y = nn.functional.scaled_dot_product_attention(q.mT, k.mT, v.mT).mT
        else:
            y = v @ k.softmax(3).mT @ q.softmax(2) * q.shape[2] ** -0.5
        return h + cast(Tensor, self.out(y.reshape(len(h), -1, *h.shape[2:])))


class _WithLabel(RandomFourierEmbedding):
    """Those features, and the label behind them."""

    def __init__(self, size: int, scale: float, factor: float) -> None:
        super().__init__(size, scale, factor)
        self.size += 1

    def forward(self, c: Tensor) -> Tensor:
        return torch.cat((super().forward(c), (c[:, None] * self.factor).to(self.frequencies.dtype)), 1)
