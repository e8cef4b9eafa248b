"""Plain values: mappings and lists of them, as in a configuration."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

_EXPONENT = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")  # YAML 1.1 wants a point and a sign


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


def depth(value: Any, most: int) -> int:
    """How many mappings and lists stand within each other, counted to one more than `most`."""
    if most < 0 or not isinstance(value, Mapping | list):
        return 0
    items = value.values() if isinstance(value, Mapping) else value
    return 1 + max((depth(item, most - 1) for item in items), default=0)


def either(words: Sequence[str]) -> str:
    """Several possibilities in words."""
    between_them = " or " if any(", " in word for word in words[:-1]) else ", "
    return " or ".join(filter(None, (between_them.join(words[:-1]), words[-1])))


def list_of(kinds: Sequence[str], fixed: bool) -> str:
    """A list of such items in words: a list of 2 numbers > 0. If it is `fixed`, there is a kind for each place."""
    several, plural = re.subn(r"^an? (number|integer|text)\b(?!.* or )", r"\1s", kinds[0])
    if plural and len(set(kinds)) == 1:
        return f"a list of {len(kinds)} {several}" if fixed else f"a list of {several}"
    return f"a list of {len(kinds)}: {', '.join(kinds)}" if fixed else f"a list in which each item is {kinds[0]}"


def finite(value: Any, _: str = "") -> Any:
    """The same plain values with null for NaN and infinities."""
    lost = isinstance(value, float) and not math.isfinite(value)
    return None if lost else each(value, finite)


def from_yaml(text: str) -> Any:
    """The plain values of a YAML file, in which `1e-4` is a number, as in YAML 1.2."""
    import yaml

    return yaml.load(text, _yaml_classes()[0])


def to_yaml(value: Any) -> str:
    """The inverse of `from_yaml`."""
    import yaml

    dumped: str = yaml.dump(value, Dumper=_yaml_classes()[1], sort_keys=False, allow_unicode=True)
    return dumped


@cache
def _yaml_classes() -> tuple[Any, Any]:
    """A loader and a dumper that know the same numbers."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # C is much faster
        pass

    class Dumper(yaml.SafeDumper):
        pass

    for one in (Loader, Dumper):
        one.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))
    return Loader, Dumper


def key_of(setting: str) -> str:
    """The dotted key that a typed setting is about: that of `+sde.beta_min=1` is sde.beta_min."""
    return setting.lstrip("+~").partition("=")[0]
