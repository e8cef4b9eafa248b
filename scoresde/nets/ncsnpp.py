"""Networks of residual blocks: NCSN++, DDPM++ and DDPM, one with options, and ADM. Imports torch and this folder."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from scoresde.errors import positive, require
from scoresde.nets.blocks import BOX, FIR, Down, FilteredConv, Head, ResidualBlock, StridedConv, Up
from scoresde.nets.condition import Kinds, Shares, Sizes, conditions
from scoresde.nets.embedding import FourierEmbedding, Modulation, RandomFourierEmbedding, Waves, begin_at_one
from scoresde.nets.layers import (
    ImageAttention,
    check_event,
    check_levels,
    check_widths,
    convolution,
    group_norm,
    join,
    zero,
)
from scoresde.nets.skip_unet import ResidualUNet, SkipUNet, step_between


class NCSNpp(ResidualUNet):
    """The U-Net of Song et al. with all its options: `net(x, c, cond)` for images whose sizes can be halved.

        name      block   fir    progressive_input  noise         rescale
        DDPM      ddpm    false  none               positional    false
        DDPM++    biggan  false  none               positional    true
        NCSN++    biggan  true   residual           fourier       true
        (high resolution NCSN++: progressive_input input_skip, progressive_output output_skip)

    The deep variants have 8 blocks in place of 4. The noise level enters as the label y = noise_scale c + noise_shift:
    with c = ln(sigma/alpha)/4, noise_scale 4 gives ln(sigma/alpha), the label of NCSN++; the positional features are
    made for labels that range over hundreds. Its output is zero at the start.

    Args:
        event_shape: (channels, height, width) of one image.
        channels: width of the finest level.
        multipliers: width of each level in units of `channels`; each has half the rows and columns of the last.
        blocks: residual blocks of a level in the down path; there is one more in the up path.
        attention: levels with self-attention, counted from 0, the finest, or from -1, the coarsest. The middle of the
            network, at the coarsest level, attends in any case.
        attention_up: which blocks of such a level attend in the up path: the `last` or `every`.
        head_width: channels of each attention head; 0 for one head.
        noise: features of the noise level: `positional`, `fourier` (at random frequencies), or `none`, for a network
            that is not given the noise level.
        noise_scale: see above.
        noise_shift: see above.
        fourier_scale: standard deviation of the random frequencies, in cycles per unit of y.
        block: `biggan` blocks change the resolution inside of a residual block; `ddpm` between blocks.
        fir: change the resolution by the filter (1, 3, 3, 1) in place of (1, 1).
        resample_conv: `ddpm` blocks are followed by a convolution where the resolution changes.
        resample_pad: where such a convolution of stride 2 is padded: at the `end` alone, or on `both` sides.
        progressive_input: how the image itself, at lower resolutions, enters: `none`, `residual` or `input_skip`.
        progressive_combine: `input_skip` adds (`sum`) or concatenates (`cat`) it.
        progressive_output: `none`, or `output_skip`: the output is the sum of those of all levels.
        rescale: divide the sums of residual blocks by sqrt(2).
        groups: number of groups of the group norms, at most.
        group_width: channels of a group, at least.
        norm_eps: what group norms add to variances.
        dropout: probability in [0, 1) of dropping a value inside the residual blocks while training.
        condition: class, vector, tokens or image, or several by name, see `scoresde.nets.condition`; null for none.
        condition_size: number of classes, of numbers in the vector or in each token, or of channels; or sizes by name.
        condition_dropout: probability in [0, 1) of hiding a condition in training, for guidance, or several by name.
        condition_layer: which of the two layers above the features of the noise level a class or vector is added to.

    Raises:
        InputError: an argument out of its range, and sizes that cannot be halved.

    Song et al. 2021 (arXiv 2011.13456, appendix H); Ho et al. 2020 (arXiv 2006.11239) for DDPM.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        channels: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        *,
        blocks: int = 4,
        attention: tuple[int, ...] = (1,),
        attention_up: Literal["last", "every"] = "last",
        head_width: int = 0,
        noise: Literal["positional", "fourier", "none"] = "fourier",
        noise_scale: float = 4.0,
        noise_shift: float = 0.0,
        fourier_scale: float = 16.0,
        block: Literal["biggan", "ddpm"] = "biggan",
        fir: bool = True,
        resample_conv: bool = True,
        resample_pad: Literal["end", "both"] = "end",
        progressive_input: Literal["none", "residual", "input_skip"] = "residual",
        progressive_combine: Literal["sum", "cat"] = "sum",
        progressive_output: Literal["none", "output_skip"] = "none",
        rescale: bool = True,
        groups: int = 32,
        group_width: int = 4,
        norm_eps: float = 1e-6,
        dropout: float = 0.1,
        condition: Kinds = None,
        condition_size: Sizes = 0,
        condition_dropout: Shares = 0.1,
        condition_layer: Literal["first", "last"] = "last",
    ) -> None:
        check_event(event_shape, (2,), "an NCSNpp takes images, (channels, height, width)")
        widths = check_widths(channels, multipliers, blocks, dropout)
        attended = check_levels("attention", attention, len(widths))
        require(channels % 4 == 0, "channels", channels, "give a multiple of 4")
        positive(norm_eps=norm_eps)
        wanted = "a condition needs noise=positional or fourier"
        require(noise != "none" or condition is None, "condition", condition, wanted)
        given = conditions(condition, condition_size, condition_dropout, 4 * channels)
        super().__init__(event_shape, len(widths), given)
        norm = partial(group_norm, groups=groups, least=group_width, eps=norm_eps)
        self.options = {"norm": norm, "pieces": int(noise != "none"), "dropout": dropout, "rescale": rescale}
        self.head_width, self.taps, self.project = head_width, FIR if fir else BOX, True
        if block == "ddpm":
            self.between = partial(step_between, conv=resample_conv, pad=resample_pad)
        outputs = event_shape[0]
        inputs = outputs + given.channels

        def enter(level: int) -> tuple[nn.Module, int] | None:
            width = widths[level]
            if progressive_input == "input_skip":
                sides = InputSkip(inputs, width, Down(self.taps), progressive_combine == "cat")
                return sides, sides.outputs
            if progressive_input == "residual":
                return ResidualInput(widths[level - 1] if level else inputs, width, fir, rescale), width
            return None

        def leave(level: int) -> tuple[nn.Module, int] | None:
            if progressive_output == "none":
                return None
            up = Up(self.taps) if level < len(widths) - 1 else None
            return OutputSkip(Head(widths[level], outputs, norm), up), widths[level]

        self.stem = convolution(inputs, channels, 3)
        self.assemble(widths, blocks, attended, attention_up == "last", enter, leave, channels)
        self.head = Head(widths[0], outputs, norm) if progressive_output == "none" else None
        if noise != "none":
            listens = 0 if condition_layer == "first" else -1
            embed: Waves = FourierEmbedding(channels, 1e-4, 1.0, noise_scale, noise_shift)
            if noise == "fourier":
                embed = RandomFourierEmbedding(2 * channels, fourier_scale, noise_scale, noise_shift)
            features = 2 * len(embed.frequencies)
            self.modulation = Modulation(embed, features, [4 * channels] * 2, self.pieces(), 2, listens)
        _initialise(self)


