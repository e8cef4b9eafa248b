"""The command line before Hydra sees it: flags are checked and put in front, settings (`key=value`) behind."""

from collections.abc import Iterator, Sequence

from scoresde.build import did_you_mean
from scoresde.errors import InputError

# Hydra's flags and how many words follow them. Left out: --experimental-rerun, which loads a pickle.
_FLAGS = {
    **dict.fromkeys(("--help", "-h", "--hydra-help", "--resolve", "--run", "-r", "--multirun", "-m"), 0),
    **dict.fromkeys(("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-name", "-cn"), 1),
    **dict.fromkeys(("--info", "-i"), 1),
}

# Settings whose values are expressions in t, with parentheses that Hydra would take for a function of its own.
_EXPRESSIONS = ("sde.drift", "sde.diffusion", "sde.alpha_of_t", "sde.sigma_of_t")


def check_flags(command: str, arguments: Sequence[str]) -> None:
    """Refuse flags that do not exist.

    Raises:
        InputError: names the flag and the nearest right one.
    """
    for flag, _ in _flags(arguments):
        name = flag.split("=")[0]
        if name not in _FLAGS:
            near = did_you_mean(name, [f for f in _FLAGS if f.startswith("--")])
            hint = near or f"; settings are written key=value, see scoresde {command} --help"
            raise InputError(f"{name}: no such flag{hint}")


def flags_first(arguments: Sequence[str], supplied: Sequence[str] = ()) -> list[str]:
    """The same arguments with the flags before the settings, so that `solver=heun,ddim -m sampler.steps=10,20` works
    as typed; `supplied` settings come first among them, so that typed ones win. Expressions are quoted for Hydra."""
    flags = [word for flag in _flags(arguments) for word in flag[1]]
    return [*flags, *supplied, *map(_quoted, settings(arguments))]


def _quoted(setting: str) -> str:
    """`sde.drift=sqrt(t)` as `sde.drift='sqrt(t)'`, and so each value of a sweep; other settings as they are."""
    key, _, value = setting.partition("=")
    if key not in _EXPRESSIONS or not value or value == "null" or any(c in value for c in "'\"\\"):
        return setting
    return f"{key}=" + ",".join(f"'{one}'" for one in value.split(","))


def settings(arguments: Sequence[str]) -> list[str]:
    """The arguments that are not flags."""
    rest = list(arguments)
    for _, words in _flags(arguments):
        for word in words:
            rest.remove(word)
    return rest


def _flags(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each flag with the words that belong to it."""
    position = 0
    while position < len(arguments):
        word = arguments[position]
        length = 1
        if word.startswith("-"):
            length += 0 if "=" in word else _FLAGS.get(word, 0)
            yield word, list(arguments[position : position + length])
        position += length
