"""The command line before Hydra sees it: flags are checked and parted from settings (`key=value`)."""

import itertools
import re
from collections.abc import Sequence

from scoresde.build import did_you_mean
from scoresde.errors import InputError

# Hydra's flags and how many words follow them. Left out: --experimental-rerun, which loads a pickle.
_FLAGS = {
    **dict.fromkeys(("--help", "-h", "--hydra-help", "--resolve", "--run", "-r", "--multirun", "-m"), 0),
    **dict.fromkeys(("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-name", "-cn"), 1),
    **dict.fromkeys(("--info", "-i"), 1),
}

# Settings whose values are expressions in t, with parentheses that Hydra would take for a function of its own.
_EXPRESSION = re.compile(r"(sde\.(?:drift|diffusion|alpha_of_t|sigma_of_t))=(?!null$)([^'\"\\]+)")


def parted(command: str, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The flags with the words that belong to them, and the settings, in which expressions are quoted for Hydra.

    Flags may stand anywhere, so that `solver=heun,ddim -m sampler.steps=10,20` works as typed.

    Raises:
        InputError: there is no such flag; names the nearest right one.
    """
    flags: list[str] = []
    settings: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("-"):
            settings.append(_quoted(word))
            continue
        name, equals, _ = word.partition("=")
        if name not in _FLAGS:
            near = did_you_mean(name, [flag for flag in _FLAGS if flag.startswith("--")])
            hint = near or f"; settings are written key=value, see scoresde {command} --help"
            raise InputError(f"{name}: no such flag{hint}")
        flags += [word, *itertools.islice(rest, 0 if equals else _FLAGS[name])]
    return flags, settings


def _quoted(setting: str) -> str:
    """`sde.drift=sqrt(t)` as `sde.drift='sqrt(t)'`, and so each value of a sweep; other settings as they are."""
    found = _EXPRESSION.fullmatch(setting)
    if found is None:
        return setting
    key, values = found.groups()
    return f"{key}=" + ",".join(f"'{value}'" for value in values.split(","))
