"""Plain values: mappings and lists of them, as in a configuration."""

from collections.abc import Callable, Mapping
from typing import Any


def join(path: str, key: object) -> str:
    """The dotted path of what a mapping at `path` holds under `key`."""
    return f"{path}.{key}" if path else str(key)


def each(value: Any, change: Callable[[Any, str], Any]) -> Any:
    """A copy of a mapping, a list or a tuple with `change(item, key)` for each of its items; anything else as it is."""
    if isinstance(value, Mapping):
        return {key: change(item, str(key)) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(change(item, str(i)) for i, item in enumerate(value))
    return value
