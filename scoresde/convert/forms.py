"""How foreign tensors are laid out: functions that make ours of them."""

from collections.abc import Callable

import torch
from torch import Tensor

Form = Callable[[Tensor], Tensor]


def same(t: Tensor) -> Tensor:
    return t


def sines_first(t: Tensor) -> Tensor:
    """Columns of a layer over features (sines, cosines), where ours are (cosines, sines)."""
    return torch.cat(t.chunk(2, -1)[::-1], -1)


def scale_and_shift(t: Tensor) -> Tensor:
    """Biases of 1 + scale, and of shift."""
    return t + (torch.arange(len(t)) < len(t) // 2).to(t.dtype)


def interleaved(width: int) -> Form:
    """Rows (head, q k v, channel) with heads of `width` channels, where ours are (q k v, head, channel)."""
    return lambda t: t.reshape(-1, 3, width, *t.shape[1:]).transpose(0, 1).flatten(0, 2)


def by_heads(heads: int) -> Form:
    """Rows (head, q k v, channel) with so many heads, where ours are (q k v, head, channel)."""
    return lambda t: t.reshape(heads, 3, -1, *t.shape[1:]).transpose(0, 1).flatten(0, 2)
