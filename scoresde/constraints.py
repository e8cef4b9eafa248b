"""What annotations ask of constructor arguments: types and ranges, each written once.

    @dataclass(frozen=True)
    class Langevin(Checked):
        snr: Positive = 0.16
        steps: Count = 1
        rule: Literal["level", "norm"] = "level"
        mask: tuple[Probability, ...] | None = None
        width: Annotated[int, Constraint(lambda n: n % 4 == 0, "a multiple of 4")] = 8

`Langevin(snr=-1)` raises `InputError("snr: -1 is not allowed; give a number > 0")` before `__init__` runs. A class
takes part by deriving from `Checked`, as `Rebuildable` and `Described` do (name it before other bases); and
`scoresde.build.check` refuses the same values of a configuration, and those of other types, before anything is made.
Lists, tuples, unions and `Literal` are looked into. Integers are numbers; True, NaN and infinities are none.

Only the annotations of an object's own constructor count. Values that depend on each other, and those that the class of
a user passes on to the constructor of its base, are checked in `__init__`, by `scoresde.errors.require`.
"""

import functools
import inspect
import itertools
import json
import math
import numbers
import operator
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, TypeVar

from scoresde.errors import TARGET, InputError, did_you_mean, require
from scoresde.plain import either, list_of
from scoresde.room import in_words as in_words_of_size
from scoresde.room import memory

T = TypeVar("T")


@dataclass(frozen=True)
class Constraint:
    """What a value must be besides being of its type.

    Attributes:
        holds: whether a value of the annotated type is allowed.
        words: what is allowed, to be read after "give".
        limit: whether only a value beyond it needs the words, as a largest one that nobody asks for.
    """

    holds: Callable[[Any], bool]
    words: str
    limit: bool = False


def at_least(least: int) -> Constraint:
    """Of integers: `Annotated[int, at_least(2)]`."""
    return Constraint(lambda value: bool(value >= least), f"an integer >= {least}")


def fitting(size: int) -> Constraint:
    """Of how many there may be, if each takes so many bytes of memory."""
    most, there = memory() // size, in_words_of_size(memory())
    return Constraint(lambda value: bool(value <= most), f"at most {most:,}, which fit into {there} of memory", True)


def between(low: float, high: float) -> Constraint:
    """Of numbers, without the ends: `Annotated[float, between(0, 4)]`."""
    return Constraint(lambda value: bool(low < value < high), f"a number in ({low}, {high})")


_LARGEST = Constraint(lambda value: not 1e12 < abs(value) < math.inf, "at most 1e12", True)  # of finite squares
Real = Annotated[float, _LARGEST]
Positive = Annotated[float, Constraint(lambda value: 0 < value < math.inf, "a number > 0"), _LARGEST]
NonNegative = Annotated[float, Constraint(lambda value: 0 <= value < math.inf, "a number >= 0"), _LARGEST]
Probability = Annotated[float, Constraint(lambda value: 0 <= value < 1, "a probability in [0, 1)")]
Fraction = Annotated[float, Constraint(lambda value: 0 <= value <= 1, "a number in [0, 1]")]
ProperFraction = Annotated[float, between(0, 1)]
_SEEDS = Constraint(lambda value: value < 2**63, "at most 2^63 - 1", True)
Count = Annotated[int, at_least(1), fitting(16)]
PowerOfTwo = Annotated[int, Constraint(lambda n: n > 0 and n & (n - 1) == 0, "a power of two, such as 2")]
Steps = Annotated[int, at_least(1), Constraint(lambda value: value <= 10**9, "at most 1,000,000,000", True)]
Depth = Annotated[int, at_least(1), Constraint(lambda value: value <= 10_000, "at most 10,000", True)]
NonNegativeInt = Annotated[int, at_least(0), _SEEDS]

_FINITE = "give finite numbers, and integers below 2^63"
_PLAIN: dict[Any, tuple[type, str]] = {
    float: (numbers.Real, "a number"),
    int: (numbers.Integral, "an integer"),
    bool: (bool, "true or false"),
    str: (str, "a text"),
    NoneType: (NoneType, "null"),
}


