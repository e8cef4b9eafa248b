"""Brownian increments for steps that may be rejected, without a bias in their distribution."""

from collections.abc import Callable

import torch
from torch import Tensor

from scoresde._shapes import expand
from scoresde.sde import SDE


def by_sample(mask: Tensor, x: Tensor) -> Tensor:
    """A mask (B,) that broadcasts over x (B, *event)."""
    return mask.reshape(-1, *(1,) * (x.ndim - 1))


class Increments:
    """The increment of each sample's Brownian motion in t over its next step in lam.

    Drawing again after a rejection would keep small increments and drop large ones: in two dimensions this halves the
    variance of the samples. So a rejected increment is split by a Brownian bridge; its first half is the next attempt,
    and the second follows when the first is used up.

    Args:
        sde: gives t at lam.
        x: (B, *event), for shape, type and device.
    """

    def __init__(self, sde: SDE, x: Tensor) -> None:
        self._sde = sde
        self._depth = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        self._widths: list[Tensor] = []
        self._values: list[Tensor] = []

    def propose(self, lam: Tensor, h: Tensor, x: Tensor, draw: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """(h, w): steps (B,), at most those that were asked for, and increments (B, *event) over them."""
        fresh = self._depth == 0
        if fresh.any():
            span = self._sde.t_of_lam(lam) - self._sde.t_of_lam(lam + h)
            self._put(0, fresh, h, expand(span.sqrt(), x) * draw(), x)
            self._depth = self._depth + fresh
        w = torch.zeros_like(x)
        for level, (width, value) in enumerate(zip(self._widths, self._values, strict=True)):
            top = self._depth == level + 1
            h, w = torch.where(top, width, h), torch.where(by_sample(top, x), value, w)
        return h, w

    def settle(self, accepted: Tensor, lam: Tensor, h: Tensor, w: Tensor, draw: Callable[[], Tensor]) -> None:
        """Drop the increments that were used, and split those that were rejected."""
        if not accepted.all():
            t, middle, s = (self._sde.t_of_lam(lam + part * h) for part in (0.0, 0.5, 1.0))
            first, second = t - middle, middle - s
            share, spread = first / (first + second), (first * second / (first + second)).sqrt()
            near = expand(share, w) * w + expand(spread, w) * draw()
            for level in range(len(self._widths), 0, -1):
                top = ~accepted & (self._depth == level)
                if top.any():
                    self._put(level - 1, top, h / 2, w - near, w)
                    self._put(level, top, h / 2, near, w)
        self._depth = torch.where(accepted, self._depth - 1, self._depth + 1)

    def keep(self, rows: Tensor) -> None:
        """Drop the samples that have arrived."""
        self._depth = self._depth[rows]
        self._widths = [width[rows] for width in self._widths]
        self._values = [value[rows] for value in self._values]

    def _put(self, level: int, rows: Tensor, width: Tensor, value: Tensor, x: Tensor) -> None:
        if level == len(self._widths):
            self._widths.append(torch.zeros_like(width))
            self._values.append(torch.zeros_like(x))
        self._widths[level] = torch.where(rows, width, self._widths[level])
        self._values[level] = torch.where(by_sample(rows, x), value, self._values[level])
