"""The one exception that means: the user can fix this. Imports nothing heavy."""

from collections.abc import Iterable

TARGET = "_target_"  # the key of a configuration that names a class


class InputError(ValueError):
    """An input that cannot be used; the message is one line that names it, its value and what would be right.

    The command line prints the message without a traceback and exits with 2.
    """


def require(ok: bool, name: str, value: object, wanted: str) -> None:
    """Raise `InputError("name: value is not allowed; wanted")` unless `ok`."""
    if not ok:
        raise InputError(f"{name}: {value!r:.500} is not allowed; {wanted}")


def refuse(bad: bool, message: str) -> None:
    """Raise `InputError(message)` if `bad`."""
    if bad:
        raise InputError(message)


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks."""
    return " ".join(str(error).split())


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """`; did you mean ...?` with the nearest of the known names, or nothing if none is near."""
    import difflib

    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f"; did you mean {prefix}{near[0]}?" if near else ""
