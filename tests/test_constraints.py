"""Ranges in annotations: what each allows, in Python and in a configuration, before anything is made."""

import importlib
import math
import pickle
import pkgutil
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from torch import nn

import scoresde
from scoresde import InputError
from scoresde.build import TARGET, build, check
from scoresde.constraints import (
    Checked,
    Constraint,
    Count,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    Probability,
    ProperFraction,
    at_least,
    between,
    hints,
    require_allowed,
    signature,
)
from scoresde.described import Described, Rebuildable

BELOW_ONE = math.nextafter(1.0, 0.0)
TINY = math.nextafter(0.0, 1.0)
CASES = [
    (Positive, [TINY, 1, 2.5, np.float32(1), np.int64(3)], [0, -1.0, math.nan, math.inf, True, "1", None]),
    (NonNegative, [0, 0.0, 3], [-TINY, math.nan, math.inf, False]),
    (Probability, [0, BELOW_ONE], [1, -TINY, math.nan, False]),
    (Fraction, [0, 1, 0.5], [-TINY, math.nextafter(1.0, 2.0), True]),
    (ProperFraction, [TINY, BELOW_ONE], [0, 1, 1.0, math.nan]),
    (Annotated[float, between(0, 4)], [TINY, 3.9], [0, 4, -1]),
    (Count, [1, 7, np.int64(2)], [0, -1, True, 1.0, "1", math.nan]),
    (NonNegativeInt, [0, 1], [-1, False, 0.0]),
    (Annotated[int, at_least(3)], [3, 4], [2, 3.0]),
    (Annotated[str, Constraint(bool, "a name")], ["a"], ["", 3, None]),
    (Literal["a", "b"], ["a", "b"], ["c", "", None, 1, ["a"]]),
    (Literal[1, 2], [1, 2], [True, 3, "1"]),
    (Positive | None, [1, None], [0, "a"]),
    (Literal["auto"] | Positive | None, ["auto", 1, None], ["aut", 0, -1]),
    (Literal["auto"] | float, ["auto", -1, 2.5], ["aut", True, None]),
    (tuple[Positive, ...], [(), (1, 2), [3]], [(1, 0), (1, "a"), 1, "12"]),
    (tuple[Probability, Count], [(0, 1), [0.5, 2]], [(1, 1), (0, 0), (0,), (0, 1, 1)]),
    (list[Positive] | Positive, [1, [1, 2]], [0, [1, 0], "a"]),
    (Annotated[tuple[int, ...], Constraint(bool, "at least one")], [(1,)], [(), (0.5,)]),
    (tuple[Positive | None, ...] | None, [None, (None, 1)], [(None, 0)]),
    (Annotated[Positive, Constraint(lambda value: value < 2, "a number below 2")], [1], [0, 2]),
    (dict[str, int], [{"a": "b"}, 3], []),  # no constraint, so nothing is checked
]


@pytest.mark.parametrize(("annotation", "allowed", "refused"), CASES, ids=lambda case: str(case)[:40])
def test_boundaries(annotation, allowed, refused):
    for value in allowed:
        require_allowed("x", value, annotation)
    for value in refused:
        with pytest.raises(InputError, match=r"^x: .* is not allowed; give ") as caught:
            require_allowed("x", value, annotation)
        assert str(caught.value).startswith(f"x: {value!r} is not allowed")


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (Positive, -1, "a number > 0"),
        (Positive | None, -1, "a number > 0 or null"),
        (Literal["level", "norm"] | None, "nrm", "one of level, norm or null"),
        (Annotated[int, at_least(3)], 2, "an integer >= 3"),
        (tuple[Positive, ...], (0,), "a list of numbers > 0"),
        (tuple[Probability, Count], (0, 0), "a list of 2: a probability in [0, 1), an integer >= 1"),
        (float | Literal["off"], "x", "a number or one of off"),
        (Count | list[Count] | None, 0, "an integer >= 1, a list of integers >= 1 or null"),
        (tuple[Positive, Positive] | None, (1,), "a list of 2 numbers > 0 or null"),
        (tuple[Positive | None, ...], (0,), "a list in which each item is a number > 0 or null"),
        (Literal["a", "b"] | Count | None, 0, "one of a, b or an integer >= 1 or null"),
    ],
)
def test_the_remedy(annotation, value, words):
    with pytest.raises(InputError) as caught:
        require_allowed("x", value, annotation)
    assert str(caught.value) == f"x: {value!r} is not allowed; give {words}"


