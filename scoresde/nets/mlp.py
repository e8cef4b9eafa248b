"""A residual network for vectors and other small events. Imports torch and this folder only."""

import math
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from scoresde.constraints import Count, Depth, Probability
from scoresde.described import Described
from scoresde.errors import require
from scoresde.nets.arguments import Even, Outputs
from scoresde.nets.condition import Cond, Kinds, Shares, Sizes, conditions
from scoresde.nets.embedding import NoiseModulation
from scoresde.nets.layers import Attention, through, zero


class MLPBlock(nn.Module):
    """h + B silu(A silu(scale h + shift)), then attention to tokens; begins as the identity, B being zero."""

    checkpointable = True  # trainer.checkpoint_activations keeps its inputs alone

    def __init__(self, width: int, dropout: float, context: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), zero(nn.Linear(width, width))
        self.cross = Attention(width, 1, context=context) if context else None
        self.dropout = dropout

    def forward(self, h: Tensor, modulation: Iterator[Tensor], tokens: Tensor | None = None) -> Tensor:
        scale, shift = next(modulation), next(modulation)
        y = nn.functional.silu(torch.addcmul(shift, h, scale))
        y = nn.functional.silu(self.first(y))
        y = nn.functional.dropout(y, self.dropout, self.training)
        h = h + self.second(y)
        return h if self.cross is None else h + self.cross(h[:, None], tokens)[:, 0]


class ResidualMLP(Described, nn.Module):
    """A residual multilayer perceptron whose blocks are modulated by the noise level: `net(x, c, cond)`.

        h_0 = A x + a,   h_k = h_{k-1} + B_k silu(A_k silu(scale_k(c) h_{k-1} + shift_k(c)) + a_k) + b_k
        net(x, c) = D silu(h_K) + d,   with B_k, b_k, D and d zero at the start

    Args:
        event_shape: shape of one sample; any shape, flattened inside.
        width: number of hidden units.
        blocks: number K of residual blocks.
        embedding: number of features of the noise level; even.
        outputs: channels of the output for each of the event; 2 where the model learns variances.
        dropout: probability in [0, 1) of dropping a hidden unit while training.
        condition: class, vector, tokens or image, or several by name, see `scoresde.nets.condition`; null for none.
            Every block attends to tokens.
        condition_size: number of classes, of numbers in the vector or in each token, or of channels; or sizes by name.
        condition_dropout: probability in [0, 1) of hiding a condition in training, for guidance, or several by name.

    Raises:
        InputError: an argument out of its range.
    """

    def __init__(
        self,
        event_shape: tuple[Count, ...],
        width: Count = 128,
        *,
        blocks: Depth = 3,
        embedding: Even = 64,
        outputs: Outputs = 1,
        dropout: Probability = 0.0,
        condition: Kinds = None,
        condition_size: Sizes = 0,
        condition_dropout: Shares = 0.1,
    ) -> None:
        super().__init__()
        size, self.outputs = math.prod(event_shape), outputs
        require(event_shape != () or outputs == 1, "outputs", outputs, "an event of shape () has no channels; give 1")
        self.condition = conditions(condition, condition_size, condition_dropout, embedding)
        wanted = "an event of shape () has no channels beside which an image could stand; give vector"
        require(event_shape != () or not self.condition.channels, "condition", "image", wanted)
        self.modulation = NoiseModulation([width] * blocks, embedding)
        self.first = nn.Linear(size + self.condition.channels * math.prod(event_shape[1:]), width)
        self.blocks = nn.ModuleList(MLPBlock(width, dropout, self.condition.context) for _ in range(blocks))
        self.last = zero(nn.Linear(width, outputs * size))

    def forward(self, x: Tensor, c: Tensor, cond: Cond = None) -> Tensor:
        """The output (B, outputs channels, ...) for x (B, *event), noise levels c (B,) and a condition."""
        y, vector, tokens = self.condition(cond, x)
        pieces = iter(self.modulation(c, vector))
        h = through(self.blocks, self.first(y.reshape(len(y), -1)), pieces, tokens)
        shape = (*(self.outputs * n for n in x.shape[1:2]), *x.shape[2:])
        return cast(Tensor, self.last(nn.functional.silu(h))).reshape(len(x), *shape)