def members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the annotation alone."""
    return typing.get_args(annotation) if typing.get_origin(annotation) in (typing.Union, UnionType) else (annotation,)


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
def parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Those of the constructor, without *args and **kwargs."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: p for name, p in signature(cls).parameters.items() if p.kind not in variadic}


@_cached
def hints(cls: type) -> dict[str, Any]:
    """The annotations of the constructor, where they can be evaluated."""
    owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
    # the annotations of a dataclass may come from several modules, and its constructor knows the names of one
    source = owner if "__dataclass_fields__" in vars(owner) else vars(owner)["__init__"]
    try:
        found = typing.get_type_hints(source, include_extras=True)
    except (NameError, TypeError):  # names that exist for type checkers only
        written = inspect.get_annotations(vars(owner)["__init__"])
        found = {name: annotation for name, annotation in written.items() if isinstance(annotation, type)}
    return {name: found[name] for name in parameters(cls) if name in found}


@_cached
def _constrained(cls: type) -> list[tuple[str, Any]]:
    return [(name, annotation) for name, annotation in hints(cls).items() if _has_constraint(annotation)]


def _has_constraint(annotation: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    return origin in (Annotated, Literal) or any(map(_has_constraint, arguments))


def require_allowed(name: str, value: object, annotation: Any) -> None:
    """Raise `InputError("name: value is not allowed; give ...")` unless the constraints hold."""
    if _has_constraint(annotation) and not _allowed(value, annotation):
        limits = [c.words for c in _limits(annotation) if not all(map(c.holds, _numbers(value)))]
        require(False, name, value, f"give {' or '.join(limits) or in_words(annotation)}")


def _limits(annotation: Any) -> list[Constraint]:
    """The limits that an annotation sets, also those of items."""
    own = [c for c in getattr(annotation, "__metadata__", ()) if c.limit]
    inner = (getattr(annotation, "__origin__", None), *typing.get_args(annotation))
    return own + [c for part in inner if typing.get_args(part) for c in _limits(part)]


def _numbers(value: object) -> list[Any]:
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, int | float)]


def in_words(annotation: Any) -> str:
    """What an annotation asks for; classes are left out where a plain value is possible."""
    alternatives = members(annotation)
    plain = [a for a in alternatives if a in _PLAIN or not isinstance(a, type)]
    return either([_one(a).words for a in (alternatives if plain in ([], [NoneType]) else plain)])


def _allowed(value: object, annotation: Any) -> bool:
    return any(_one(alternative).holds(value) for alternative in members(annotation))


@_cached
def _one(annotation: Any) -> Constraint:
    """What an annotation that is no union asks for."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        texts = ", ".join(map(str, arguments))
        return Constraint(lambda value: any(_is(value, type(a)) and value == a for a in arguments), f"one of {texts}")
    if origin is Annotated:
        kind, *constraints = arguments
        words = " and ".join(c.words for c in constraints if not c.limit) or in_words(kind)
        return Constraint(lambda value: _allowed(value, kind) and all(c.holds(value) for c in constraints), words)
    if origin in (list, tuple, Sequence):
        return _items(arguments)
    if not isinstance(annotation, type) or origin is not None:
        kind = f"a mapping of names to {in_words(arguments[1])}" if origin is Mapping else f"of type {annotation}"
        return Constraint(lambda value: _is(value, origin), kind)
    words = f"a {annotation.__name__}; give a mapping with {TARGET}"
    return Constraint(lambda value: _is(value, annotation), _PLAIN.get(annotation, (None, words))[1])


def _items(arguments: tuple[Any, ...]) -> Constraint:
    """Of a list in which each item is of one kind, or of a tuple with a kind for each place."""
    fixed = ... not in arguments and len(arguments) > 1

    def holds(values: Any) -> bool:
        if not isinstance(values, Collection) or isinstance(values, str | Mapping):
            return False
        kinds = arguments if fixed else arguments[:1] * len(values)
        return len(values) == len(kinds) and all(map(_allowed, values, kinds))

    return Constraint(holds, list_of(list(map(in_words, arguments[: None if fixed else 1])), fixed))


def _is(value: object, kind: Any) -> bool:
    """Whether a value is of a class, if it is one; integers are numbers, and True is none."""
    if isinstance(value, bool) and kind in (int, float):
        return False
    wanted, _ = _PLAIN.get(kind, (kind, ""))
    return not isinstance(wanted, type) or isinstance(value, wanted)


def accepts_none(annotation: Any) -> bool:
    """Whether None is one of the alternatives."""
    return NoneType in members(annotation)


def classes(annotation: Any) -> tuple[type, ...]:
    """The classes of which a built object must be one; empty if the annotation does not say."""
    wanted = tuple(_bare(m) for m in members(annotation) if m is not NoneType)
    return wanted if Any not in wanted and all(isinstance(m, type) for m in wanted) else ()


def of_items(annotation: Any) -> Any:
    """The annotation of what a list or a mapping holds; Any if it does not say."""
    parts = ((typing.get_origin(m), typing.get_args(m)) for m in members(annotation))
    kinds = [a for o, args in parts for a in (args[-1:] if isinstance(o, type) and issubclass(o, Mapping) else args)]
    return functools.reduce(operator.or_, (k for k in kinds if k is not ...)) if kinds else Any


def _bare(annotation: Any) -> Any:
    """The class that an annotation is about, without its constraints and what it holds."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _bare(annotation.__origin__)
    if origin is Literal:
        return type(typing.get_args(annotation)[0])
    return origin if isinstance(origin, type) and origin is not UnionType else annotation


@_cached
def _adapter(annotation: Any) -> Any:
    """A strict pydantic validator, or None for what pydantic cannot describe."""
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True, strict=True))
    except PydanticUserError:
        return None


def checked(value: Any, path: str, annotation: Any) -> Any:
    """The value as the annotation asks: lists become tuples, and integers become floats.

    Raises:
        InputError: it is of another type, or out of range.
    """
    from pydantic import ValidationError

    adapter, where = _adapter(annotation), path or "value"
    if adapter is None:
        return value
    try:
        # strictness in the sense of JSON is what is wanted: "3" is no number, 3.5 no integer, a list may be a tuple
        found = adapter.validate_json(json.dumps(value, default=str))
    except ValidationError as error:
        hint = _hint(value, annotation, error.errors()[0]["loc"])
        raise InputError(f"{where}: {value!r:.500} is not {in_words(annotation)}{hint}") from None
    require_allowed(where, found, annotation)
    for number in _numbers(found):
        require(abs(number) < 2**63 if isinstance(number, int) else math.isfinite(number), where, value, _FINITE)
    return found


def _hint(value: Any, annotation: Any, place: tuple[int | str, ...]) -> str:
    """What may be meant, or which item of a list is wrong; nothing if that is not clear."""
    if isinstance(value, str):
        listed = (typing.get_args(m) for m in members(annotation) if typing.get_origin(m) is Literal)
        return did_you_mean(value, itertools.chain(*listed))
    if isinstance(value, float) and value.is_integer() and int in map(_bare, members(annotation)):
        return f"; write {int(value)}"
    items = dict(enumerate(value)) if isinstance(value, list | tuple) else {}
    return "".join(f" (item {i} is {items[i]!r})" for i in place[-1:] if i in items)
