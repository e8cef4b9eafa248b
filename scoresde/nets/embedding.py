"""How a network sees the noise level. Imports torch, the errors of this package and this folder only."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from scoresde.constraints import Checked, Positive
from scoresde.errors import require
from scoresde.nets.arguments import Even


class Waves(Checked, nn.Module):
    """Features of a number per sample: cosines and sines at given frequencies.

        e(c) = (cos w_1 y, ..., cos w_n y, sin w_1 y, ..., sin w_n y),   y = factor c + offset

    The frequencies are a buffer, so they are kept with the weights and may be replaced.

    Args:
        frequencies: w (n,), in units of `unit`.
        factor: of the label y = factor c + offset of a noise level c.
        offset: of that label.
        unit: 1 for radians, 2 pi for cycles, per unit of y.

    Attributes:
        size: number of features.
    """

    frequencies: Tensor

    def __init__(self, frequencies: Tensor, factor: float = 1.0, offset: float = 0.0, unit: float = 1.0) -> None:
        super().__init__()
        self.factor, self.offset, self.unit, self.size = factor, offset, unit, 2 * len(frequencies)
        self.register_buffer("frequencies", frequencies.to(torch.get_default_dtype()))

    def forward(self, c: Tensor) -> Tensor:
        """Features (B, 2 n), in the dtype of the module, of c (B,)."""
        if self.factor != 1 or self.offset != 0:
            c = c * self.factor + self.offset
        angles = c[:, None] * self.frequencies  # in the finer of the two dtypes
        if self.unit != 1:
            angles = angles * self.unit
        return torch.cat((angles.cos(), angles.sin()), dim=1).to(self.frequencies.dtype)


class FourierEmbedding(Waves):
    """Features of a number per sample, at fixed frequencies in geometric progression.

        e(c) = (cos w_1 c, ..., cos w_n c, sin w_1 c, ..., sin w_n c),   w_1 = lowest, ..., w_n = highest

    The noise level c = ln(sigma/alpha)/4 runs from about -1.7 (data) to 1.3 (noise). With a lowest frequency of a
    half, e is one-to-one as far as |c| < 2 pi (sigma/alpha up to e^25). With a highest of eight, levels whose
    sigma/alpha differ by a factor of two are clearly apart; still finer features bring nothing.

    Args:
        size: number of features 2 n; even.
        lowest: smallest frequency, in radians per unit of c.
        highest: largest frequency.
        factor: the features are those of factor c + offset.
        offset: see `factor`.

    Raises:
        InputError: a size that is not an even number >= 4, or frequencies that are not 0 < lowest < highest.

    Vaswani et al. 2017 (arXiv 1706.03762, section 3.5), with frequencies for a noise level in place of a position.
    """

    def __init__(
        self, size: Even = 64, lowest: Positive = 0.5, highest: float = 8.0, factor: float = 1.0, offset: float = 0.0
    ) -> None:
        require(highest > lowest, "highest", highest, f"give a frequency above the lowest, {lowest}")
        exponents = torch.linspace(0, 1, size // 2, dtype=torch.float64)
        super().__init__(lowest * (highest / lowest) ** exponents, factor, offset)


class RandomFourierEmbedding(Waves):
    """Features of a number per sample, at frequencies drawn once from N(0, scale^2), in cycles per unit.

    Args:
        size: number of features 2 n; even.
        scale: standard deviation of the frequencies.
        factor: the features are those of factor c + offset.
        offset: see `factor`.

    Raises:
        InputError: a size that is not an even number >= 4, or a scale that is not positive.

    Tancik et al. 2020 (arXiv 2006.10739), as used in Song et al. 2021 (arXiv 2011.13456, appendix H).
    """

    def __init__(self, size: Even, scale: Positive = 16.0, factor: float = 1.0, offset: float = 0.0) -> None:
        super().__init__(scale * torch.randn(size // 2), factor, offset, 2 * math.pi)


class Modulation(nn.Module):
    """What the noise level and a condition say to each block of a network: its shift, or its scale and shift.

        z = V_n silu(... silu(V_1 e(c))) + condition,   (piece_1, piece_2, ...) = W silu(z) + d

    One matrix product serves all blocks: in a small network a layer in every block would cost as much time as the
    blocks. Row k of W belongs to the block that is k-th in the order of computation.

    Args:
        embed: makes features of noise levels.
        hidden: widths of z and of what comes before it, first to last.
        sizes: number of channels of each piece.
        event_ndim: number of dimensions that follow the channels; 2 for images.
        listens: the layer V_k to whose result the condition is added, -1 the last.
        activation: what is between two V.
    """

    def __init__(
        self,
        embed: Waves,
        hidden: Sequence[int],
        sizes: Sequence[int],
        event_ndim: int = 0,
        listens: int = -1,
        activation: Callable[[Tensor], Tensor] = nn.functional.silu,
    ) -> None:
        super().__init__()
        self.embed = embed
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([embed.size, *hidden]))
        self.out = nn.Linear(hidden[-1], sum(sizes))
        self.sizes = list(sizes)
        self._ones, self._listens, self._activation = (1,) * event_ndim, listens % len(hidden), activation

    def forward(self, c: Tensor, condition: Tensor | None = None) -> tuple[Tensor, ...]:
        """The pieces in turn, each (B, size, 1, ...), for noise levels c (B,) and a condition (B, width) or none.

        If c is one number expanded to the batch (stride 0), they are computed once and have B = 1, unless the
        condition has more.
        """
        if c.stride(0) == 0:
            c = c[:1]
        z = self.embed(c)
        for k, layer in enumerate(self.hidden):
            z = layer(z if k == 0 else self._activation(z))
            if condition is not None and k == self._listens:
                z = z + condition
        out = self.out(nn.functional.silu(z))
        return torch.split(out.reshape(*out.shape, *self._ones), self.sizes, dim=1)

    def parts(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """The rows of `out.weight` or `out.bias` that make each piece."""
        return torch.split(tensor, self.sizes)


class NoiseModulation(Modulation):
    """The scale and shift that the noise level gives to each block; scales begin near 1 and shifts near 0.

    Args:
        widths: the number of channels of each block.
        embedding: number of features of the noise level, and width of the hidden layer.
        event_ndim: number of dimensions that follow the channels; 2 for images.
    """

    def __init__(self, widths: Sequence[int], embedding: int, event_ndim: int = 0) -> None:
        pieces = [width for width in widths for _ in ("scale", "shift")]
        super().__init__(FourierEmbedding(embedding), [embedding], pieces, event_ndim)
        begin_at_one(self)


@torch.no_grad()
def begin_at_one(modulation: Modulation) -> Modulation:
    """The modulation with one added to the bias of every scale; its pieces are (scale, shift, scale, shift, ...)."""
    for scale in modulation.parts(modulation.out.bias)[::2]:
        scale += 1
    return modulation
