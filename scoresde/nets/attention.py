"""Attention among tokens and among the pixels of images. Imports torch and this folder only."""

import math
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from scoresde.errors import at_least, require
from scoresde.nets.layers import Norm, zero


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of each head, heads side by side: (B, N, heads d) from q (B, N, heads, d).

    k and v (B or 1, L, heads, d).
    """
    if len(k) != len(q):
        k, v = (t.expand(len(q), *t.shape[1:]) for t in (k, v))
    y = functional.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return y.transpose(1, 2).flatten(2)


def heads_of(width: int, head_width: int) -> int:
    """The number of heads of `head_width` channels, or one head if that is 0.

    Raises:
        InputError: if the heads cannot be equal.
    """
    at_least(0, head_width=head_width)
    require(not head_width or width % head_width == 0, "head_width", head_width, f"it must divide {width} channels")
    return width // head_width if head_width else 1


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
        at_least(1, heads=heads)
        require(width % heads == 0, "heads", heads, f"it must divide the {width} channels that it attends to")
        super().__init__(width, heads, context, partial(nn.Linear, bias=bias))
        self.out = zero(nn.Linear(width, width))

    def among(self, h: Tensor, tokens: Tensor | None = None) -> Tensor:
        """What each of h (B, N, width) gathers from h, or from tokens (B or 1, L, context)."""
        out: Tensor = self.out(attend(*self.split(h, tokens)))
        return out

    def forward(self, h: Tensor, tokens: Tensor | None = None) -> Tensor:
        return self.among(h, tokens)


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
        y = self.among(self.norm(h).flatten(2).transpose(1, 2), tokens)
        return join(h, y.transpose(1, 2).reshape(h.shape), self.rescale)


def join(h: Tensor, branch: Tensor, rescale: bool) -> Tensor:
    """h + branch, divided by sqrt(2) to keep the variance if `rescale`."""
    out = h + branch
    return out * math.sqrt(0.5) if rescale else out
