"""Ranges of constructor arguments, written in their annotations and checked once for each object.

    @dataclass(frozen=True)
    class Langevin(Checked):
        snr: Positive = 0.16
        steps: Count = 1
        rule: Literal["level", "norm"] = "level"
        mask: tuple[Probability, ...] | None = None
        width: Annotated[int, Constraint(lambda n: n % 4 == 0, "a multiple of 4")] = 8

`Langevin(snr=-1)` raises `InputError("snr: -1 is not allowed; give a number > 0")` before `__init__` runs. A class
takes part by deriving from `Checked`, as `Rebuildable` and `Described` do (name it before other bases); and
`scoresde.build.check` refuses the same values of a configuration before anything is made. Lists, tuples, unions and
`Literal` are looked into. Integers are numbers; True, NaN and infinities are none.

Only the annotations of an object's own constructor count: a base class checks what a derived class passes on to its
`__init__` there. So it does with values that depend on each other, by `scoresde.errors.require`.
"""

import functools
import inspect
import math
import numbers
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, TypeVar

from scoresde.errors import require

T = TypeVar("T")


@dataclass(frozen=True)
class Constraint:
    """What a value must be besides being of its type.

    Attributes:
        holds: whether a value of the annotated type is allowed.
        words: what is allowed, to be read after "give".
    """

    holds: Callable[[Any], bool]
    words: str


def at_least(least: int) -> Constraint:
    """Of integers: `Annotated[int, at_least(2)]`."""
    return Constraint(lambda value: bool(value >= least), f"an integer >= {least}")


def between(low: float, high: float) -> Constraint:
    """Of numbers, without the ends: `Annotated[float, between(0, 4)]`."""
    return Constraint(lambda value: bool(low < value < high), f"a number in ({low}, {high})")


Positive = Annotated[float, Constraint(lambda value: 0 < value < math.inf, "a number > 0")]
NonNegative = Annotated[float, Constraint(lambda value: 0 <= value < math.inf, "a number >= 0")]
Probability = Annotated[float, Constraint(lambda value: 0 <= value < 1, "a probability in [0, 1)")]
Fraction = Annotated[float, Constraint(lambda value: 0 <= value <= 1, "a number in [0, 1]")]
ProperFraction = Annotated[float, between(0, 1)]
Count = Annotated[int, at_least(1)]
NonNegativeInt = Annotated[int, at_least(0)]

WORDS: dict[Any, str] = {float: "a number", int: "an integer", bool: "true or false", str: "a text", NoneType: "null"}


def is_union(annotation: Any) -> bool:
    """Whether an annotation is a union, in either spelling."""
    return typing.get_origin(annotation) in (typing.Union, UnionType)


def bare(annotation: Any) -> Any:
    """An annotation without its own constraints; those inside stay."""
    return annotation.__origin__ if typing.get_origin(annotation) is Annotated else annotation


def _cached(function: Callable[[Any], T]) -> Callable[[Any], T]:
    """`functools.cache`, whose types know no classes as arguments."""
    return functools.cache(function)


class Checked:
    """Base of classes whose constructor arguments keep the constraints in their annotations."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Check the arguments that are given."""
        names = signature(cls).parameters
        if not names and (args or kwargs):
            raise TypeError(f"{cls.__name__}() takes no arguments")
        given = dict(zip(names, args, strict=False)) | kwargs
        for name, annotation in _constrained(cls):
            if name in given:
                require_allowed(name, given[name], annotation)
        return super().__new__(cls)


@_cached
def signature(cls: type) -> inspect.Signature:
    """Of the constructor of a class."""
    return inspect.signature(object if issubclass(cls, Checked) and cls.__init__ is object.__init__ else cls)


@_cached
def hints(cls: type) -> dict[str, Any]:
    """The annotations of the constructor, where they can be evaluated."""
    parameters = signature(cls).parameters
    owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
    # the annotations of a dataclass may come from several modules, and its constructor knows the names of one
    source = owner if "__dataclass_fields__" in vars(owner) else vars(owner)["__init__"]
    try:
        found = typing.get_type_hints(source, include_extras=True)
    except (NameError, TypeError):  # names that exist for type checkers only
        found = {k: p.annotation for k, p in parameters.items() if isinstance(p.annotation, type)}
    return {k: v for k, v in found.items() if k in parameters and v is not inspect.Parameter.empty}


@_cached
def _constrained(cls: type) -> list[tuple[str, Any]]:
    return [(name, annotation) for name, annotation in hints(cls).items() if _has_constraint(annotation)]


def _has_constraint(annotation: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    return origin in (Annotated, Literal) or any(map(_has_constraint, arguments))


def require_allowed(name: str, value: object, annotation: Any) -> None:
    """Raise `InputError("name: value is not allowed; give ...")` unless one of the alternatives holds."""
    if _has_constraint(annotation) and not _allowed(value, annotation):
        require(False, name, value, f"give {in_words(annotation)}")


def _allowed(value: object, annotation: Any) -> bool:
    return any(one.holds(value) for one in alternatives(annotation))


@_cached
def alternatives(annotation: Any) -> list[Constraint]:
    """What a value may be: each member of a union or of a Literal is an alternative."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if is_union(annotation):
        return [one for member in arguments for one in alternatives(member)]
    if origin is Literal:
        return [Constraint(functools.partial(_equal, member), str(member)) for member in arguments]
    if origin is Annotated:
        return [_annotated(arguments[0], [c for c in arguments[1:] if isinstance(c, Constraint)])]
    if origin in (list, tuple, Sequence) and arguments:
        return [_items(arguments)]
    kind = origin or annotation
    return [Constraint(lambda value: _is(value, kind), WORDS.get(kind, f"a {getattr(kind, '__name__', kind)}"))]


def _annotated(base: Any, constraints: Sequence[Constraint]) -> Constraint:
    words = " and ".join(c.words for c in constraints)
    return Constraint(lambda value: _allowed(value, base) and all(c.holds(value) for c in constraints), words)


def _items(arguments: tuple[Any, ...]) -> Constraint:
    """Of a list in which each item is of one kind, or of a tuple with a kind for each place."""
    if len(arguments) > 1 and ... not in arguments:
        words = f"a list of {len(arguments)}: {', '.join(map(in_words, arguments))}"
        return Constraint(
            lambda values: _is_list(values) and len(values) == len(arguments) and all(map(_allowed, values, arguments)),
            words,
        )
    kind = arguments[0]
    return Constraint(
        lambda values: _is_list(values) and all(_allowed(value, kind) for value in values),
        f"a list in which each item is {in_words(kind)}",
    )


def in_words(annotation: Any) -> str:
    """What a value may be: `level or norm`, or `one of level, norm, null`."""
    words = [one.words for one in alternatives(annotation)]
    return f"one of {', '.join(words)}" if len(words) > 2 else " or ".join(words)


def _is_list(values: Any) -> bool:
    return isinstance(values, Collection) and not isinstance(values, str | Mapping)


def _is(value: object, kind: Any) -> bool:
    """Whether a value is of a class; integers are numbers, and True is none."""
    if not isinstance(kind, type):
        return True
    if kind in (int, float):
        return isinstance(value, numbers.Integral if kind is int else numbers.Real) and not isinstance(value, bool)
    return isinstance(value, kind)


def _equal(member: object, value: object) -> bool:
    return _is(value, type(member)) and value == member
