"""How foreign tensors are laid out: what makes ours of them, and the inverse."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Form:
    """How a foreign tensor is laid out: `read` makes ours of it, `write` its inverse."""

    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor], Tensor]


def _swap(t: Tensor) -> Tensor:
    return torch.cat(t.chunk(2, -1)[::-1], -1)


def _first_half(t: Tensor) -> Tensor:
    return (torch.arange(len(t)) < len(t) // 2).to(t.dtype)


SAME = Form(lambda t: t, lambda t: t)
TRANSPOSED = Form(lambda t: t.T, lambda t: t.T)
NEGATED = Form(torch.neg, torch.neg)
SINES_FIRST = Form(_swap, _swap)  # columns of a layer over features (sines, cosines), where ours are (cosines, sines)
SCALE_AND_SHIFT = Form(lambda t: t + _first_half(t), lambda t: t - _first_half(t))  # biases of 1 + scale, and of shift


def interleaved(width: int) -> Form:
    """Rows (head, q k v, channel) with heads of `width` channels, where ours are (q k v, head, channel)."""
    return Form(
        lambda t: t.reshape(-1, 3, width, *t.shape[1:]).transpose(0, 1).flatten(0, 2),
        lambda t: t.reshape(3, -1, width, *t.shape[1:]).transpose(0, 1).flatten(0, 2),
    )
