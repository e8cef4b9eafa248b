"""Which foreign tensor becomes which part of ours, as data: for reading strictly and for writing."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.convert.forms import SAME, Form
from scoresde.errors import InputError, refuse

_SHOWN = 10  # names in a message
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Part:
    """One foreign tensor and its place in ours.

    Attributes:
        ours: name in the state of our network.
        theirs: name in the foreign file.
        form: how it is laid out there.
        rows: the rows of ours that it makes; None for all.
    """

    ours: str
    theirs: str
    form: Form = SAME
    rows: slice | None = None


def table(text: str) -> dict[str, str]:
    """The pairs of a table that is written `key=value key=value`."""
    return dict(pair.split("=") for pair in text.split())


def numbers(names: Iterable[str], pattern: str) -> list[int]:
    """The numbers in names that begin with a pattern, without repetition, rising."""
    return sorted({int(found[1]) for name in names if (found := re.match(pattern, name))})


def frequencies(number: int, shift: float) -> Tensor:
    """Those of positional features, 10000^(-k / (number - shift)), in the precision in which they are used."""
    return torch.exp(-math.log(10000) * torch.arange(number, dtype=torch.float32) / (number - shift))


def read(parts: Sequence[Part], tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Tensors:
    """A state like `state`, filled with foreign tensors, all of which must be used.

    Raises:
        InputError: tensors are missing or left over (the first ten of each are named), or of another shape.
    """
    check_names([p.theirs for p in parts], tensors)
    filled = {name: torch.zeros_like(t, dtype=torch.float32) for name, t in state.items()}
    written = dict.fromkeys(state, 0)
    for part in parts:
        place = filled[part.ours] if part.rows is None else filled[part.ours][part.rows]
        given = part.form.read(tensors[part.theirs].to(torch.float32))
        if given.shape != place.shape and _squeezed(given) != _squeezed(place):
            shape, wanted = tuple(tensors[part.theirs].shape), tuple(place.shape)
            raise InputError(f"checkpoint: {part.theirs} is {shape}, where these settings need {wanted} ({part.ours})")
        place.copy_(given.reshape(place.shape))
        written[part.ours] += place.numel()
    unset = [name for name, t in filled.items() if written[name] != t.numel()]
    assert not unset, unset  # a fault of the layout's list of parts
    return filled


def write(parts: Sequence[Part], state: Mapping[str, Tensor]) -> Tensors:
    """The foreign tensors that hold `state`: the inverse of `read`."""
    return {
        p.theirs: p.form.write(state[p.ours] if p.rows is None else state[p.ours][p.rows]).contiguous() for p in parts
    }


def check_names(wanted: Iterable[str], tensors: Iterable[str]) -> None:
    """Raise InputError unless both are the same names; it lists the first ten that are missing and left over."""
    wanted, there = list(wanted), list(tensors)
    missing = [name for name in wanted if name not in set(there)]
    surplus = [name for name in there if name not in set(wanted)]
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
        for kind, names in (("missing", missing), ("left over", surplus))
        if names
    ]
    refuse(bool(faults), f"checkpoint: not the tensors that these settings need: {'; '.join(faults)}")


def _squeezed(t: Tensor) -> list[int]:
    """The shape without trailing ones: 1x1 convolutions and matrices are the same."""
    shape = list(t.shape)
    while shape and shape[-1] == 1:
        shape.pop()
    return shape
