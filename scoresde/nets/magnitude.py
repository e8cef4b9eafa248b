"""Layers that preserve the magnitude of what passes through. Imports torch and this folder only.

The magnitude of a vector is the root of the mean of its squares; a layer preserves it in expectation, for uncorrelated
inputs of magnitude one. Karras et al. 2024 (arXiv 2312.02696), whose equations are named below.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from scoresde.nets.layers import Heads, attend

_SILU = 0.596  # magnitude of silu(x) for x ~ N(0, 1)
_TINY = 1e-4


def unit(x: Tensor, *dims: int) -> Tensor:
    """x with magnitude one along `dims`."""
    n = math.prod([x.shape[d] for d in dims])
    dtype = torch.promote_types(x.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(x, dim=dims, keepdim=True, dtype=dtype)
    scale = _TINY + norm * math.sqrt(1 / n)
    return x / scale.to(x.dtype)


def silu(x: Tensor) -> Tensor:
    """silu(x) / 0.596 (eq. 81)."""
    return nn.functional.silu(x) / _SILU


def blend(a: Tensor, b: Tensor, t: float = 0.5) -> Tensor:
    """((1 - t) a + t b) / sqrt((1 - t)^2 + t^2), the sum (eq. 88)."""
    size = math.hypot(1 - t, t)
    return torch.add(a * ((1 - t) / size), b, alpha=t / size)


def concatenate(a: Tensor, b: Tensor, t: float = 0.5) -> Tensor:
    """Both along dimension 1, weighted so that b contributes as much as its share t, whatever its width (eq. 103)."""
    n, m = a.shape[1], b.shape[1]
    size = math.sqrt((n + m) / ((1 - t) ** 2 + t**2))
    return torch.cat((a * (size * (1 - t) / math.sqrt(n)), b * (size * t / math.sqrt(m))), 1)


class MPLayer(nn.Module):
    """A linear layer or convolution without bias, W x with rows of W of norm one (eq. 47 and 66).

        W_i = gain w_i / |w_i|

    In training w is itself scaled back to rows of magnitude one each time, so that what the optimizer does to it is a
    turn of constant speed (forced weight normalisation, eq. 66).

    Args:
        inputs: number of channels.
        outputs: number of channels of the result.
        kernel: size of the convolution kernel; 0 for a linear layer, over the last dimension.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *(kernel, kernel) if kernel else ()))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        dims = range(1, self.weight.ndim)
        if self.training:
            # by .data: a second call before the gradient is taken must not count as a change, for it is none
            self.weight.data.copy_(unit(self.weight.detach(), *dims))
        w = unit(self.weight, *dims) * (gain / math.sqrt(self.weight[0].numel()))
        if self.weight.ndim == 2:
            return nn.functional.linear(x, w.to(x.dtype))
        return nn.functional.conv2d(x, w.to(x.dtype), padding=self.weight.shape[-1] // 2)


class MPFourier(nn.Module):
    """sqrt(2) cos(2 pi (f c + phi)) with f ~ N(0, 1) and phi ~ U(0, 1), drawn once (eq. 75)."""

    frequencies: Tensor
    phases: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 * math.pi * torch.randn(size))
        self.register_buffer("phases", 2 * math.pi * torch.rand(size))

    def forward(self, c: Tensor) -> Tensor:
        """Features (B, size) of c (B,)."""
        angles = c[:, None] * self.frequencies + self.phases
        return (angles.cos() * math.sqrt(2)).to(self.frequencies.dtype)


class MPAttention(Heads):
    """Attention by the angle between q and k, each of magnitude one, blended into h (section 2.3).

    Args:
        width: number of channels.
        heads: attention heads; must divide the width.
        context: width of the tokens that k and v are made of; 0 for self-attention.
        balance: share of the attention in the blend.
    """

    def __init__(self, width: int, heads: int, context: int = 0, balance: float = 0.3) -> None:
        super().__init__(width, heads, context, MPLayer)
        self.out = MPLayer(width, width)
        self.balance = balance

    def forward(self, h: Tensor, tokens: Tensor | None = None) -> Tensor:
        """The output (B, width, height, width) for h of that shape."""
        parts = self.split(h.flatten(2).transpose(1, 2), tokens)
        y = self.out(attend(*(unit(part, 3) for part in parts)))
        return blend(h, y.transpose(1, 2).reshape(h.shape), self.balance)


class OneHot(nn.Module):
    """A linear layer of classes: W sqrt(n) e_k for class k of n."""

    def __init__(self, layer: MPLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, k: Tensor) -> Tensor:
        n = self.layer.weight.shape[1]
        return cast(Tensor, self.layer(nn.functional.one_hot(k, n).to(self.layer.weight.dtype) * math.sqrt(n)))
