"""Some of the frequencies are seen, as in magnetic resonance imaging."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.constraints import Fraction, NonNegative, NonNegativeInt, ProperFraction
from scoresde.noise import Noise
from scoresde.observation.base import Observation


class Fourier(Observation):
    """A share of the frequencies, in the real form of Hartley; A A^T = I.

        h_k = Re f_k - Im f_k,     f the orthonormal discrete Fourier transform

    With k also -k is seen, and h_k and h_-k hold the complex f_k: f_k = (h_k + h_-k) / 2 - i (h_k - h_-k) / 2.

    Args:
        event_shape: of one item, (size,) or (channels, *sizes).
        share: of the frequencies, those that are seen.
        center: of these, the share that are the lowest of all; the others are random.
        seed: of the random ones.
        sigma_y: standard deviation of the noise.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        share: ProperFraction = 0.25,
        center: Fraction = 0.25,
        seed: NonNegativeInt = 0,
        sigma_y: NonNegative = 0.05,
    ) -> None:
        super().__init__(event_shape, sigma_y)
        self._dims = tuple(range(-len(self.sizes), 0))
        grid = torch.stack(torch.meshgrid(*(torch.fft.fftfreq(n).double() for n in self.sizes), indexing="ij"))
        count = grid[0].numel()
        place = torch.arange(count).reshape(self.sizes)
        mirrored = place.flip(self._dims).roll([1] * len(self.sizes), self._dims)  # where -k lies
        pair, radius = torch.minimum(place, mirrored).reshape(-1), grid.square().sum(0).reshape(-1)
        seen, low = max(1, min(count - 1, round(share * count))), round(center * share * count)
        lowest = radius <= radius.sort().values[low - 1] if low else torch.zeros(count, dtype=torch.bool)
        score = torch.where(lowest, -1.0, Noise(seed).uniform("frequencies", 0, count)[pair])
        kept = score <= score.sort().values[seen - 1]
        self.index = nn.Buffer(kept.nonzero()[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        wave: Tensor = self._hartley(x)
        return wave.flatten(-len(self.sizes)).index_select(-1, self.index.to(x.device))

    def adjoint(self, y: Tensor) -> Tensor:
        count = int(torch.Size(self.sizes).numel())
        wave = torch.zeros(*y.shape[:-1], count, dtype=y.dtype, device=y.device)
        return self._hartley(wave.index_copy(-1, self.index.to(y.device), y).reshape(len(y), *self.event_shape))

    def _hartley(self, x: Tensor) -> Tensor:
        wave = torch.fft.fftn(x, dim=self._dims, norm="ortho")
        real: Tensor = wave.real - wave.imag
        return real

    def _solve(self, v: Tensor, r: Any, s: Any) -> Tensor:
        found: Tensor = v / (r + s)
        return found
