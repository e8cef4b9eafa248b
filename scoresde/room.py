"""How much memory there is, and what fits into it: sizes that cannot be are refused before anything is made."""

import os
from contextlib import suppress
from pathlib import Path

from scoresde.errors import InputError, refuse

_GROUP = Path("/sys/fs/cgroup")  # of a container: limit and use, in both versions of control groups
_LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB")
_SHARE = 3  # of the free memory, what one array may take: it is copied for the types of files, splits and training


def memory() -> int:
    """Bytes of memory that this program can have at most."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else [2**40]
    return min(found + [limit for limit, _ in _limits()])


def free_memory() -> int:
    """Bytes of memory that this program can still take."""
    found = [memory()]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    return max(0, min(found + [limit - used for limit, used in _limits()]))


def _limits() -> list[tuple[int, int]]:
    """Limit and use of the container, where it has a limit."""
    found = []
    for limit, used in _LIMITS:
        with suppress(OSError, ValueError):
            found.append((int((_GROUP / limit).read_text()), int((_GROUP / used).read_text())))
    return found


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


def require_free(size: int, where: str) -> None:
    """Raise InputError, beginning with `where`, for an array of more bytes than fit into the free memory."""
    most = free_memory() // _SHARE
    refuse(size > most, f"{where} announces {in_words(size)}, and {in_words(most)} fit into memory; give fewer items")
