"""Values of a configuration against the annotation of the parameter that they are for."""

import functools
import itertools
import json
import typing
from types import NoneType
from typing import Annotated, Any, Literal

from scoresde.constraints import in_words, members, require_allowed
from scoresde.errors import InputError, did_you_mean


def accepts_none(annotation: Any) -> bool:
    """Whether None is one of the alternatives."""
    return NoneType in members(annotation)


def classes(annotation: Any) -> tuple[type, ...]:
    """The classes of which a built object must be one; empty if the annotation does not say."""
    wanted = tuple(_bare(m) for m in members(annotation) if m is not NoneType)
    return wanted if Any not in wanted and all(isinstance(m, type) for m in wanted) else ()


def _bare(annotation: Any) -> Any:
    """An annotation without its constraints."""
    return annotation.__origin__ if typing.get_origin(annotation) is Annotated else annotation


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
    """The value as the annotation asks: lists become tuples, and integers become floats.

    Raises:
        InputError: it is of another type, or out of range.
    """
    from pydantic import ValidationError

    adapter = _adapter(annotation)
    if adapter is None:
        return value
    try:
        # strictness in the sense of JSON is what is wanted: "3" is no number, 3.5 no integer, a list may be a tuple
        found = adapter.validate_json(json.dumps(value, default=str))
    except ValidationError as error:
        hint = _hint(value, annotation, error.errors()[0]["loc"])
        raise InputError(f"{path or 'value'}: {value!r} is not {in_words(annotation)}{hint}") from None
    require_allowed(path or "value", found, annotation)
    return found


def _hint(value: Any, annotation: Any, place: tuple[int | str, ...]) -> str:
    """What may be meant, or which item of a list is wrong; nothing if that is not clear."""
    if isinstance(value, str):
        listed = (typing.get_args(m) for m in members(annotation) if typing.get_origin(m) is Literal)
        return did_you_mean(value, itertools.chain(*listed))
    if isinstance(value, float) and value.is_integer() and int in map(_bare, members(annotation)):
        return f"; write {int(value)}"
    if isinstance(value, list | tuple) and place and isinstance(i := place[-1], int) and i < len(value):
        return f" (item {i} is {value[i]!r})"
    return ""
