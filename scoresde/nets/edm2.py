"""The magnitude-preserving U-Net of EDM2. Imports torch and this folder only."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from scoresde.constraints import Count, Depth, NonNegativeInt, Positive, Probability, ProperFraction
from scoresde.nets.arguments import Multipliers, Outputs
from scoresde.nets.condition import Kinds, Shares, Sizes, conditions
from scoresde.nets.layers import through
from scoresde.nets.magnitude import MPAttention, MPFourier, MPLayer, OneHot, blend, concatenate, silu, unit
from scoresde.nets.skip_unet import Parts, SkipUNet


class EDM2(SkipUNet):
    """A U-Net without biases and norms, in which weights and activations keep their magnitude: `net(x, c, cond)`.

    Every weight vector has norm one; sums, concatenations, attention and the nonlinearity preserve the magnitude; the
    noise level scales the channels inside of blocks; a few gains, zero at the start, are learned. c must be
    ln(sigma/alpha)/4 up to a shift. Its output is zero at the start. Trained with large learning rates (0.01) that fall
    as one over the square root of the step, Adam with betas (0.9, 0.99), and an average of any length.

    Args:
        event_shape: (channels, height, width) of one image; the sizes must be multiples of 2^(levels - 1).
        channels: width of the finest level.
        multipliers: width of each level in units of `channels`; each has half the rows and columns of the last.
        blocks: residual blocks of a level in the down path; there is one more in the up path.
        attention: levels with self-attention, counted from 0, the finest, or from -1, the coarsest. The middle of the
            network, at the coarsest level, attends in any case.
        head_width: channels of each attention head; 0 for one head.
        balance: share of the residual branch, and of attention, in the sums.
        skip_balance: share of the skip connection in concatenations.
        condition_balance: share of a class or vector in the embedding.
        largest: activations are cut to at most this.
        outputs: channels of the output for each of the event; 2 where the model learns variances.
        dropout: probability in [0, 1) of dropping a value inside the residual blocks while training.
        condition: class, vector, tokens or image, or several by name, see `scoresde.nets.condition`; null for none.
            Numbers should be of magnitude one.
        condition_size: number of classes, of numbers in the vector or in each token, or of channels; or sizes by name.
        condition_dropout: probability in [0, 1) of hiding a condition in training, for guidance, or several by name.

    Raises:
        InputError: an argument out of its range, and sizes that cannot be halved.

    Karras et al. 2024 (arXiv 2312.02696, section 2 and appendix B, config G).
    """

    def __init__(
        self,
        event_shape: tuple[Count, ...],
        channels: Count = 192,
        multipliers: Multipliers = (1, 2, 3, 4),
        *,
        blocks: Depth = 3,
        attention: tuple[int, ...] = (2, 3),
        head_width: NonNegativeInt = 64,
        balance: ProperFraction = 0.3,
        skip_balance: ProperFraction = 0.5,
        condition_balance: ProperFraction = 0.5,
        largest: Positive = 256.0,
        outputs: Outputs = 1,
        dropout: Probability = 0.0,
        condition: Kinds = None,
        condition_size: Sizes = 0,
        condition_dropout: Shares = 0.1,
    ) -> None:
        super().__init__(event_shape, channels, multipliers, attention)
        width = max(self.widths)
        self.condition = given = conditions(condition, condition_size, condition_dropout, width)
        for member in given.members.values():
            if member.kind != "image":
                layer = MPLayer(member.size, width)
                member.embed = OneHot(layer) if member.kind == "class" else layer
        given.scale = max(1, sum(member.kind in ("class", "vector") for member in given.members.values())) ** -0.5
        block = partial(MPBlock, balance=balance, dropout=dropout, largest=largest)
        attend = partial(MPAttention, balance=balance)
        parts = Parts(partial(block, True), partial(block, False), attend, head_width, given.context)
        inputs, first, self.skip_balance = event_shape[0] + given.channels, self.widths[0], skip_balance
        self.stem = MPStem(inputs, first)
        self.assemble(parts, first, inputs, blocks)
        self.head = MPHead(first, outputs * event_shape[0])
        self.modulation = MPModulation(first, width, self.pieces(), condition_balance)

    def concatenate(self, h: Tensor, skip: Tensor) -> Tensor:
        return concatenate(h, skip, self.skip_balance)


class MPBlock(nn.Module):
    """A residual block of EDM2 (figure 21 of arXiv 2312.02696), with attention.

    down    h = unit(skip(R x)),  out = blend(h, F(h))
    up      h = R x,              out = blend(skip(h), F(h))
    F(h) = conv_2(silu(conv_1(silu(h)) (1 + gain s))),   s from the noise level and the condition
    """

    checkpointable = True  # trainer.checkpoint_activations keeps its inputs alone

    def __init__(
        self,
        down: bool,
        inputs: int,
        outputs: int,
        *,
        resample: nn.Module | None = None,
        attention: nn.Module | None = None,
        cross: nn.Module | None = None,
        balance: float,
        dropout: float,
        largest: float,
    ) -> None:
        super().__init__()
        self.down, self.resample = down, resample
        self.conv1 = MPLayer(outputs if down else inputs, outputs, 3)
        self.gain = nn.Parameter(torch.zeros(()))
        self.conv2 = MPLayer(outputs, outputs, 3)
        self.skip = MPLayer(inputs, outputs, 1) if inputs != outputs else None
        self.attention, self.cross = attention, cross
        self.sizes = [outputs]
        self.balance, self.dropout, self.largest = balance, dropout, largest

    def forward(self, h: Tensor, modulation: Iterator[Tensor], tokens: Tensor | None = None) -> Tensor:
        """The output (B, outputs, *event) for h (B, inputs, *event), the next piece of the modulation, and tokens."""
        h = through([self.resample], h)
        if self.down:
            h = unit(through([self.skip], h), 1)
        y = silu(self.conv1(silu(h)) * (next(modulation) * self.gain + 1))
        y = nn.functional.dropout(y, self.dropout, self.training)
        y = self.conv2(y)
        if not self.down:
            h = through([self.skip], h)
        h = through((self.attention, self.cross), blend(h, y, self.balance), tokens)
        return h.clamp(-self.largest, self.largest)


class MPStem(nn.Module):
    """A convolution of the image with a channel of ones beside it, which stands for the bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = MPLayer(inputs + 1, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.conv(torch.cat((x, torch.ones_like(x[:, :1])), 1)))


class MPHead(nn.Module):
    """A convolution with a learned gain, zero at the start."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = MPLayer(inputs, outputs, 3)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        return cast(Tensor, self.conv(h, self.gain))


class MPModulation(nn.Module):
    """What the noise level and a condition say to the channels of each block: W silu(blend(V e(c), condition)).

    Args:
        features: number of features of the noise level.
        width: of the embedding.
        sizes: number of channels of each piece.
        balance: share of the condition.
    """

    def __init__(self, features: int, width: int, sizes: Sequence[int], balance: float) -> None:
        super().__init__()
        self.embed, self.hidden = MPFourier(features), MPLayer(features, width)
        self.out = MPLayer(width, sum(sizes))
        self.sizes, self.balance = list(sizes), balance

    def forward(self, c: Tensor, condition: Tensor | None = None) -> tuple[Tensor, ...]:
        """The pieces in turn, each (B, size, 1, 1), for noise levels c (B,) and a condition (B, width) or none."""
        z = self.hidden(self.embed(c[:1] if c.stride(0) == 0 else c))
        if condition is not None:
            z = blend(z, condition, self.balance)
        return torch.split(self.out(silu(z))[..., None, None], self.sizes, dim=1)
