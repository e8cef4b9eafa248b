"""Completion in a shell: `scoresde completion bash` prints a script that asks this module at each TAB."""

import itertools
import re
import typing
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from scoresde.cli.arguments import PLACE
from scoresde.cli.command import Command, all_commands, named
from scoresde.cli.keys import Key, keys
from scoresde.constraints import hints, members
from scoresde.errors import refuse
from scoresde.named import options
from scoresde.runs.folder import CONFIG

_SCRIPTS = {
    "bash": r"""
_scoresde() {
    local line=${COMP_LINE:0:COMP_POINT} masked word tail before found
    masked=${line//\\ /__}
    word=${masked##*[[:space:]]}
    tail=${word##*[$COMP_WORDBREAKS]}
    before=${line:${#line}-${#word}:${#word}-${#tail}}  # of the word, which readline keeps
    COMPREPLY=()
    while IFS= read -r found; do
        found=${found// /\\ }
        [[ $found == *[=./] ]] || found+=' '
        COMPREPLY+=("${found#"$before"}")
    done < <("$1" completion words "$line" 2>/dev/null)
}
complete -o nospace -F _scoresde scoresde
""",
    "zsh": r"""
_scoresde() {
    local -a found=(${(f)"$(scoresde completion words "${(j: :)words[1,CURRENT]}" 2>/dev/null)"})
    compadd -S '' -- ${(M)found:#*[=./]}
    compadd -- ${found:#*[=./]}
}
compdef _scoresde scoresde
""",
    "fish": r"""
complete -c scoresde -f -a '(scoresde completion words (commandline -cp | string collect) 2>/dev/null)'
""",
}
_FLAGS = ("--help", "--multirun", "--cfg", "-m")
_FOLDERS = ("run", "guide", "classifier", "init", "folder", "data.folder", "data.cache")  # keys that no file is for
_LISTS = {"solvers": "solver", "sdes": "sde", "posteriors": "posterior"}  # keys whose values are options of a group


def completion(arguments: Sequence[str]) -> str:
    """The script for a shell; or with `words LINE` what the last word of a line can become, a line each.

    Raises:
        InputError: another shell is asked for.
    """
    if arguments[:1] == ["words"]:
        return "".join(f"{word}\n" for word in words("".join(arguments[1:])))
    shell = " ".join(arguments)
    refuse(shell not in _SCRIPTS, f"completion: {shell!r} is not possible; give one of {', '.join(_SCRIPTS)}")
    return _SCRIPTS[shell].lstrip()


def words(line: str) -> list[str]:
    """What the last word of a command line, which begins with `scoresde`, can become."""
    _, *typed, word = (part.replace("\\ ", " ") for part in re.split(r"(?<!\\)\s+", f" {line}".lstrip()))
    commands, known, typed = all_commands(), [*_FLAGS], named(typed)
    if not typed:
        known = [*(name for name in commands if "_" not in name), "completion", "--help", "--version"]
    elif typed[0] not in commands:
        known = [*_SCRIPTS] * (typed == ["completion"])
    elif "=" in word:
        known = [*_values(commands[typed[0]], word, keys(typed[0], typed[1:]))]
    else:
        names = [*commands[typed[0]].choices, *(row.name for row in keys(typed[0], typed[1:]))]
        begin = f"{typed[0]}_"
        known += (name.removeprefix(begin) for name in commands if name.startswith(begin) and not typed[1:])
        known += (f"{name}="[: name.find(".", len(word)) + 1] or f"{name}=" for name in names)
    return sorted({one for one in known if one.startswith(word)})


def _values(row: Command, word: str, settings: Sequence[Key]) -> Iterator[str]:
    """What a setting can become whose value, or the last item of a list of them, has begun."""
    key, _, value = word.partition("=")
    if PLACE.fullmatch(key):
        yield from (f"{key}={path}" for path in _paths(value, key))
        return
    kinds = members(hints(row.settings).get(key))
    literal = (typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is Literal)
    known = [*options(_LISTS.get(key, key.partition("@")[0]))] if key in (*_LISTS, *row.choices) else []
    known += ["true", "false"] * any(one.name == key and one.default in ("true", "false") for one in settings)
    begun = value[: max(value.rfind(","), value.rfind("[")) + 1]
    yield from (f"{key}={begun}{one}" for one in (*known, *itertools.chain(*literal)))


def _paths(value: str, key: str) -> Iterator[str]:
    """The folders that a path can become, and the files if the key is about one."""
    above, last = value[: value.rfind("/") + 1], value.rpartition("/")[2]
    with suppress(OSError):
        for path in sorted(Path(above or ".").expanduser().iterdir()):
            if path.name.startswith(".") > last.startswith("."):
                continue
            is_run = key in ("run", "guide", "classifier", "init") and (path / CONFIG).is_file()
            if path.is_dir() or key not in _FOLDERS:
                yield f"{above}{path.name}" + "/" * (path.is_dir() and not is_run)
