"""In what the configurations of several results differ."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from scoresde.build import TARGET
from scoresde.named import name_of, options
from scoresde.plain import join


def differing(configs: Sequence[Mapping[str, Any]], aside: Collection[str]) -> list[dict[str, Any]]:
    """For each configuration, by dotted keys, the values in which it differs from others.

    A part of another class is one value, the name of its option, under the key of its class, such as `sde._target_`:
    its arguments differ with it.

    Args:
        configs: as plain values.
        aside: keys at their top that do not count.
    """
    flat = [dict(_flat(cfg, aside)) for cfg in configs]
    varied = [k for k in dict.fromkeys(chain(*flat)) if len({repr(f.get(k)) for f in flat}) > 1]
    groups = tuple(k.removesuffix(TARGET) for k in varied if k.endswith(TARGET))
    shown = [k for k in varied if k.endswith(TARGET) or not k.startswith(groups)]
    return [{k: _value(k, f) for k in shown if k in f} for f in flat]


def _flat(cfg: Any, aside: Collection[str], path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(cfg, Mapping):
        yield path, cfg
        return
    for key, value in cfg.items():
        if path or key not in aside:
            yield from _flat(value, aside, join(path, key))


def _value(key: str, flat: Mapping[str, Any]) -> Any:
    group = key.removesuffix(TARGET)
    if group == key:
        return flat[key]
    own = {k.removeprefix(group): v for k, v in flat.items() if k.startswith(group)}
    return name_of(next(filter(options, group.split(".")[-2::-1]), ""), own)
