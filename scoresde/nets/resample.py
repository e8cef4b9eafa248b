"""Half and double the resolution of images by a filter. Imports torch only."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

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
        out: Tensor = self.conv(h)
        return out