class ResidualInput(nn.Module):
    """The features of the next level are the image's, convolved and halved, plus those of the network."""

    def __init__(self, inputs: int, outputs: int, fir: bool, rescale: bool) -> None:
        super().__init__()
        self.halve = FilteredConv(inputs, outputs) if fir else StridedConv(inputs, outputs, pad="end")
        self.rescale = rescale

    def forward(self, image: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        image = join(self.halve(image), h, self.rescale)
        return image, image


class InputSkip(nn.Module):
    """The image, halved, enters through a 1x1 convolution."""

    def __init__(self, inputs: int, width: int, down: nn.Module, concatenate: bool) -> None:
        super().__init__()
        self.down, self.conv = down, convolution(inputs, width, 1)
        self.concatenate, self.outputs = concatenate, 2 * width if concatenate else width

    def forward(self, image: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        image = self.down(image)
        y = self.conv(image)
        return image, torch.cat((y, h), 1) if self.concatenate else y + h


class OutputSkip(nn.Module):
    """Each level adds to an image, which is doubled from level to level."""

    def __init__(self, head: nn.Module, up: nn.Module | None) -> None:
        super().__init__()
        self.head, self.up = head, up

    def forward(self, image: Tensor | None, h: Tensor) -> tuple[Tensor, Tensor]:
        y = self.head(h)
        return y if image is None or self.up is None else self.up(image) + y, h


@torch.no_grad()
def _initialise(net: SkipUNet) -> None:
    """Weights uniform with variance 2 / (inputs + outputs), a tenth of it in front of attention; biases zero."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            _xavier([module.weight])
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, ImageAttention):
            for layer in (module.q, module.kv) if module.context else (module.qkv,):
                weight = layer.get_parameter("weight")
                _xavier(weight.chunk(len(weight) // module.out.in_features), 0.1**0.5)
    if isinstance(net.modulation, Modulation):
        _xavier(net.modulation.parts(net.modulation.out.weight))
    for module in net.modules():
        match module:
            case ResidualBlock():
                zero(module.conv2)
            case ImageAttention():
                zero(module.out)
            case Head():
                zero(module.conv)


def _xavier(weights: Sequence[Tensor], gain: float = 1.0) -> None:
    for weight in weights:
        nn.init.xavier_uniform_(weight, gain)


class ADM(ResidualUNet):
    """The U-Net of ADM: the noise level scales and shifts, and every block of a level attends: `net(x, c, cond)`.

    It differs from `NCSNpp` in its norms, scale norm(h) + shift in place of norm(h + shift), in attention by several
    heads, in both paths, and in plain sums. The noise level enters as the label noise_scale c. Its output is zero at
    the start.

    Args:
        event_shape: (channels, height, width) of one image; the sizes must be multiples of 2^(levels - 1).
        channels: width of the finest level.
        multipliers: width of each level in units of `channels`; each has half the rows and columns of the last.
        blocks: residual blocks of a level in the down path; there is one more in the up path.
        attention: levels with self-attention, counted from 0, the finest, or from -1, the coarsest. The middle of the
            network, at the coarsest level, attends in any case.
        head_width: channels of each attention head; 0 for one head.
        embedding: width of the embedding of the noise level, with a quarter as many features; 0 for 4 `channels`.
        noise_scale: see above; the features of the label have periods from 2 pi to 20000 pi.
        resample_blocks: change the resolution inside of residual blocks; else by a convolution between them.
        groups: number of groups of the group norms, at most.
        group_width: channels of a group, at least.
        dropout: probability in [0, 1) of dropping a value inside the residual blocks while training.
        condition: class, vector, tokens or image, or several by name, see `scoresde.nets.condition`; null for none.
        condition_size: number of classes, of numbers in the vector or in each token, or of channels; or sizes by name.
        condition_dropout: probability in [0, 1) of hiding a condition in training, for guidance, or several by name.

    Raises:
        InputError: an argument out of its range, and sizes that cannot be halved.

    Dhariwal and Nichol 2021 (arXiv 2105.05233, section 3 and appendix I).
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        channels: int = 192,
        multipliers: tuple[int, ...] = (1, 2, 3, 4),
        *,
        blocks: int = 3,
        attention: tuple[int, ...] = (1, 2, 3),
        head_width: int = 64,
        embedding: int = 0,
        noise_scale: float = 250.0,
        resample_blocks: bool = True,
        groups: int = 32,
        group_width: int = 1,
        dropout: float = 0.1,
        condition: Kinds = None,
        condition_size: Sizes = 0,
        condition_dropout: Shares = 0.1,
    ) -> None:
        check_event(event_shape, (2,), "an ADM takes images, (channels, height, width)")
        widths = check_widths(channels, multipliers, blocks, dropout)
        attended = check_levels("attention", attention, len(widths))
        width = embedding or 4 * channels
        name = "embedding" if embedding else "channels"
        wanted = "give a multiple of 8, >= 16" if embedding else "give an even integer >= 4"
        require(width >= 16 and width % 8 == 0, name, embedding or channels, wanted)
        given = conditions(condition, condition_size, condition_dropout, width)
        super().__init__(event_shape, len(widths), given)
        norm = partial(group_norm, groups=groups, least=group_width, eps=1e-5)
        self.options, self.head_width = {"norm": norm, "pieces": 2, "dropout": dropout}, head_width
        self.between = None if resample_blocks else step_between
        self.stem = convolution(event_shape[0] + given.channels, widths[0], 3)
        self.assemble(widths, blocks, attended, False)
        self.head = Head(widths[0], event_shape[0], norm)
        embed = FourierEmbedding(width // 4, 1e-4, 1.0, noise_scale)
        self.modulation = begin_at_one(Modulation(embed, width // 4, [width] * 2, self.pieces(), 2))
