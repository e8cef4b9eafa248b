"""Some values are seen, and the others are not."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoresde._shapes import flat
from scoresde.constraints import NonNegative, NonNegativeInt, ProperFraction
from scoresde.errors import refuse, require
from scoresde.noise import Noise
from scoresde.observation.base import Observation
from scoresde.observation.files import is_image, values

_HALF = 128  # of the levels of a mask


class Inpaint(Observation):
    """Some of the values of an item, y = x[seen]; A A^T = I.

    What is seen is given by one of `mask`, `box` and `columns`; without these it is a random share. Channels of an
    image are seen together.

    Args:
        event_shape: of one item, (*sizes) or (channels, *sizes).
        mask: a .npy file, an image or an array of the size of the item; 0, black or transparent is hidden.
        box: what is hidden, [top, left, bottom, right] of an image, [first, end] of a series; ends are not included.
        columns: of a table, the names or numbers of those that are seen.
        share: of the values, those that are seen at random.
        seed: of the random share.
        sigma_y: standard deviation of the noise.
        names: of the features.

    Raises:
        InputError: a mask of another size, or one that hides all or nothing.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        mask: str | Sequence[Any] | Tensor | None = None,
        box: Sequence[int] | None = None,
        columns: Sequence[int | str] | None = None,
        share: ProperFraction = 0.5,
        seed: NonNegativeInt = 0,
        sigma_y: NonNegative = 0.05,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(event_shape, sigma_y)
        given = [key for key, value in (("mask", mask), ("box", box), ("columns", columns)) if value is not None]
        refuse(len(given) > 1, f"{' and '.join(given)}: both say what is seen; give one of them")
        if mask is not None:
            key, seen = "mask", self._of_mask(mask)
        elif box is not None:
            key, seen = "box", self._of_box(box)
        elif columns is not None:
            key, seen = "columns", self._of_columns(columns, names)
        else:
            key, seen = "share", self._at_random(share, seed)
        whole = seen.expand(self.event_shape).reshape(-1)
        refuse(not whole.any(), f"{key}: nothing is seen; show some values")
        refuse(bool(whole.all()), f"{key}: all is seen, nothing is left to infer; hide some values")
        self.index = nn.Buffer(whole.nonzero()[:, 0])

    def _of_mask(self, mask: Any) -> Tensor:
        found = values(mask, "mask")
        if is_image(mask):  # levels of red, green, blue and opacity
            found = (found[:3].mean(0) >= _HALF) & (found[3] >= _HALF)
        named = mask if isinstance(mask, str) else "an array"
        sizes = f"it is {list(found.shape)}, and the items are {list(self.event_shape)}; give one of their size"
        require(tuple(found.shape) in (self.sizes, self.event_shape), "mask", named, sizes)
        return found != 0

    def _of_box(self, box: Sequence[int]) -> Tensor:
        sizes, ends = self.sizes, list(box)
        first, last = ends[: len(sizes)], ends[len(sizes) :]
        fits = len(ends) == 2 * len(sizes) and all(0 <= a < b <= n for a, b, n in zip(first, last, sizes, strict=True))
        require(fits, "box", ends, f"give {2 * len(sizes)} integers, the first corner and the end within {list(sizes)}")
        seen = torch.ones(sizes, dtype=torch.bool)
        seen[tuple(slice(a, b) for a, b in zip(first, last, strict=True))] = False
        return seen

    def _of_columns(self, columns: Sequence[int | str], names: Sequence[str] | None) -> Tensor:
        known = list(names or ())
        seen = torch.zeros(self.event_shape, dtype=torch.bool)
        require(seen.ndim == 1, "columns", list(columns), "these data are no table; give box or mask")
        for column in columns:
            own = [i for i, name in enumerate(known) if column == name or name.startswith(f"{column}=")]
            own = [column] if isinstance(column, int) and 0 <= column < len(seen) else own
            there = ", ".join(known) if known else f"0 to {len(seen) - 1}"
            require(bool(own), "columns", column, f"there is no such column; there are {there}")
            seen[own] = True
        return seen

    def _at_random(self, share: float, seed: int) -> Tensor:
        count = math.prod(self.sizes)
        order = Noise(seed).uniform("mask", 0, count).argsort()
        seen = torch.zeros(count, dtype=torch.bool)
        seen[order[: max(1, min(count - 1, round(share * count)))]] = True
        return seen.reshape(self.sizes)

    def forward(self, x: Tensor) -> Tensor:
        return flat(x).index_select(1, self.index.to(x.device))

    def adjoint(self, y: Tensor) -> Tensor:
        x = torch.zeros(len(y), self._size, dtype=y.dtype, device=y.device)
        return x.index_copy(1, self.index.to(y.device), y).reshape(-1, *self.event_shape)

    def _solve(self, v: Tensor, r: Any, s: Any) -> Tensor:
        out: Tensor = v / (r + s)
        return out
