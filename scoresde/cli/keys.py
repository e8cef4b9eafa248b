"""The keys of a command with their defaults and meanings, read from the lines and comments of its YAML files."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from scoresde.build import TARGET
from scoresde.named import config_folder, options

_LINE = re.compile(r"( *)([\w.]+):(?: +([^#\s].*?))?(?: +# (.*))?")
_DEFAULT = re.compile(r"  - (\w+)(?:@([\w.]+))?: (\[.*?\]|\w+)")
_PRESETS = ("experiment", "debug", "hparams_search")
_WIDTH = 120


class Key(NamedTuple):
    """A setting: its dotted name, its default as written, and what its comment says."""

    name: str
    default: str
    meaning: str


def keys(command: str, typed: Sequence[str] = ()) -> list[Key]:
    """All keys of a command, with the default option of each group, or the one that is typed (`sde=ve`)."""
    file = config_folder() / f"{command}.yaml"
    own, chosen = list(_read(file)), dict(word.split("=", 1) for word in typed if "=" in word)
    found = {key.name: key for key in own}
    for group, place, default in _DEFAULT.findall(file.read_text(encoding="utf-8").partition("\n\n")[0]):
        names = re.findall(r"\w+", chosen.get(f"{group}@{place}" if place else group, default))
        for option in (options(group).get(name) for name in names if group not in _PRESETS):
            for key in _read(option, place) if option else ():
                new = found.get(key.name, key)
                found[key.name] = Key(key.name, new.default, new.meaning or key.meaning)
    return list(found.values())


def listing(rows: Sequence[Key]) -> str:
    """A line for each key, or more where its meaning is long."""
    name, default = (min(max(len(row[i]) for row in rows), most) for i, most in ((0, 44), (1, 16)))
    lines = []
    for row in rows:
        head = f"  {row.name:<{name}}  {row.default:<{default}}  "
        indent = " " * (name + default + 6)
        lines += textwrap.wrap(head + row.meaning, _WIDTH, subsequent_indent=indent, break_on_hyphens=False)
    return "\n".join(lines)


def _read(file: Path, place: str = "") -> Iterator[Key]:
    """The keys of a YAML file, below the place that its header names; parents of other keys are left out."""
    text = file.read_text(encoding="utf-8")
    header = re.search(r"^# @package ([\w.]+)$", text, re.MULTILINE)
    parents: list[tuple[int, str]] = [(-1, place or (header[1].removeprefix("_global_") if header else ""))]
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None or found[2] == "defaults":
            continue
        depth = len(found[1])
        while parents[-1][0] >= depth:
            parents.pop()
        name = f"{parents[-1][1]}.{found[2]}".lstrip(".")
        if found[3] is None:
            parents.append((depth, name))
        elif found[2] != TARGET or found[3] == "???":
            yield Key(name, "required" if found[3] == "???" else found[3], found[4] or "")
