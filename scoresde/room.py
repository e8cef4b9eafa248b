"""How much memory there is, and what fits into it: sizes that cannot be are refused before anything is made."""

import os
from pathlib import Path

from scoresde.errors import InputError

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB")


def memory() -> int:
    """Bytes of memory that this program can have at most."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else [2**40]
    for file in map(Path, _LIMITS):
        text = file.read_text().strip() if file.is_file() else ""
        found += [int(text)] if text.isdigit() else []
    return min(found)


def in_words(size: float) -> str:
    """A number of bytes, such as 3.2 GB."""
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} {_UNITS[-1]}"


def require_room(key: str, value: object, size: float, at_most: int | None = None, there: int | None = None) -> None:
    """Raise unless something fits.

    Args:
        key: of the setting that decides the size.
        value: its value.
        size: bytes that are needed at least.
        at_most: the largest value that fits, if it is a number.
        there: bytes that there are; None takes all memory.

    Raises:
        InputError: names the value, its size and what fits.
    """
    there = memory() if there is None else there
    if size > there:
        fits = "give less" if at_most is None else f"give at most {max(at_most, 1):,}"
        raise InputError(f"{key}: {value} needs at least {in_words(size)}, and there are {in_words(there)}; {fits}")
