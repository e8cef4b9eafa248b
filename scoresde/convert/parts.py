"""Which foreign tensor becomes which part of ours, as data: for reading strictly and for writing."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from scoresde.convert.forms import Form, same
from scoresde.errors import refuse

_SHOWN = 10  # names in a message
VARIANCE = {"the second half of the output": "the predicted variance is not used"}
Tensors = dict[str, Tensor]


class Part(NamedTuple):
    """One foreign tensor and its place in ours.

    Attributes:
        ours: name in the state of our network.
        theirs: name in the foreign file.
        form: how it is laid out there.
        rows: the rows of ours that it makes.
    """

    ours: str
    theirs: str
    form: Form = same
    rows: slice = slice(None)


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
    check_names([part.theirs for part in parts], tensors)
    filled = {name: torch.zeros_like(t, dtype=torch.float32) for name, t in state.items()}
    written: Counter[str] = Counter()
    for part in parts:
        tensor, whole = tensors[part.theirs], filled[part.ours]
        place = whole[part.rows] if whole.ndim else whole
        given, shape, wanted = part.form(tensor.to(torch.float32)), tuple(tensor.shape), tuple(place.shape)
        fits = _squeezed(given) == _squeezed(place)
        refuse(not fits, f"checkpoint: {part.theirs} is {shape}, where these settings need {wanted} ({part.ours})")
        place.copy_(given.reshape(place.shape))
        written[part.ours] += place.numel()
    assert written == {name: t.numel() for name, t in filled.items()}  # else a fault of the layout's list of parts
    return filled


def without_variance(tensors: Tensors, outputs: int, last: str) -> Tensors:
    """The tensors, of which those that match the pattern `last` have their first `outputs` rows."""
    return {name: tensor[:outputs] if re.search(last, name) else tensor for name, tensor in tensors.items()}


def write(parts: Sequence[Part], state: Mapping[str, Tensor]) -> Tensors:
    """The foreign tensors that hold `state`: the inverse of `read`, if every form is its own inverse."""
    return {p.theirs: p.form(state[p.ours][p.rows]).contiguous() for p in parts}


def check_names(wanted: Iterable[str], tensors: Iterable[str]) -> None:
    """Raise InputError unless both are the same names; it lists the first ten that are missing and left over."""
    wanted, there = dict.fromkeys(wanted), dict.fromkeys(tensors)
    missing = _listed("missing", [name for name in wanted if name not in there])
    faults = [*missing, *_listed("left over", [name for name in there if name not in wanted])]
    refuse(bool(faults), f"checkpoint: not the tensors that these settings need: {'; '.join(faults)}")


def _listed(what: str, names: Sequence[str]) -> list[str]:
    """How many names there are, and the first ten; nothing if there are none."""
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return [f"{len(names)} {what} ({shown})"] if names else []


def _squeezed(t: Tensor) -> list[int]:
    """The shape from the end, without trailing ones: 1x1 convolutions and matrices are the same."""
    return list(itertools.dropwhile(lambda n: n == 1, reversed(t.shape)))
