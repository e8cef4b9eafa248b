"""Layers that several networks share, and attention. Imports torch and the errors of this package only."""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from scoresde.errors import require

Norm = Callable[[int], nn.Module]
M = TypeVar("M", bound=nn.Module)
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CONVOLVE = (nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d)  # by the number of dimensions of events


def convolution(inputs: int, outputs: int, kernel: int, event_ndim: int = 2, stride: int = 1) -> Convolution:
    """A convolution of series, images or volumes that keeps their size at stride 1, and halves it at stride 2."""
    return _CONV[event_ndim - 1](inputs, outputs, kernel, stride=stride, padding=kernel // 2)


def group_norm(width: int, groups: int = 32, least: int = 4, eps: float = 1e-6, affine: bool = True) -> nn.GroupNorm:
    """A group norm of at most `groups` groups of at least `least` channels.

    Raises:
        InputError: if the number of groups does not divide the width.
    """
    number = max(1, min(groups, width // least))
    require(width % number == 0, "groups", groups, f"{width} channels cannot be in {number} equal groups")
    return nn.GroupNorm(number, width, eps, affine)


def scaled(conv: Convolution, x: Tensor, weight: float, bias: float) -> Tensor:
    """What `conv` makes of x, with its weight and bias times these factors: cheaper than to scale images."""
    own, function = cast(Tensor, conv.bias), CONVOLVE[conv.weight.ndim - 3]
    return function(x, conv.weight * weight, own * bias, conv.stride, conv.padding)


def kept(x: Tensor, dropout: float) -> Tensor:
    """Which values of x dropout keeps, True with probability 1 - dropout, by torch's global generator.

    On the processor 16 random bits decide on a value, three times faster than `torch.bernoulli`; the probability is
    right to 1e-5.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return torch.rand_like(x) >= dropout
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    keep = words.view(torch.int16)[: x.numel()] >= round(2**16 * dropout) - 2**15
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return keep.view(x.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
    return keep.view(x.shape)


def zero(module: M) -> M:
    """The module with all its parameters zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def quick(x: Tensor) -> Tensor:
    """x in the memory layout in which convolutions are quicker: channels last for images on the processor.

    On CUDA that is for the caller to choose, with the layout of the weights.
    """
    if x.device.type == "cpu" and x.ndim == 4:
        with suppress(RuntimeError):  # of torch.vmap, which knows no layouts
            return x.contiguous(memory_format=torch.channels_last)
    return x


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of each head, heads side by side: (B, N, heads d) from q (B, N, heads, d).

    k and v (B or 1, L, heads, d).
    """
    if len(k) != len(q):
        k, v = (t.expand(len(q), *t.shape[1:]) for t in (k, v))
    y = nn.functional.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return y.transpose(1, 2).flatten(2)


class Heads(nn.Module):
    """The layers of an attention, and q, k and v by heads.

    Args:
        width: number of channels.
        heads: attention heads; must divide the width.
        context: width of the tokens that k and v are made of; 0 for self-attention.
        layer: makes a layer with so many inputs and outputs.
    """

    def __init__(self, width: int, heads: int, context: int, layer: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        if context:
            self.q, self.kv = layer(width, width), layer(context, 2 * width)
        else:
            self.qkv = layer(width, 3 * width)
        self.heads, self.context = heads, context

    def split(self, h: Tensor, tokens: Tensor | None) -> tuple[Tensor, ...]:
        """q (B, N, heads, d) of h (B, N, width); k, v (B or 1, L, heads, d) of h or of tokens (B or 1, L, context)."""
        if not self.context:
            return self.qkv(h).unflatten(2, (3, self.heads, -1)).unbind(2)  # type: ignore[no-any-return]
        return self.q(h).unflatten(2, (self.heads, -1)), *self.kv(tokens).unflatten(2, (2, self.heads, -1)).unbind(2)


class Attention(Heads):
    """W softmax(q k^T / sqrt(d)) v among tokens; zero at the start, W being zero.

    Args:
        width: number of channels.
        heads: attention heads; must divide the width.
        bias: whether q, k and v have one.
        context: width of the tokens that k and v are made of; 0 for self-attention.

    Vaswani et al. 2017 (arXiv 1706.03762).
    """

    def __init__(self, width: int, heads: int, bias: bool = True, context: int = 0) -> None:
        require(width % heads == 0, "heads", heads, f"it must divide the {width} channels that it attends to")
        super().__init__(width, heads, context, partial(nn.Linear, bias=bias))
        self.out = zero(nn.Linear(width, width))

    def forward(self, h: Tensor, tokens: Tensor | None = None) -> Tensor:
        """What each of h (B, N, width) gathers from h, or from tokens (B or 1, L, context)."""
        return cast(Tensor, self.out(attend(*self.split(h, tokens))))


class ImageAttention(Attention):
    """h + attention over all pixels of norm(h), or from all pixels to tokens. Begins as the identity.

    Args:
        width: number of channels.
        heads: attention heads; must divide the width.
        norm: makes the norm of a width.
        bias: see `Attention`.
        context: see `Attention`.
        rescale: divide the sum by sqrt(2).
    """

    def __init__(
        self, width: int, heads: int, norm: Norm, bias: bool = True, context: int = 0, rescale: bool = False
    ) -> None:
        super().__init__(width, heads, bias, context)
        self.norm, self.rescale = norm(width), rescale

    def forward(self, h: Tensor, tokens: Tensor | None = None) -> Tensor:
        """The output (B, width, *event) for h of that shape."""
        y = super().forward(self.norm(h).flatten(2).transpose(1, 2), tokens)
        return join(h, y.transpose(1, 2).reshape(h.shape), self.rescale)


def through(modules: Iterable[nn.Module | None], h: Tensor, *given: Any) -> Tensor:
    """h after all of these modules that there are, one after the other, each called `module(h, *given)`."""
    for module in modules:
        if module is not None:
            h = module(h, *given)
    return h


def join(h: Tensor, branch: Tensor, rescale: bool) -> Tensor:
    """h + branch, divided by sqrt(2) to keep the variance if `rescale`."""
    out = h + branch
    return out * math.sqrt(0.5) if rescale else out
