"""Networks of residual blocks: NCSN++, DDPM++ and DDPM, one with options, and ADM. Imports torch and this folder."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from scoresde.constraints import Constraint, Count, Depth, NonNegativeInt, Positive, Probability, Real
from scoresde.errors import require
from scoresde.nets.arguments import Even, MultipleOf4, Multipliers, Outputs
from scoresde.nets.blocks import BOX, FIR, Down, Head, ResidualBlock, Taps, Up, halving, step_between
from scoresde.nets.condition import Kinds, Shares, Sizes, conditions
from scoresde.nets.embedding import FourierEmbedding, Modulation, RandomFourierEmbedding, Waves, begin_at_one
from scoresde.nets.layers import ImageAttention, Norm, convolution, group_norm, join, zero
from scoresde.nets.skip_unet import Parts, Side, SkipUNet

_Embedding = Annotated[int, Constraint(lambda n: n == 0 or (n >= 16 and n % 8 == 0), "a multiple of 8, >= 16, or 0")]
_ZERO = {ResidualBlock: "conv2", ImageAttention: "out", Head: "conv"}  # their layers that are zero at the start


class NCSNpp(SkipUNet):
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
        outputs: channels of the output for each of the event; 2 where the model learns variances.
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
        event_shape: tuple[Count, ...],
        channels: MultipleOf4 = 128,
        multipliers: Multipliers = (1, 2, 2, 2),
        *,
        blocks: Depth = 4,
        attention: tuple[int, ...] = (1,),
        attention_up: Literal["last", "every"] = "last",
        head_width: NonNegativeInt = 0,
        noise: Literal["positional", "fourier", "none"] = "fourier",
        noise_scale: Positive = 4.0,
        noise_shift: Real = 0.0,
        fourier_scale: Positive = 16.0,
        block: Literal["biggan", "ddpm"] = "biggan",
        fir: bool = True,
        resample_conv: bool = True,
        resample_pad: Literal["end", "both"] = "end",
        progressive_input: Literal["none", "residual", "input_skip"] = "residual",
        progressive_combine: Literal["sum", "cat"] = "sum",
        progressive_output: Literal["none", "output_skip"] = "none",
        rescale: bool = True,
        groups: Count = 32,
        group_width: Count = 4,
        norm_eps: Positive = 1e-6,
        outputs: Outputs = 1,
        dropout: Probability = 0.1,
        condition: Kinds = None,
        condition_size: Sizes = 0,
        condition_dropout: Shares = 0.1,
        condition_layer: Literal["first", "last"] = "last",
    ) -> None:
        super().__init__(event_shape, channels, multipliers, attention)
        wanted = "a condition needs noise=positional or fourier"
        require(noise != "none" or condition is None, "condition", condition, wanted)
        self.condition = conditions(condition, condition_size, condition_dropout, 4 * channels)
        image, taps = outputs * event_shape[0], FIR if fir else BOX
        inputs = event_shape[0] + self.condition.channels
        norm = partial(group_norm, groups=groups, least=group_width, eps=norm_eps)
        residual = partial(
            ResidualBlock, norm=norm, pieces=0 if noise == "none" else 1, dropout=dropout, rescale=rescale, project=True
        )
        enter = {
            "none": None,
            "residual": partial(ResidualInput, taps=taps, rescale=rescale),
            "input_skip": partial(InputSkip, taps=taps, concatenate=progressive_combine == "cat"),
        }
        leave = {"none": None, "output_skip": partial(OutputSkip, image=image, norm=norm, taps=taps)}
        between = {"biggan": None, "ddpm": partial(step_between, taps=taps, conv=resample_conv, pad=resample_pad)}
        parts = Parts(
            encoder=residual,
            decoder=residual,
            attention=partial(ImageAttention, norm=norm, rescale=rescale),
            head_width=head_width,
            context=self.condition.context,
            taps=taps,
            between=between[block],
            enter=enter[progressive_input],
            leave=leave[progressive_output],
        )
        self.stem = convolution(inputs, channels, 3)
        self.assemble(parts, channels, inputs, blocks, attention_up == "last")
        self.head = Head(self.widths[0], image, norm) if progressive_output == "none" else None
        if noise != "none":
            listens = {"first": 0, "last": -1}[condition_layer]
            embed: Waves = FourierEmbedding(channels, 1e-4, 1.0, noise_scale, noise_shift)
            if noise == "fourier":
                embed = RandomFourierEmbedding(2 * channels, fourier_scale, noise_scale, noise_shift)
            self.modulation = Modulation(embed, [4 * channels] * 2, self.pieces(), 2, listens)
        _initialise(self)


class ResidualInput(Side):
    """The features of the next level are the image's, convolved and halved, plus those of the network."""

    def __init__(self, inputs: int, width: int, taps: Taps, rescale: bool) -> None:
        super().__init__()
        self.halve = halving(inputs, width, taps=taps, pad="end")
        self.image, self.outputs, self.rescale = width, width, rescale

    def forward(self, image: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        image = join(self.halve(image), h, self.rescale)
        return image, image


class InputSkip(Side):
    """The image, halved, enters through a 1x1 convolution."""

    def __init__(self, inputs: int, width: int, taps: Taps, concatenate: bool) -> None:
        super().__init__()
        self.down, self.conv = Down(taps), convolution(inputs, width, 1)
        self.image, self.outputs, self.concatenate = inputs, 2 * width if concatenate else width, concatenate

    def forward(self, image: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        image = self.down(image)
        y = self.conv(image)
        return image, torch.cat((y, h), 1) if self.concatenate else y + h


class OutputSkip(nn.Module):
    """Each level adds to an image, which is doubled from level to level."""

    def __init__(self, width: int, image: int, norm: Norm, taps: Taps) -> None:
        super().__init__()
        self.head, self.up = Head(width, image, norm), Up(taps)

    def forward(self, image: Tensor | None, h: Tensor) -> tuple[Tensor, Tensor]:
        y = self.head(h)
        return y if image is None else self.up(image) + y, h


@torch.no_grad()
def _initialise(net: SkipUNet) -> None:
    """Weights uniform with variance 2 / (inputs + outputs), a tenth of it in front of attention; biases zero."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            _xavier([module.weight])
            nn.init.zeros_(module.get_parameter("bias"))
    if isinstance(net.modulation, Modulation):
        _xavier(net.modulation.parts(net.modulation.out.weight))
    for module in net.modules():  # again, for a module comes in front of its layers
        if isinstance(module, ImageAttention):
            for layer in (module.q, module.kv) if module.context else (module.qkv,):
                weight = layer.get_parameter("weight")
                _xavier(weight.chunk(len(weight) // module.out.in_features), 0.1**0.5)
        if last := _ZERO.get(type(module)):
            zero(module.get_submodule(last))


def _xavier(weights: Sequence[Tensor], gain: float = 1.0) -> None:
    for weight in weights:
        nn.init.xavier_uniform_(weight, gain)


class ADM(SkipUNet):
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
        heads: attention heads, whatever the width; 0 for heads of `head_width`.
        scale_shift: whether the noise level scales and shifts; else its shift is added in front of the norm.
        embedding: width of the embedding of the noise level, with a quarter as many features; 0 for 4 `channels`.
        noise_scale: see above; the features of the label have periods from 2 pi to 20000 pi.
        resample_blocks: change the resolution inside of residual blocks; else by a convolution between them.
        groups: number of groups of the group norms, at most.
        group_width: channels of a group, at least.
        outputs: channels of the output for each of the event; 2 where the model learns variances.
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
        event_shape: tuple[Count, ...],
        channels: Even = 192,
        multipliers: Multipliers = (1, 2, 3, 4),
        *,
        blocks: Depth = 3,
        attention: tuple[int, ...] = (1, 2, 3),
        head_width: NonNegativeInt = 64,
        heads: NonNegativeInt = 0,
        scale_shift: bool = True,
        embedding: _Embedding = 0,
        noise_scale: Positive = 250.0,
        resample_blocks: bool = True,
        groups: Count = 32,
        group_width: Count = 1,
        outputs: Outputs = 1,
        dropout: Probability = 0.1,
        condition: Kinds = None,
        condition_size: Sizes = 0,
        condition_dropout: Shares = 0.1,
    ) -> None:
        super().__init__(event_shape, channels, multipliers, attention)
        width = embedding or 4 * channels
        self.condition = conditions(condition, condition_size, condition_dropout, width)
        inputs = event_shape[0] + self.condition.channels
        norm = partial(group_norm, groups=groups, least=group_width, eps=1e-5)
        residual = partial(ResidualBlock, norm=norm, pieces=2 if scale_shift else 1, dropout=dropout)
        attend = partial(ImageAttention, norm=norm)
        between = None if resample_blocks else step_between
        context = self.condition.context
        parts = Parts(residual, residual, attend, head_width, context, heads=heads, between=between)
        self.stem = convolution(inputs, self.widths[0], 3)
        self.assemble(parts, self.widths[0], inputs, blocks)
        self.head = Head(self.widths[0], outputs * event_shape[0], norm)
        embed = FourierEmbedding(width // 4, 1e-4, 1.0, noise_scale)
        modulation = Modulation(embed, [width] * 2, self.pieces(), 2)
        self.modulation = begin_at_one(modulation) if scale_shift else modulation
