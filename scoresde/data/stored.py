"""Items that stay on disk as levels, and are encoded when they are asked for."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from scoresde.data.transform import Transform


class Stored:
    """Some items of an array of levels, called like a tensor of items in model units (N, *event).

    Args:
        levels: all items in data units, mapped from disk.
        index: which of them, in order.
        transform: to model units.
    """

    def __init__(self, levels: np.ndarray, index: np.ndarray, transform: Transform) -> None:
        self.levels, self.index, self.transform = levels, index, transform

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *event)."""
        return (len(self), *self.levels.shape[1:])

    @property
    def nbytes(self) -> int:
        """The size of all items once they are encoded."""
        return 4 * int(np.prod(self.shape))

    def __getitem__(self, which: slice | Tensor) -> Tensor:
        """The items of a slice, or those with these numbers (B,), encoded: (B, *event), float32, on the CPU."""
        rows = self.index[which if isinstance(which, slice) else which.cpu().numpy()]
        # in the order of the disk, which a spinning or a remote one thanks for
        order = np.argsort(rows, kind="stable")
        found = np.empty((len(rows), *self.levels.shape[1:]), self.levels.dtype)
        found[order] = self.levels[rows[order]]
        return self.transform.encode(found)
