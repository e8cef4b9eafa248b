"""A residual network for vectors and other small events. Imports torch and this folder only."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from scoresde.errors import require
from scoresde.nets.embedding import NoiseModulation


class _Block(nn.Module):
    """h + B silu(A silu(scale h + shift)); begins as the identity, B being zero."""

    checkpointable = True  # trainer.checkpoint_activations keeps its input alone

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)
        self.dropout = dropout

    def forward(self, h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        y = functional.silu(torch.addcmul(shift, h, scale))
        y = functional.silu(self.first(y))
        if self.dropout and self.training:
            y = functional.dropout(y, self.dropout)
        out: Tensor = h + self.second(y)
        return out


class ResidualMLP(nn.Module):
    """A residual multilayer perceptron whose blocks are modulated by the noise level: `net(x, c)`.

        h_0 = A x + a,   h_k = h_{k-1} + B_k silu(A_k silu(scale_k(c) h_{k-1} + shift_k(c)) + a_k) + b_k
        net(x, c) = D silu(h_K) + d,   with B_k, b_k, D and d zero at the start

    Args:
        event_shape: shape of one sample; any shape, flattened inside.
        width: number of hidden units.
        blocks: number K of residual blocks.
        embedding: number of features of the noise level; even.
        dropout: probability in [0, 1) of dropping a hidden unit while training.

    Raises:
        InputError: an argument out of its range.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        width: int = 128,
        blocks: int = 3,
        embedding: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require(all(n >= 1 for n in event_shape), "event_shape", tuple(event_shape), "give sizes >= 1")
        require(width >= 1, "width", width, "give an integer >= 1")
        require(blocks >= 1, "blocks", blocks, "give an integer >= 1")
        require(0 <= dropout < 1, "dropout", dropout, "give a probability in [0, 1)")
        self._size = size = math.prod(event_shape)
        self.modulation = NoiseModulation([width] * blocks, embedding)
        self.first = nn.Linear(size, width)
        self.blocks = nn.ModuleList(_Block(width, dropout) for _ in range(blocks))
        self.last = nn.Linear(width, size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """The output (B, *event) for x (B, *event) at noise levels c (B,)."""
        modulation = iter(self.modulation(c))
        h = self.first(x.reshape(x.shape[0], self._size))
        for block in self.blocks:
            h = block(h, next(modulation), next(modulation))
        out: Tensor = self.last(functional.silu(h))
        return out.reshape(x.shape)
