"""Convolutions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.constraints import NonNegative, Positive
from scoresde.errors import require
from scoresde.observation.base import Observation
from scoresde.observation.files import is_image, values

_WRAPS = 10  # widths that a Gaussian reaches; beyond, it is below 1e-21


class Blur(Observation):
    """A convolution with a Gaussian or a given kernel on a ring: what leaves on one side enters on the other.

        y = F^-1 (k F x),     (r A A^T + s)^-1 v = F^-1 (F v / (r |k|^2 + s))

    So the solve is exact, by the fast Fourier transform F.

    Args:
        event_shape: of one item, (size,) or (channels, *sizes).
        width: standard deviation of the Gaussian, in pixels.
        kernel: a .npy file or an array instead, with an axis for each size; its middle is at half of each of its sizes.
            An image is taken in grey, and its levels are normalised to sum to one.
        sigma_y: standard deviation of the noise.

    Raises:
        InputError: a kernel larger than the items, or with another number of axes.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        width: Positive = 1.0,
        kernel: str | Sequence[Any] | Tensor | None = None,
        sigma_y: NonNegative = 0.05,
    ) -> None:
        super().__init__(event_shape, sigma_y)
        spread = self._gaussian(width) if kernel is None else self._given(kernel)
        self._dims = tuple(range(-len(self.sizes), 0))
        transfer = torch.fft.rfftn(spread, dim=self._dims)
        self.real, self.imaginary = nn.Buffer(transfer.real.contiguous()), nn.Buffer(transfer.imag.contiguous())

    def _gaussian(self, width: float) -> Tensor:
        out = torch.ones((), dtype=torch.float64)
        for size in self.sizes:
            wraps = int(_WRAPS * width // size) + 1
            steps = torch.arange(-wraps * size, (wraps + 1) * size, dtype=torch.float64)
            line = torch.exp(-0.5 * (steps / width) ** 2).reshape(-1, size).sum(0)
            out = out[..., None] * line / line.sum()
        return out

    def _given(self, kernel: Any) -> Tensor:
        found = values(kernel, "kernel")
        if is_image(kernel):
            found = found[:3].mean(0) / found[:3].mean(0).sum()
        fits = found.ndim == len(self.sizes) and all(k <= n for k, n in zip(found.shape, self.sizes, strict=True))
        named = kernel if isinstance(kernel, str) else "an array"
        require(fits and bool(found.any()), "kernel", named, f"it is {list(found.shape)}; give at most {self.sizes}")
        out = torch.zeros(self.sizes, dtype=torch.float64)
        out[tuple(slice(k) for k in found.shape)] = found
        return out.roll([-(k // 2) for k in found.shape], list(range(found.ndim)))

    def forward(self, x: Tensor) -> Tensor:
        return self._filtered(x, torch.complex(self.real, self.imaginary))

    def adjoint(self, y: Tensor) -> Tensor:
        return self._filtered(y, torch.complex(self.real, -self.imaginary))

    def _filtered(self, x: Tensor, factor: Tensor) -> Tensor:
        wave = torch.fft.rfftn(x, dim=self._dims)
        out: Tensor = torch.fft.irfftn(wave * factor.to(wave), s=self.sizes, dim=self._dims)
        return out

    def _solve(self, v: Tensor, r: Any, s: Any) -> Tensor:
        power = (self.real**2 + self.imaginary**2).to(v)
        return self._filtered(v, 1 / (r * power + s))
