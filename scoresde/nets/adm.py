"""ADM, the U-Net of Dhariwal and Nichol. Imports torch and this folder only."""

from functools import partial

from scoresde.errors import require
from scoresde.nets.blocks import Head
from scoresde.nets.condition import Kinds, Shares, Sizes, conditions
from scoresde.nets.embedding import FourierEmbedding, Modulation, begin_at_one
from scoresde.nets.layers import check_event, check_levels, check_widths, convolution, group_norm
from scoresde.nets.skip_unet import ResidualUNet, step_between


class ADM(ResidualUNet):
    """The U-Net of ADM: the noise level scales and shifts, and every block of a level attends: `net(x, c, cond)`.

    It differs from `NCSNpp` in its norms, scale norm(h) + shift in place of norm(h + shift), in attention by several
    heads, in both paths, and in plain sums. The noise level enters as the label noise_scale c. Its output is zero at
    the start.

    Args:
        event_shape: (channels, height, width) of one image; the sizes must be multiples of 2^(levels - 1).
        channels: width of the finest level.
        multipliers: width of each level in units of `channels`; each has half the rows and columns of the last.
        blocks: residual blocks of a level in the down path; there is one more in the up path.
        attention: levels with self-attention, counted from 0, the finest, or from -1, the coarsest. The middle of the
            network, at the coarsest level, attends in any case.
        head_width: channels of each attention head; 0 for one head.
        embedding: width of the embedding of the noise level, with a quarter as many features; 0 for 4 `channels`.
        noise_scale: see above; the features of the label have periods from 2 pi to 20000 pi.
        resample_blocks: change the resolution inside of residual blocks; else by a convolution between them.
        groups: number of groups of the group norms, at most.
        group_width: channels of a group, at least.
        dropout: probability in [0, 1) of dropping a value inside the residual blocks while training.
        condition: class, vector, tokens or image, or several by name, see `scoresde.nets.condition`; null for none.
        condition_size: number of classes, of numbers in the vector or in each token, or of channels; or sizes by name.
        condition_dropout: probability in [0, 1) of hiding a condition in training, for guidance, or several by name.

    Raises:
        InputError: an argument out of its range, and sizes that cannot be halved.

    Dhariwal and Nichol 2021 (arXiv 2105.05233, section 3 and appendix I).
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        channels: int = 192,
        multipliers: tuple[int, ...] = (1, 2, 3, 4),
        *,
        blocks: int = 3,
        attention: tuple[int, ...] = (1, 2, 3),
        head_width: int = 64,
        embedding: int = 0,
        noise_scale: float = 250.0,
        resample_blocks: bool = True,
        groups: int = 32,
        group_width: int = 1,
        dropout: float = 0.1,
        condition: Kinds = None,
        condition_size: Sizes = 0,
        condition_dropout: Shares = 0.1,
    ) -> None:
        check_event(event_shape, (2,), "an ADM takes images, (channels, height, width)")
        widths = check_widths(channels, multipliers, blocks, dropout)
        attended = check_levels("attention", attention, len(widths))
        width = embedding or 4 * channels
        name = "embedding" if embedding else "channels"
        wanted = "give a multiple of 8, >= 16" if embedding else "give an even integer >= 4"
        require(width >= 16 and width % 8 == 0, name, embedding or channels, wanted)
        given = conditions(condition, condition_size, condition_dropout, width)
        super().__init__(event_shape, len(widths), given)
        norm = partial(group_norm, groups=groups, least=group_width, eps=1e-5)
        self.options, self.head_width = {"norm": norm, "pieces": 2, "dropout": dropout}, head_width
        self.between = None if resample_blocks else step_between
        self.stem = convolution(event_shape[0] + given.channels, widths[0], 3)
        self.assemble(widths, blocks, attended, False)
        self.head = Head(widths[0], event_shape[0], norm)
        embed = FourierEmbedding(width // 4, 1e-4, 1.0, noise_scale)
        self.modulation = begin_at_one(Modulation(embed, width // 4, [width] * 2, self.pieces(), 2))
