"""Fewer values for each axis: means of blocks, or bicubic interpolation."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from scoresde.constraints import NonNegative, at_least
from scoresde.errors import require
from scoresde.observation.base import Observation

_SHARPNESS = -0.5  # of the bicubic kernel of Keys, as Pillow has it
_REACH = 2  # of that kernel, in new pixels


class SuperRes(Observation):
    """A `factor` times smaller item, of which the large one is inferred; closed solve, axis by axis.

    Args:
        event_shape: of one item, (size,) or (channels, *sizes).
        factor: by which each size is divided.
        rule: `average` of blocks, or `bicubic` with antialiasing, as Pillow resizes.
        sigma_y: standard deviation of the noise.

    Raises:
        InputError: a size that the factor does not divide.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        factor: Annotated[int, at_least(2)] = 2,
        rule: Literal["average", "bicubic"] = "average",
        sigma_y: NonNegative = 0.05,
    ) -> None:
        super().__init__(event_shape, sigma_y)
        even = all(size % factor == 0 for size in self.sizes)
        require(even, "factor", factor, f"give a divisor of the sizes {list(self.sizes)}")
        make = _average if rule == "average" else _bicubic
        self.axes = [make(n, factor) for n in self.sizes]
        self.spectra = [torch.linalg.eigh(a @ a.T) for a in self.axes]

    def forward(self, x: Tensor) -> Tensor:
        return self._along([a.to(x) for a in self.axes], x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._along([a.T.to(y) for a in self.axes], y)

    def _along(self, matrices: Sequence[Tensor], x: Tensor) -> Tensor:
        """x with a matrix applied to each of its last axes."""
        for k, a in enumerate(matrices, start=x.ndim - len(matrices)):
            x = (x.movedim(k, -1) @ a.T).movedim(-1, k)
        return x

    def _solve(self, v: Tensor, r: Any, s: Any) -> Tensor:
        values = torch.ones((), dtype=v.dtype, device=v.device)
        for own, _ in self.spectra:
            values = values[..., None] * own.to(v)
        inner = self._along([q.T.to(v) for _, q in self.spectra], v) / (r * values + s)
        return self._along([q.to(v) for _, q in self.spectra], inner)


def _average(size: int, factor: int) -> Tensor:
    return torch.eye(size // factor, dtype=torch.float64).repeat_interleave(factor, dim=1) / factor


def _bicubic(size: int, factor: int) -> Tensor:
    """The kernel widened by the factor; at the edges its weights are normalised to sum to one."""
    old, new = (torch.arange(n, dtype=torch.float64) + 0.5 for n in (size, size // factor))
    d, a = ((old - factor * new[:, None]) / factor).abs(), _SHARPNESS
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    weights = torch.where(d <= 1, near, torch.where(d < _REACH, far, 0.0))
    return weights / weights.sum(1, keepdim=True)