@dataclass(frozen=True)
class Data(Rebuildable):
    """A frozen dataclass."""

    rate: Positive = 1.0
    kind: Literal["a", "b"] | None = None
    shares: tuple[Probability, ...] = ()


class Plain(Checked):
    """Counts how often its constructor runs."""

    made = 0

    def __init__(self, rate: Positive, kind: Literal["a", "b"] | None = None, *, shares: tuple[Probability, ...] = ()):
        Plain.made += 1
        self.rate, self.kind, self.shares = rate, kind, shares


class Network(Described, nn.Module):
    """A module."""

    def __init__(
        self, rate: Positive = 1.0, kind: Literal["a", "b"] | None = None, shares: tuple[Probability, ...] = ()
    ) -> None:
        super().__init__()
        self.weight = nn.Linear(1, 1)


class Derived(Data):
    """Inherits its constructor."""


class Empty(Rebuildable):
    """Has no arguments."""


CLASSES = [Data, Plain, Network, Derived]
WRONG = [{"rate": -1.0}, {"rate": 0.0}, {"rate": 1.0, "kind": "c"}, {"rate": 1.0, "shares": [0.5, 1.0]}]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("arguments", WRONG)
def test_both_doors_refuse_before_anything_is_made(cls, arguments):
    before = Plain.made
    key = [*arguments][-1]
    with pytest.raises(InputError, match=f"^{key}: .* is not allowed; give "):
        cls(**arguments)
    about = {"net": {TARGET: f"{cls.__module__}.{cls.__name__}", **arguments}}
    with pytest.raises(InputError, match=rf"^model\.net\.{key}: "):
        check(about, "model", allow=[cls.__module__])
    with pytest.raises(InputError, match=rf"^model\.net\.{key}: "):
        build(about, "model", allow=[cls.__module__])
    assert Plain.made == before


@pytest.mark.parametrize("cls", CLASSES)
def test_both_doors_let_through_what_is_allowed(cls):
    cls(2, "b", shares=(0.5, 0))
    about = {TARGET: f"{cls.__module__}.{cls.__name__}", "rate": 2, "kind": None, "shares": [0, 0.5]}
    assert isinstance(build(about, allow=[cls.__module__]), cls)


def test_positional_arguments_are_checked_too():
    with pytest.raises(InputError, match=r"^rate: 0 is not allowed"):
        Plain(0)
    with pytest.raises(InputError, match=r"^kind: 'c' is not allowed"):
        Data(1, "c")


def test_copies_need_no_arguments():
    assert pickle.loads(pickle.dumps(Data(2.0, "a"))) == Data(2.0, "a")


def test_a_class_without_arguments_takes_none():
    with pytest.raises(TypeError, match="Empty"):
        Empty(3)
    with pytest.raises(InputError, match="has no such argument"):
        build({TARGET: f"{__name__}.Empty", "steps": 3}, allow=[__name__])
    assert isinstance(build({TARGET: f"{__name__}.Empty"}, allow=[__name__]), Empty)


def _checked_classes() -> list[Any]:
    for module in pkgutil.walk_packages(scoresde.__path__, "scoresde."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, left = [], [Checked]
    while left:
        derived = left.pop().__subclasses__()
        found += [cls for cls in derived if cls.__module__.startswith("scoresde.")]
        left += derived
    return found


def test_no_annotation_of_the_package_is_lost():
    """A name that is imported for type checkers alone would take all constraints of its constructor along."""
    classes = _checked_classes()
    assert len(classes) > 40
    for cls in classes:
        names = [k for k, p in signature(cls).parameters.items() if p.kind < p.VAR_KEYWORD]
        assert set(names) - {"args"} <= hints(cls).keys(), cls
        assert not any(isinstance(a, typing.ForwardRef) for a in hints(cls).values())
