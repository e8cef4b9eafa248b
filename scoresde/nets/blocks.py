"""The residual block of every convolutional network here, filters that halve and double, and heads."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from scoresde.nets.layers import Norm, convolution, kept, scaled, zero

BOX = (1.0, 1.0)
FIR = (1.0, 3.0, 3.0, 1.0)
_CONV = (functional.conv1d, functional.conv2d, functional.conv3d)
_TRANSPOSED = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)


class _Filter(nn.Module):
    """The kernel k ⊗ k ... of a separable filter, with sum `gain`, applied to each channel by itself."""

    kernel: Tensor

    def __init__(self, taps: Sequence[float], event_ndim: int, gain: float) -> None:
        super().__init__()
        one = torch.tensor(taps, dtype=torch.float64)
        one, kernel = one / one.sum(), torch.ones((), dtype=torch.float64)
        for _ in range(event_ndim):
            kernel = kernel[..., None] * one
        # a constant, and so no part of the weights
        kernel = (gain * kernel)[None, None].to(torch.get_default_dtype())
        self.register_buffer("kernel", kernel, persistent=False)
        self.padding = (len(taps) - 1) // 2

    def weight(self, h: Tensor) -> Tensor:
        """The kernel for every channel of h, (channels, 1, ...)."""
        return self.kernel.expand(h.shape[1], *self.kernel.shape[1:])


class Down(_Filter):
    """Every second value of the filtered image; zero outside of it.

        y[i] = sum_j k[j] x[2 i + j - p],   p = (len(k) - 1) // 2,   sum(k) = 1, in each dimension

    Args:
        taps: the filter, of even length and symmetric; `BOX` is the mean of two, `FIR` is (1, 3, 3, 1).
        event_ndim: number of dimensions that follow the channels.

    Zhang 2019 (arXiv 1904.11486); the filter is that of StyleGAN2 (arXiv 1912.04958).
    """

    def __init__(self, taps: Sequence[float] = BOX, event_ndim: int = 2) -> None:
        super().__init__(taps, event_ndim, 1.0)

    def forward(self, h: Tensor) -> Tensor:
        conv = _CONV[self.kernel.ndim - 3]
        return conv(h, self.weight(h), stride=2, padding=self.padding, groups=h.shape[1])


class Up(_Filter):
    """The filtered image of values with zeros between them, the transpose of `Down` times 2 in each dimension.

    Args:
        taps: the filter, as of `Down`; `BOX` repeats every value.
        event_ndim: number of dimensions that follow the channels.
    """

    def __init__(self, taps: Sequence[float] = BOX, event_ndim: int = 2) -> None:
        super().__init__(taps, event_ndim, 2.0**event_ndim)

    def forward(self, h: Tensor) -> Tensor:
        conv = _TRANSPOSED[self.kernel.ndim - 3]
        return conv(h, self.weight(h), stride=2, padding=self.padding, groups=h.shape[1])


class FilteredConv(_Filter):
    """A 3x3 convolution of stride 2 of the filtered image, which is padded once, for both; called like a block.

    Args:
        inputs: number of channels.
        outputs: number of channels of the result.
        taps: the filter, as of `Down`.
    """

    def __init__(self, inputs: int, outputs: int, taps: Sequence[float] = FIR) -> None:
        super().__init__(taps, 2, 1.0)
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=2)
        self.padding = len(taps) // 2

    def forward(self, h: Tensor, modulation: Iterator[Tensor] | None = None, tokens: Tensor | None = None) -> Tensor:
        h = functional.conv2d(h, self.weight(h), padding=self.padding, groups=h.shape[1])
        return cast(Tensor, self.conv(h))


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
        project: whether skip is a 1x1 convolution, as it must be where the number of channels changes.
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
        project: bool | None = None,
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
        self.skip = convolution(inputs, outputs, 1, event_ndim) if project or inputs != outputs else None
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
        y = functional.silu(self.norm1(h))
        if self.resample is not None:
            y, h = self.resample(y), self.resample(h)
        y = self._modulated(self.conv1(y), modulation)
        h = h if self.skip is None else self.skip(h)
        h = self._sum(h, y)
        if self.attention is not None:
            h = self.attention(h)
        if self.cross is not None:
            h = self.cross(h, tokens)
        return h

    def _modulated(self, y: Tensor, modulation: Iterator[Tensor]) -> Tensor:
        if len(self.sizes) == 2:
            scale, shift = next(modulation), next(modulation)
            return functional.silu(torch.addcmul(shift, self.norm2(y), scale))
        if self.sizes:
            y = y.add_(next(modulation))  # in place, for nobody else needs what the convolution gave
        return functional.silu(self.norm2(y))

    def _sum(self, h: Tensor, y: Tensor) -> Tensor:
        """(h + conv_2(dropout(y))) / sqrt(2), the factors being taken into conv_2."""
        size, keep = math.sqrt(0.5) if self.rescale else 1.0, 1.0
        if self.dropout and self.training:
            keep = 1 - self.dropout
            y = y * kept(y, self.dropout)
        if size == keep == 1:
            return h + cast(Tensor, self.conv2(y))
        return scaled(self.conv2, y, size / keep, size).add_(h, alpha=size)


class Head(nn.Module):
    """conv(silu(norm(h))), zero at the start."""

    def __init__(self, inputs: int, outputs: int, norm: Norm, event_ndim: int = 2) -> None:
        super().__init__()
        self.norm = norm(inputs)
        self.conv = zero(convolution(inputs, outputs, 3, event_ndim))

    def forward(self, h: Tensor) -> Tensor:
        return cast(Tensor, self.conv(functional.silu(self.norm(h))))


class StridedConv(nn.Module):
    """Every second value of a 3x3 convolution; called like a block.

    Args:
        inputs: number of channels.
        outputs: number of channels of the result.
        event_ndim: number of dimensions that follow the channels.
        pad: on `both` sides of the image, which halves any size n to ceil(n/2), or at its `end` only.
    """

    def __init__(self, inputs: int, outputs: int, event_ndim: int = 2, pad: Literal["both", "end"] = "both") -> None:
        super().__init__()
        self.ends: list[int] = [0, 1] * event_ndim if pad == "end" else []
        self.conv = convolution(inputs, outputs, 3, event_ndim, stride=2, padding=0 if self.ends else 1)

    def forward(self, h: Tensor, modulation: Iterator[Tensor] | None = None, tokens: Tensor | None = None) -> Tensor:
        return cast(Tensor, self.conv(functional.pad(h, self.ends) if self.ends else h))


class ResampledConv(nn.Module):
    """A resampling and then a 3x3 convolution, or the first alone; called like a block."""

    def __init__(self, inputs: int, outputs: int, resample: nn.Module, conv: bool = True) -> None:
        super().__init__()
        self.resample = resample
        self.conv = convolution(inputs, outputs, 3) if conv else None

    def forward(self, h: Tensor, modulation: Iterator[Tensor] | None = None, tokens: Tensor | None = None) -> Tensor:
        h = self.resample(h)
        return h if self.conv is None else self.conv(h)
