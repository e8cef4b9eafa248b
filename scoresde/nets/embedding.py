"""How a network sees the noise level. Imports torch and the errors of this package only."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from scoresde.errors import require


class FourierEmbedding(nn.Module):
    """Features of a number per sample, at fixed frequencies in geometric progression.

        e(c) = (cos w_1 c, ..., cos w_n c, sin w_1 c, ..., sin w_n c),   w_1 = lowest, ..., w_n = highest

    The noise level c = ln(sigma/alpha)/4 runs from about -1.7 (data) to 1.3 (noise). With a lowest frequency of a
    half, e is one-to-one as far as |c| < 2 pi (sigma/alpha up to e^25). With a highest of eight, levels whose
    sigma/alpha differ by a factor of two are clearly apart; still finer features bring nothing.

    Args:
        size: number of features 2 n; even.
        lowest, highest: range of the frequencies, in radians per unit of c.

    Raises:
        InputError: a size that is not an even number >= 4, or frequencies that are not 0 < lowest < highest.

    Vaswani et al. 2017 (arXiv 1706.03762, section 3.5), with frequencies for a noise level in place of a position.
    """

    frequencies: Tensor

    def __init__(self, size: int = 64, lowest: float = 0.5, highest: float = 8.0) -> None:
        super().__init__()
        require(size >= 4 and size % 2 == 0, "size", size, "give an even integer >= 4")
        require(lowest > 0, "lowest", lowest, "give a frequency > 0")
        require(highest > lowest, "highest", highest, f"give a frequency above the lowest, {lowest}")
        exponents = torch.linspace(0, 1, size // 2, dtype=torch.float64)
        frequencies = lowest * (highest / lowest) ** exponents
        self.register_buffer("frequencies", frequencies.to(torch.get_default_dtype()))

    def forward(self, c: Tensor) -> Tensor:
        """Features (B, size), in the dtype of the module, of c (B,)."""
        angles = c[:, None] * self.frequencies  # in the finer of the two dtypes
        return torch.cat((angles.cos(), angles.sin()), dim=1).to(self.frequencies.dtype)


class NoiseModulation(nn.Module):
    """The scale and shift that the noise level gives to each block of a network.

        (scale_1, shift_1, scale_2, shift_2, ...) = W silu(V e(c) + b) + d,   e the Fourier embedding

    Scales begin near 1 and shifts near 0. One matrix product serves all blocks: in a small network a layer in every
    block would cost as much time as the blocks.

    Args:
        widths: the number of channels of each block.
        embedding: number of features of e, and width of the hidden layer.
        event_ndim: number of dimensions that follow the channels; 2 for images.

    Raises:
        InputError: an embedding that is not an even number >= 4.
    """

    def __init__(self, widths: Sequence[int], embedding: int, event_ndim: int = 0) -> None:
        super().__init__()
        require(embedding >= 4 and embedding % 2 == 0, "embedding", embedding, "give an even integer >= 4")
        self.embed = FourierEmbedding(embedding)
        self.hidden = nn.Linear(embedding, embedding)
        self.out = nn.Linear(embedding, 2 * sum(widths))
        self._sizes = [width for width in widths for _ in ("scale", "shift")]
        self._ones = (1,) * event_ndim
        with torch.no_grad():
            for scale in torch.split(self.out.bias, self._sizes)[::2]:
                scale += 1

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        """Scale and shift of each block in turn, each (B, width, 1, ...), for noise levels c (B,).

        If c is one number expanded to the batch (stride 0), they are computed once and have B = 1.
        """
        if c.stride(0) == 0:
            c = c[:1]
        out = self.out(functional.silu(self.hidden(self.embed(c))))
        return torch.split(out.reshape(*out.shape, *self._ones), self._sizes, dim=1)
