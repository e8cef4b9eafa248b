"""Values of a configuration against the annotation of the parameter that they are for."""

import functools
import json
import typing
from collections.abc import Sequence
from typing import Any

from scoresde.constraints import WORDS, bare, is_union, require_allowed
from scoresde.errors import TARGET, InputError, did_you_mean


def members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the annotation alone, without constraints."""
    if is_union(annotation):
        return tuple(map(bare, typing.get_args(annotation)))
    return (bare(annotation),)


def accepts_none(annotation: Any) -> bool:
    """Whether None is one of the alternatives."""
    return annotation is not Any and type(None) in members(annotation)


def classes(annotation: Any) -> tuple[type, ...]:
    """The classes of which a built object must be one; empty if the annotation does not say."""
    wanted = [m for m in members(annotation) if m is not type(None)]
    return tuple(wanted) if annotation is not Any and all(isinstance(m, type) for m in wanted) else ()


@functools.cache
def _adapter(annotation: Any) -> Any:
    """A strict pydantic validator, or None for what pydantic cannot describe."""
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True, strict=True))
    except PydanticUserError:
        return None


def checked(value: Any, path: str, annotation: Any) -> Any:
    """The value as the annotation asks: lists become tuples, and integers become floats."""
    from pydantic import ValidationError

    adapter = _adapter(annotation)
    if adapter is None:
        return value
    try:
        # strictness in the sense of JSON is what is wanted: "3" is no number, 3.5 no integer, a list may be a tuple
        value = adapter.validate_json(json.dumps(value, default=str))
    except ValidationError as error:
        (words, texts), place = _in_words(annotation), error.errors()[0]["loc"]
        hint = did_you_mean(value, texts) if isinstance(value, str) else ""
        if isinstance(value, float) and value.is_integer() and int in members(annotation):
            hint = f"; write {int(value)}"
        elif isinstance(value, list | tuple) and place and isinstance(i := place[-1], int) and i < len(value):
            hint = f" (item {i} is {value[i]!r})"
        raise InputError(f"{path or 'value'}: {value!r} is not {words}{hint}") from None
    require_allowed(path or "value", value, annotation)
    return value


def _in_words(annotation: Any) -> tuple[str, tuple[str, ...]]:
    """The annotation in words, and the texts it lists."""
    annotation = bare(annotation)
    if annotation is type(None):
        return "null", ()
    if annotation in WORDS:
        return f"{WORDS[annotation]} ({annotation.__name__} expected)", ()
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments)), tuple(map(str, arguments))
    if is_union(annotation):
        return _any_of(arguments)
    if origin is tuple and ... not in arguments:
        return f"a list of {len(arguments)}: " + ", ".join(_in_words(a)[0] for a in arguments), ()
    if origin in (list, tuple, Sequence) and arguments:
        words = _in_words(arguments[0])[0]
        return f"a list in which each item is {words}", ()
    if isinstance(annotation, type) and origin is None:
        return f"a {annotation.__name__}; give a mapping with {TARGET}", ()
    return f"of type {annotation}", ()


def _any_of(arguments: tuple[Any, ...]) -> tuple[str, tuple[str, ...]]:
    """A union in words; its classes are left out where a plain value is possible."""
    plain = [a for a in arguments if bare(a) in WORDS or not isinstance(a, type)]
    described = [_in_words(a) for a in (arguments if plain in ([], [type(None)]) else plain)]
    return " or ".join(words for words, _ in described), tuple(text for _, texts in described for text in texts)
