"""A transformer over the patches of an image. Imports torch and this folder only."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from scoresde.constraints import Count, Depth, Positive, Probability
from scoresde.described import Described
from scoresde.errors import require
from scoresde.nets.arguments import MultipleOf4, Outputs, check_divides, check_event
from scoresde.nets.condition import Cond, Kinds, Shares, Sizes, conditions
from scoresde.nets.embedding import FourierEmbedding, Modulation
from scoresde.nets.layers import Attention, through, zero


class DiT(Described, nn.Module):
    """A transformer whose blocks the noise level scales, shifts and gates (adaLN-zero): `net(x, c, cond)`.

        h = P patches(x) + positions;  each block:
        h <- h + gate_1 attention((1 + scale_1) norm(h) + shift_1)
        h <- h + gate_2 mlp((1 + scale_2) norm(h) + shift_2)
        net(x, c) = unpatch(Q ((1 + scale) norm(h) + shift))

    Gates, and Q, are zero at the start, so every block begins as the identity and the output as zero. Positions are
    computed for the size at hand: the network may be called with other heights and widths than those of
    `event_shape`. The noise level enters as the label noise_scale c.

    Args:
        event_shape: (channels, height, width) of one image; the sizes must be multiples of `patch`.
        patch: rows and columns of a patch.
        width: number of channels; a multiple of 4.
        depth: number of blocks.
        heads: attention heads; must divide the width.
        ratio: hidden units of the MLPs in units of `width`.
        noise_scale: see above; the features of the label have periods from 2 pi to 20000 pi.
        outputs: channels of the output for each of the event; 2 where the model learns variances.
        dropout: probability in [0, 1) of dropping a hidden unit of the MLPs while training.
        condition: class, vector, tokens or image, or several by name, see `scoresde.nets.condition`; null for none.
            Every block attends to tokens.
        condition_size: number of classes, of numbers in the vector or in each token, or of channels; or sizes by name.
        condition_dropout: probability in [0, 1) of hiding a condition in training, for guidance, or several by name.

    Raises:
        InputError: an argument out of its range, and sizes that are no multiples of the patch.

    Peebles and Xie 2023 (arXiv 2212.09748).
    """

    def __init__(
        self,
        event_shape: tuple[Count, ...],
        patch: Count = 2,
        *,
        width: MultipleOf4 = 384,
        depth: Depth = 12,
        heads: Count = 6,
        ratio: Positive = 4.0,
        noise_scale: Positive = 250.0,
        outputs: Outputs = 1,
        dropout: Probability = 0.0,
        condition: Kinds = None,
        condition_size: Sizes = 0,
        condition_dropout: Shares = 0.1,
    ) -> None:
        super().__init__()
        check_event(event_shape, (2,), "a DiT takes images, (channels, height, width)")
        require(ratio * width >= 1, "ratio", ratio, f"give a number >= 1/{width}")
        check_divides(event_shape[1:], patch)
        self.patch, pixels = patch, event_shape[0] * patch**2
        self.condition = conditions(condition, condition_size, condition_dropout, width)
        sizes = [width] * (6 * depth + 2)
        self.modulation = Modulation(FourierEmbedding(256, 1e-4, 1.0, noise_scale), [width] * 2, sizes)
        self.first = nn.Linear(pixels + self.condition.channels * patch**2, width)
        hidden, context = int(ratio * width), self.condition.context
        self.blocks = nn.ModuleList(DiTBlock(width, heads, hidden, dropout, context) for _ in range(depth))
        self.norm = _norm(width)
        self.last = nn.Linear(width, outputs * pixels)
        _initialise(self)

    def forward(self, x: Tensor, c: Tensor, cond: Cond = None) -> Tensor:
        """The output (B, channels, height, width) for x of that shape, noise levels c (B,) and a condition.

        Raises:
            InputError: sizes that are no multiples of the patch, a condition that does not fit.
        """
        check_divides(x.shape[2:], self.patch, "x")
        y, vector, tokens = self.condition(cond, x)
        pieces = iter([piece[:, None] for piece in self.modulation(c, vector)])
        patches = nn.functional.pixel_unshuffle(y, self.patch)
        h = self.first(patches.flatten(2).transpose(1, 2).contiguous())
        h = h + sincos_positions(patches.shape[2], patches.shape[3], h.shape[2], h)
        h = through(self.blocks, h, pieces, tokens)
        out = self.last(modulated(self.norm(h), pieces)).transpose(1, 2).unflatten(2, patches.shape[2:])
        return nn.functional.pixel_shuffle(out, self.patch).contiguous()


class DiTBlock(nn.Module):
    """Attention among the patches, attention to tokens if there are any, and an MLP; see `DiT`."""

    checkpointable = True  # trainer.checkpoint_activations keeps its inputs alone

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, context: int) -> None:
        super().__init__()
        self.norm1, self.attention = _norm(width), Attention(width, heads)
        self.norm_cross = _norm(width) if context else None
        self.cross = Attention(width, heads, context=context) if context else None
        self.norm2, self.rise, self.fall = _norm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = dropout

    def forward(self, h: Tensor, modulation: Iterator[Tensor], tokens: Tensor | None = None) -> Tensor:
        """The output (B, N, width) for h of that shape, six pieces of the modulation, and tokens."""
        y = self.attention(modulated(self.norm1(h), modulation))
        h = torch.addcmul(h, next(modulation), y)
        if self.cross is not None and self.norm_cross is not None:
            h = h + self.cross(self.norm_cross(h), tokens)
        y = nn.functional.gelu(self.rise(modulated(self.norm2(h), modulation)), approximate="tanh")
        y = nn.functional.dropout(y, self.dropout, self.training)
        return torch.addcmul(h, next(modulation), self.fall(y))


def modulated(h: Tensor, modulation: Iterator[Tensor]) -> Tensor:
    """(1 + scale) h + shift, with the next two pieces: shift, scale."""
    shift, scale = next(modulation), next(modulation)
    return torch.addcmul(shift, h, 1 + scale)


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)  # scale and shift come from the noise level


@torch.no_grad()
def _initialise(net: DiT) -> None:
    """Weights uniform with variance 2 / (inputs + outputs), biases zero; small ones for the noise level; the zeros."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for layer in net.modulation.hidden:
        nn.init.normal_(layer.get_parameter("weight"), std=0.02)
    for module in net.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, Attention) and module.context:
            zero(module.out)  # which has no gate
    zero(net.modulation.out)
    zero(net.last)


def sincos_positions(rows: int, columns: int, width: int, like: Tensor) -> Tensor:
    """Features (rows columns, width) of the places of a grid: of the column, then of the row, each sines then cosines.

    The frequencies are 10000^(-i/n), n = width/4, in radians per column and row, so a place is known by its distance
    from the corner, whatever the size and aspect ratio of the grid.

    Dosovitskiy et al. 2021 (arXiv 2010.11929) as fixed by He et al. 2022 (arXiv 2111.06377).
    """
    frequencies = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64, device=like.device) / (width // 4))

    def one(n: int) -> Tensor:
        angles = torch.arange(n, dtype=torch.float64, device=like.device)[:, None] * frequencies
        return torch.cat((angles.sin(), angles.cos()), 1).to(like.dtype)

    of_row = one(rows)[:, None].expand(rows, columns, -1)
    of_column = one(columns)[None].expand(rows, columns, -1)
    return torch.cat((of_column, of_row), 2).flatten(0, 1)
