"""Linear combinations of values."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoresde._shapes import flat
from scoresde.constraints import Count, NonNegative, NonNegativeInt
from scoresde.errors import require
from scoresde.noise import Noise
from scoresde.observation.base import Observation
from scoresde.observation.files import values


class Projection(Observation):
    """y = A x with a given matrix, or with random orthonormal rows.

    Args:
        event_shape: of one item.
        matrix: a .npy file or an array, (M, D) for items of D values; None for a random one.
        rows: M of a random matrix; None takes half of the D values.
        seed: of a random matrix.
        sigma_y: standard deviation of the noise.

    Raises:
        InputError: a matrix of another size, or of zeros.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        matrix: str | Sequence[Any] | Tensor | None = None,
        rows: Count | None = None,
        seed: NonNegativeInt = 0,
        sigma_y: NonNegative = 0.05,
    ) -> None:
        super().__init__(event_shape, sigma_y)
        size = self._size
        if matrix is None:
            rows = (size + 1) // 2 if rows is None else rows
            require(rows <= size, "rows", rows, f"the items have {size} values; give at most that")
            z = Noise(seed).normal("projection", 0, (1, size * rows), dtype=torch.float64)
            a = torch.linalg.qr(z.reshape(size, rows)).Q.T
        else:
            a = values(matrix, "matrix")
            fits = a.ndim == 2 and a.shape[1] == size and bool(a.any())
            named = matrix if isinstance(matrix, str) else f"an array {list(a.shape)}"
            require(fits, "matrix", named, f"it is {list(a.shape)}; give [M, {size}], not all zero")
        self.a = nn.Buffer(a.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        return flat(x) @ self.a.T.to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.a.to(y)).reshape(-1, *self.event_shape)
