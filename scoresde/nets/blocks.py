"""The residual block of every convolutional network here, filters that halve and double, and heads."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from scoresde.nets.layers import CONVOLVE, Norm, convolution, kept, scaled, through, zero

Taps = tuple[float, ...]
Pad = Literal["both", "end"]
BOX: Taps = (1.0, 1.0)
FIR: Taps = (1.0, 3.0, 3.0, 1.0)
_TRANSPOSED = (nn.functional.conv_transpose1d, nn.functional.conv_transpose2d, nn.functional.conv_transpose3d)


class _Filter(nn.Module):
    """The kernel k ⊗ k ... of a separable filter, applied to each channel by itself.

    Attributes:
        functions: what applies it, by the number of dimensions of events.
        gain: the sum of k.
        stride: of these functions.
    """

    functions: Sequence[Callable[..., Tensor]] = CONVOLVE
    gain = 1.0
    stride = 2
    kernel: Tensor

    def __init__(self, taps: Taps = BOX, event_ndim: int = 2) -> None:
        super().__init__()
        one, kernel = torch.tensor(taps, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
        for _ in range(event_ndim):
            kernel = kernel[..., None] * (self.gain * one / one.sum())
        # a constant, and so no part of the weights
        self.register_buffer("kernel", kernel.to(torch.get_default_dtype()), persistent=False)
        self.padding = len(taps) // 2 + 1 - self.stride

    def forward(self, h: Tensor) -> Tensor:
        function, weight = self.functions[self.kernel.ndim - 3], self.kernel.expand(h.shape[1], *self.kernel.shape[1:])
        return function(h, weight, stride=self.stride, padding=self.padding, groups=h.shape[1])


class Down(_Filter):
    """Every second value of the filtered image; zero outside of it.

        y[i] = sum_j k[j] x[2 i + j - p],   p = (len(k) - 1) // 2,   sum(k) = 1, in each dimension

    Args:
        taps: the filter, of even length and symmetric; `BOX` is the mean of two, `FIR` is (1, 3, 3, 1).
        event_ndim: number of dimensions that follow the channels.

    Zhang 2019 (arXiv 1904.11486); the filter is that of StyleGAN2 (arXiv 1912.04958).
    """


class Up(_Filter):
    """The filtered image of values with zeros between them, the transpose of `Down` times 2 in each dimension.

    Args:
        taps: the filter, as of `Down`; `BOX` repeats every value.
        event_ndim: number of dimensions that follow the channels.
    """

    functions = _TRANSPOSED
    gain = 2.0


class Blur(_Filter):
    """The filtered image, padded for a 3x3 convolution of stride 2 as well.

    Args:
        taps: the filter, as of `Down`.
        event_ndim: number of dimensions that follow the channels.
    """

    stride = 1


class ResidualBlock(nn.Module):
    """skip(R h) + conv_2(silu(norm_2(conv_1(R silu(norm_1(h))) + shift))), then attention; R doubles, halves or keeps.

    With scale and shift in place of a shift, silu(scale norm_2(conv_1(...)) + shift). The second term begins at zero.

    Args:
        inputs: number of channels.
        outputs: number of channels of the result.
        norm: makes the norm of a width.
        pieces: what the noise level gives: 0 nothing, 1 a shift, 2 a scale and a shift.
        dropout: probability of dropping a value in front of conv_2 in training.
        rescale: divide the sum by sqrt(2).
        resample: R.
        project: whether skip is a 1x1 convolution if there is R, as it must be where the number of channels changes.
        attention: self-attention among the pixels, after the sum.
        cross: attention to the tokens of a condition, after that.
        event_ndim: number of dimensions that follow the channels.

    Ho et al. 2020 (arXiv 2006.11239); R inside the block: Brock et al. 2019 (arXiv 1809.11096) and Song et al. 2021
    (arXiv 2011.13456, appendix H); scale and shift: Dhariwal and Nichol 2021 (arXiv 2105.05233).
    """

    checkpointable = True  # trainer.checkpoint_activations keeps its inputs alone

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        norm: Norm,
        norm2: Norm | None = None,
        pieces: Literal[0, 1, 2] = 1,
        dropout: float = 0.0,
        rescale: bool = False,
        resample: nn.Module | None = None,
        project: bool = False,
        attention: nn.Module | None = None,
        cross: nn.Module | None = None,
        event_ndim: int = 2,
    ) -> None:
        super().__init__()
        self.norm1 = norm(inputs)
        self.resample = resample
        self.conv1 = convolution(inputs, outputs, 3, event_ndim)
        self.norm2 = (norm2 or norm)(outputs)
        self.conv2 = zero(convolution(outputs, outputs, 3, event_ndim))
        projects = inputs != outputs or (project and resample is not None)
        self.skip = convolution(inputs, outputs, 1, event_ndim) if projects else None
        self.attention, self.cross = attention, cross
        self.sizes = [outputs] * pieces
        self.dropout, self.rescale = dropout, rescale

    def forward(self, h: Tensor, modulation: Iterator[Tensor], tokens: Tensor | None = None) -> Tensor:
        """The output (B, outputs, *event) for h (B, inputs, *event).

        Args:
            h: features.
            modulation: gives the next piece of `Modulation` for each of `sizes`.
            tokens: of a condition, if the block has `cross`.
        """
        y = nn.functional.silu(self.norm1(h))
        if self.resample is not None:
            y, h = self.resample(y), self.resample(h)
        y = self._modulated(self.conv1(y), modulation)
        h = self._sum(through([self.skip], h), y)
        return through((self.attention, self.cross), h, tokens)

    def _modulated(self, y: Tensor, modulation: Iterator[Tensor]) -> Tensor:
        if len(self.sizes) == 2:
            scale, shift = next(modulation), next(modulation)
            return nn.functional.silu(torch.addcmul(shift, self.norm2(y), scale))
        if self.sizes:
            y = y.add_(next(modulation))  # in place, for nobody else needs what the convolution gave
        return nn.functional.silu(self.norm2(y))

    def _sum(self, h: Tensor, y: Tensor) -> Tensor:
        """(h + conv_2(dropout(y))) / sqrt(2), the factors being taken into conv_2."""
        size, keep = math.sqrt(0.5) if self.rescale else 1.0, 1.0
        if self.dropout and self.training:
            keep = 1 - self.dropout
            y = y * kept(y, self.dropout)
        if size == keep == 1:
            return h + cast(Tensor, self.conv2(y))
        return scaled(self.conv2, y, size / keep, size).add_(h, alpha=size)


class Head(nn.Sequential):
    """conv(silu(norm(h))), zero at the start."""

    def __init__(self, inputs: int, outputs: int, norm: Norm, event_ndim: int = 2) -> None:
        conv = zero(convolution(inputs, outputs, 3, event_ndim))
        super().__init__(OrderedDict(norm=norm(inputs), silu=nn.SiLU(), conv=conv))


class ResampledConv(nn.Module):
    """A resampling and then a convolution, or the first alone; called like a block."""

    def __init__(self, resample: nn.Module, conv: nn.Module | None) -> None:
        super().__init__()
        self.resample, self.conv = resample, conv

    def forward(self, h: Tensor, modulation: Iterator[Tensor] | None = None, tokens: Tensor | None = None) -> Tensor:
        return through((self.resample, self.conv), h)


def halving(inputs: int, outputs: int, event_ndim: int = 2, taps: Taps = BOX, pad: Pad = "both") -> ResampledConv:
    """A 3x3 convolution of stride 2.

    Args:
        inputs: number of channels.
        outputs: number of channels of the result.
        event_ndim: number of dimensions that follow the channels.
        taps: a filter of images, in front of the convolution if it is wider than two.
        pad: without such a filter, on `both` sides, which halves any size n to ceil(n/2), or images at their `end`.
    """
    if len(taps) == 2 and pad == "both":
        return ResampledConv(nn.Identity(), convolution(inputs, outputs, 3, event_ndim, stride=2))
    padded = Blur(taps) if len(taps) > 2 else nn.ZeroPad2d((0, 1, 0, 1))
    return ResampledConv(padded, nn.Conv2d(inputs, outputs, 3, stride=2))


def step_between(width: int, resample: nn.Module, taps: Taps = BOX, conv: bool = True, pad: Pad = "both") -> nn.Module:
    """A step between two levels without a residual block: `halving`, or a convolution of doubled pixels, if `conv`."""
    if isinstance(resample, Up) or not conv:
        return ResampledConv(resample, convolution(width, width, 3) if conv else None)
    return halving(width, width, taps=taps, pad=pad)
