"""The one exception that means: the person at the keyboard can mend this. Imports nothing."""


class InputError(ValueError):
    """An input that cannot be used; the message is one line that names it, its value and what would be right.

    The command line prints the message without a traceback and exits with 2.
    """


def require(ok: bool, name: str, value: object, wanted: str) -> None:
    """Raise `InputError("name: value is not allowed; wanted")` unless `ok`."""
    if not ok:
        raise InputError(f"{name}: {value!r} is not allowed; {wanted}")
