"""Ranges and checks of the arguments of networks. Imports the errors and constraints of this package only."""

import math
from collections.abc import Sequence
from typing import Annotated

from scoresde.constraints import Constraint, Count
from scoresde.errors import InputError, require

Multipliers = Annotated[tuple[Count, ...], Constraint(bool, "one integer >= 1 for each level, such as [1, 2, 2]")]
Even = Annotated[int, Constraint(lambda n: n >= 4 and n % 2 == 0, "an even integer >= 4")]
Outputs = Annotated[int, Constraint(lambda n: n in (1, 2), "1 or 2")]
MultipleOf4 = Annotated[int, Constraint(lambda n: n >= 4 and n % 4 == 0, "a multiple of 4, >= 4")]


def levels(channels: int, multipliers: Sequence[int], attention: Sequence[int]) -> tuple[list[int], list[bool]]:
    """The width of each level, finest first, and whether it attends.

    Args:
        channels: width of the finest level.
        multipliers: width of each level in units of `channels`.
        attention: levels that attend, counted from 0, the finest, or from -1, the coarsest.

    Raises:
        InputError: for a level that there is not.
    """
    attends = [False] * len(multipliers)
    n = len(attends)
    for level in attention:
        wanted = f"there are {n} levels: give 0 (finest) to {n - 1}, or -1 (coarsest) to {-n}"
        require(-n <= level < n, "attention", level, wanted)
        attends[level] = True
    return [channels * m for m in multipliers], attends


def check_event(event_shape: Sequence[int], ndims: Sequence[int], what: str) -> None:
    """Raise InputError unless an event has channels and one of the numbers of dimensions."""
    wanted = f"{what}; a ResidualMLP takes any shape"
    require(len(event_shape) - 1 in ndims, "event_shape", tuple(event_shape), wanted)


def check_divides(sizes: Sequence[int], factor: int, name: str = "event_shape") -> None:
    """Raise InputError unless every size of an image is a multiple of `factor`."""
    if any(n % factor for n in sizes):
        near = tuple(max(1, math.ceil(n / factor)) * factor for n in sizes)
        raise InputError(
            f"{name}: sizes {tuple(sizes)!r} are not allowed; this network needs multiples of {factor}, such as"
            f" {near!r}; a UNet takes any size"
        )


def heads_of(width: int, head_width: int, heads: int = 0) -> int:
    """The number of heads: `heads` unless that is 0; else those of `head_width` channels, or one if that is 0 too.

    Raises:
        InputError: if the heads cannot be equal.
    """
    if heads:
        require(width % heads == 0, "heads", heads, f"it must divide {width} channels")
        return heads
    size = head_width or width
    require(width % size == 0, "head_width", head_width, f"it must divide {width} channels")
    return width // size
