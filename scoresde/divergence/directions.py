"""Random directions v with E[v v^T] = I, for estimates of a trace by v^T J v."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from scoresde.divergence.base import Normal
from scoresde.errors import require

Kind = Literal["signs", "gaussian", "orthogonal", "hadamard"]
_GOLDEN = 0.618034  # of all rows, from one direction to the next: any few in turn lie far apart


class Place(NamedTuple):
    """Which directions are drawn.

    Attributes:
        groups: independent of each other.
        each: directions in each group.
        step: of the random numbers.
        first: directions in each group at the evaluations before.
    """

    groups: int
    each: int
    step: int
    first: int


def _gaussian(x: Tensor, normal: Normal, at: Place) -> Tensor:
    return normal(at.groups * at.each, at.step)


def _signs(x: Tensor, normal: Normal, at: Place) -> Tensor:
    return torch.where(_gaussian(x, normal, at) < 0, -1.0, 1.0)


def _orthogonal(x: Tensor, normal: Normal, at: Place) -> Tensor:
    """Orthogonal in each group and of squared length D, uniform on the sphere: Q of a Gaussian block."""
    size = x[0].numel()
    remedy = f"an event has {size} values, and no more are orthogonal; give fewer probes, or more groups"
    require(at.each <= size, "divergence.probes", at.groups * at.each, remedy)
    block = _gaussian(x, normal, at).double().reshape(at.groups, at.each, len(x), size)
    axes: Tensor = torch.linalg.qr(block.permute(0, 2, 3, 1)).Q
    return axes.permute(0, 3, 1, 2) * math.sqrt(size)


def _hadamard(x: Tensor, normal: Normal, at: Place) -> Tensor:
    """Rows of a Hadamard matrix times random signs, one draw of these for each group; the rows go on where they ended.

    Each direction alone is a vector of random signs. As many in turn as the matrix has rows sum to v v^T = I exactly.
    """
    size = x[0].numel()
    rows = 1 << (size - 1).bit_length()
    turn = torch.arange(at.first, at.first + at.each, device=x.device) * (round(_GOLDEN * rows) | 1) % rows
    bits = turn[:, None] & torch.arange(size, device=x.device)
    for shift in (16, 8, 4, 2, 1):  # the parity of the bits that row and column share
        bits = bits ^ (bits >> shift)
    signs = torch.where(normal(at.groups, at.step) < 0, -1.0, 1.0).reshape(at.groups, 1, len(x), size)
    return signs * (1.0 - 2.0 * (bits & 1))[:, None]


_DRAW: dict[Kind, Callable[[Tensor, Normal, Place], Tensor]] = {
    "signs": _signs,
    "gaussian": _gaussian,
    "orthogonal": _orthogonal,
    "hadamard": _hadamard,
}


def directions(kind: Kind, x: Tensor, normal: Normal, at: Place) -> Tensor:
    """Directions (groups * count, B, *event) of the dtype of x.

    Raises:
        InputError: more orthogonal ones than dimensions.
    """
    return _DRAW[kind](x, normal, at).to(x).reshape(-1, *x.shape)
