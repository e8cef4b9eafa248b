"""How much memory there is, so that data which announce more are refused before they are read."""

import os
from contextlib import suppress
from pathlib import Path

from scoresde.errors import refuse

# Of the free memory, what one array may take: it is copied into the types of files, of splits and of training.
_SHARE = 3
_GROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def free_memory() -> int:
    """Bytes that this process can still take, of the machine and of its group."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    for limit, used in _GROUPS:
        with suppress(OSError, ValueError):  # no group, or one without a limit
            group = Path("/sys/fs/cgroup")
            found.append(int((group / limit).read_text()) - int((group / used).read_text()))
    return max(min(found), 0)


def require_room(size: int, where: str) -> None:
    """Raise InputError, beginning with `where`, for an array of more bytes than fit."""
    most = free_memory() // _SHARE
    refuse(size > most, f"{where} announces {in_words(size)}, and {in_words(most)} fit into memory; give fewer items")


def in_words(size: int) -> str:
    """Bytes in the largest binary unit that leaves at least one."""
    power = min(max(size, 1).bit_length() - 1, 69) // 10
    return f"{size / 1024**power:,.1f} {('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB')[power]}"
