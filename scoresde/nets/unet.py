"""A U-Net for series, images and volumes of any size, light enough for a plain processor."""

from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from scoresde.constraints import Count, Depth, Probability
from scoresde.described import Described
from scoresde.nets.arguments import Even, Multipliers, Outputs, check_event, levels
from scoresde.nets.blocks import Head, ResidualBlock, Up, halving
from scoresde.nets.condition import Cond, Kinds, Shares, Sizes, conditions
from scoresde.nets.embedding import NoiseModulation
from scoresde.nets.layers import ImageAttention, convolution, group_norm, quick, through
from scoresde.nets.skip_unet import Level


class UNet(Described, nn.Module):
    """A U-Net whose residual blocks are modulated by the noise level: `net(x, c, cond)`, for events of any size.

    Events are series (channels, length), images (channels, height, width) or volumes (channels, depth, height, width).
    Level l has `channels * multipliers[l]` channels and half the rows and columns of level l - 1. Each level has
    `blocks` residual blocks in the down path and as many in the up path, where the result of the down path is added:

        down    h_l = attention(blocks(S h_{l-1}))      S: 3x3, stride 2
        up      h_l <- blocks(h_l + double(U h_{l+1}))  U: 3x3; double: each pixel becomes 2x2

    A stride of 2 takes n rows to ceil(n/2), and doubling gives n or n + 1, of which n are kept. So every height and
    width fits and nothing is padded: group norm and attention see pixels of the image alone, and an image whose sides
    are multiples of 2^(levels-1) is treated as in any U-Net. The network may be called with other heights and widths
    than those of `event_shape`. Its output is zero at the start.

    Args:
        event_shape: shape of one sample, see above.
        channels: width of the finest level.
        multipliers: width of each level in units of `channels`; as many as there are levels.
        blocks: residual blocks of a level in each path.
        attention: levels with a self-attention layer, counted from 0, the finest, or from -1, the coarsest. Its cost
            grows with the square of the number of pixels of the level.
        heads: attention heads; must divide the width of the levels with attention.
        groups: groups of the group norms, at most one for each channel; must divide the width of every level.
        embedding: number of features of the noise level; even.
        outputs: channels of the output for each of the event; 2 where the model learns variances.
        dropout: probability in [0, 1) of dropping a value inside the residual blocks while training.
        condition: class, vector, tokens or image, or several by name, see `scoresde.nets.condition`; null for none.
            Tokens are attended to beside each self-attention, and at the coarsest level in any case.
        condition_size: number of classes, of numbers in the vector or in each token, or of channels; or sizes by name.
        condition_dropout: probability in [0, 1) of hiding a condition in training, for guidance, or several by name.

    Raises:
        InputError: an argument out of its range.

    Ronneberger et al. 2015 (arXiv 1505.04597); blocks of Dhariwal and Nichol 2021 (arXiv 2105.05233, section 3.1).
    """

    def __init__(
        self,
        event_shape: tuple[Count, ...],
        channels: Count = 32,
        multipliers: Multipliers = (1, 2),
        *,
        blocks: Depth = 1,
        attention: tuple[int, ...] = (),
        heads: Count = 2,
        groups: Count = 8,
        embedding: Even = 64,
        outputs: Outputs = 1,
        dropout: Probability = 0.0,
        condition: Kinds = None,
        condition_size: Sizes = 0,
        condition_dropout: Shares = 0.1,
    ) -> None:
        super().__init__()
        what = "a U-Net takes series, images or volumes, such as (channels, height, width)"
        check_event(event_shape, (1, 2, 3), what)
        widths, attends = levels(channels, multipliers, attention)
        self.condition = conditions(condition, condition_size, condition_dropout, embedding)
        ndim, context = len(event_shape) - 1, self.condition.context
        norm = partial(group_norm, groups=groups, least=1, eps=1e-5)
        norm2 = partial(norm, affine=False)  # scale and shift come from the noise level
        block = partial(ResidualBlock, norm=norm, norm2=norm2, pieces=2, dropout=dropout, event_ndim=ndim)
        attend = partial(ImageAttention, heads=heads, norm=norm, bias=False)  # softmax sees no constant in every key

        def stage(width: int, attends: bool = False, crosses: bool = False) -> Level:
            made = [block(width, width) for _ in range(blocks - 1)]
            attention = attend(width) if attends else None  # which follows the last block in the down path
            cross = attend(width, context=context) if crosses and context else None
            return Level([*made, block(width, width, attention=attention, cross=cross)])

        pairs = list(pairwise(widths))  # (finer, coarser)
        order = [*widths, *widths[::-1]]  # all levels downwards, then all levels upwards
        self.modulation = NoiseModulation([w for w in order for _ in range(blocks)], embedding, ndim)
        self.stem = convolution(event_shape[0] + self.condition.channels, widths[0], 3, ndim)
        crosses = [*attends[:-1], True]
        self.down = nn.ModuleList(map(stage, widths, attends, crosses))
        for level, (fine, coarse) in zip(cast(Iterable[Level], self.down), pairs, strict=False):
            level.resample = halving(fine, coarse, ndim)
        self.middle = stage(widths[-1])
        self.up = nn.ModuleList(stage(width) for width in widths[-2::-1])
        for level, (fine, coarse) in zip(cast(Iterable[Level], self.up), reversed(pairs), strict=True):
            level.resample = convolution(coarse, fine, 3, ndim)
        self.doubled = Up(event_ndim=ndim)
        self.head = Head(widths[0], outputs * event_shape[0], norm, ndim)

    def forward(self, x: Tensor, c: Tensor, cond: Cond = None) -> Tensor:
        """The output (B, channels, *sizes) for x of that shape, noise levels c (B,) and a condition."""
        x, vector, tokens = self.condition(cond, x)
        pieces = iter(self.modulation(c, vector))
        h = self.stem(quick(x))
        passed = []
        for level in cast(Iterable[Level], self.down):
            h = through(level.blocks, h, pieces, tokens)
            if level.resample is not None:
                passed.append(h)
                h = level.resample(h)
        h = through(self.middle.blocks, h, pieces)
        for level in cast(Iterable[Level], self.up):
            skip = passed.pop()
            h = self.doubled(cast(nn.Module, level.resample)(h))
            h = h[(..., *(slice(n) for n in skip.shape[2:]))] + skip
            h = through(level.blocks, h, pieces)
        return cast(Tensor, self.head(h)).contiguous()
