"""The network of a classifier of noisy data: the down path of a U-Net, or residual layers, and logits."""

from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from typing import Annotated, cast

from torch import Tensor, nn

from scoresde.constraints import Count, Depth, Probability, at_least, fitting
from scoresde.described import Described
from scoresde.nets.arguments import Even, Multipliers, check_event, levels
from scoresde.nets.blocks import ResidualBlock, halving
from scoresde.nets.embedding import NoiseModulation
from scoresde.nets.layers import ImageAttention, convolution, group_norm, quick, through, zero
from scoresde.nets.mlp import MLPBlock
from scoresde.nets.skip_unet import Level

Classes = Annotated[int, at_least(2), fitting(4)]


class Encoder(Described, nn.Module):
    """The down path of a `UNet` with logits of classes at its end, modulated by the noise level: `net(x, c)`.

        h_l = attention(blocks(S h_{l-1})),   net(x, c) = D (mean over pixels of silu(norm(h_L))) + d

    S halves rows and columns, so every size fits. Vectors, events of shape (n,), have no pixels: all `blocks` of all
    levels are then those of a `ResidualMLP`, with the width of the coarsest level, and there is no norm. D and d are
    zero at the start: all classes are equally probable.

    Args:
        event_shape: shape of one sample: a vector, a series, an image or a volume.
        classes: number of classes.
        channels: width of the finest level.
        multipliers: width of each level in units of `channels`; as many as there are levels.
        blocks: residual blocks of a level.
        attention: levels with a self-attention layer, counted from 0, the finest, or from -1, the coarsest; not for
            vectors.
        heads: attention heads; must divide the width of the levels with attention.
        groups: groups of the group norms; must divide the width of every level; not used for vectors.
        embedding: number of features of the noise level; even.
        dropout: probability in [0, 1) of dropping a value inside the residual blocks while training.

    Raises:
        InputError: an argument out of its range.

    Dhariwal and Nichol 2021 (arXiv 2105.05233, section 4), with a mean in place of the attention over pixels.
    """

    def __init__(
        self,
        event_shape: tuple[Count, ...],
        classes: Classes,
        channels: Count = 32,
        multipliers: Multipliers = (1, 2, 4),
        *,
        blocks: Depth = 1,
        attention: tuple[int, ...] = (),
        heads: Count = 2,
        groups: Count = 8,
        embedding: Even = 64,
        dropout: Probability = 0.1,
    ) -> None:
        super().__init__()
        check_event(event_shape, (0, 1, 2, 3), "an encoder takes vectors, series, images or volumes")
        widths, attends = levels(channels, multipliers, attention)
        self.classes, width, ndim = classes, widths[-1], len(event_shape) - 1
        norm = partial(group_norm, groups=groups, least=1, eps=1e-5)
        if ndim == 0:
            count = len(widths) * blocks
            self.stem: nn.Module = nn.Linear(event_shape[0], width)
            self.down = nn.ModuleList([Level(MLPBlock(width, dropout, 0) for _ in range(count))])
            self.norm: nn.Module = nn.Identity()
            pieces = [width] * count
        else:
            norm2 = partial(norm, affine=False)  # scale and shift come from the noise level
            block = partial(ResidualBlock, norm=norm, norm2=norm2, pieces=2, dropout=dropout, event_ndim=ndim)
            attend = partial(ImageAttention, heads=heads, norm=norm, bias=False)
            self.stem = convolution(event_shape[0], widths[0], 3, ndim)
            self.down = nn.ModuleList()
            for own, attending in zip(widths, attends, strict=True):
                made = [block(own, own) for _ in range(blocks - 1)]
                self.down.append(Level([*made, block(own, own, attention=attend(own) if attending else None)]))
            for level, (fine, coarse) in zip(cast(Iterable[Level], self.down), pairwise(widths), strict=False):
                level.resample = halving(fine, coarse, ndim)
            self.norm = norm(width)
            pieces = [own for own in widths for _ in range(blocks)]
        self.modulation = NoiseModulation(pieces, embedding, max(ndim, 0))
        self.head = zero(nn.Linear(width, classes))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Logits (B, classes) of x (B, *event) at noise levels c (B,)."""
        pieces = iter(self.modulation(c))
        h = self.stem(quick(x))
        for level in cast(Iterable[Level], self.down):
            h = through(level.blocks, h, pieces)
            h = h if level.resample is None else level.resample(h)
        h = nn.functional.silu(self.norm(h))
        return cast(Tensor, self.head(h.flatten(2).mean(2) if h.ndim > 2 else h))
