"""Conjugate gradients for a batch of symmetric systems."""

from collections.abc import Callable

import torch
from torch import Tensor

from scoresde._shapes import expand, flat

_EXTRA = 10  # steps beyond the dimension, after which only rounding is left to fight


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    steps: int | None = None,
    tolerance: float = 1e-12,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The solution of apply(x) = b and its relative residual |b - apply(x)| / |b|, for each item of a batch.

    An item that has converged stays as it is, so no item depends on the others.

    Args:
        apply: a symmetric positive semi-definite linear map of (B, *seen).
        b: (B, *seen); its type is that of the computation.
        steps: at most this many; by default a few more than the size of an item.
        tolerance: the residual at which an item is done.
        start: where to begin; zero by default.

    Returns:
        The solution (B, *seen) and the residuals (B,).
    """
    x = torch.zeros_like(b) if start is None else start
    left = b if start is None else b - apply(x)
    direction, size = left, _dot(left, left)
    scale = _dot(b, b).clamp(min=torch.finfo(b.dtype).tiny)
    for _ in range(flat(b).shape[1] + _EXTRA if steps is None else steps):
        going = size > tolerance**2 * scale
        if not going.any():
            break
        image = apply(direction)
        curvature = _dot(direction, image)
        going &= curvature > 0
        length = torch.where(going, size / curvature, 0.0)
        x, left = x + expand(length, b) * direction, left - expand(length, b) * image
        new = _dot(left, left)
        direction = left + expand(torch.where(going, new / size, 0.0), b) * direction
        size = torch.where(going, new, size)
    return x, (size / scale).sqrt()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (flat(a) * flat(b)).sum(1)
