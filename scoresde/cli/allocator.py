"""Settings of glibc's malloc for the processes of the command line."""

import ctypes
import os
import sys

# M_TOP_PAD, what is kept, and M_MMAP_THRESHOLD, the blocks that are not, at the largest that glibc takes; see malloc.h
_OPTIONS = {-2: 100 * 2**20, -3: 32 * 2**20}


def keep_freed_memory() -> bool:
    """Let glibc keep up to 100 MiB that torch frees, which it returns to the system and faults in again at each call.

    Returns:
        Whether it does so: not without glibc on Linux, and not where MALLOC_* or GLIBC_TUNABLES are set by the user.
    """
    if sys.platform != "linux" or "GLIBC_TUNABLES" in os.environ or any(k.startswith("MALLOC_") for k in os.environ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(option, size) for option, size in _OPTIONS.items())
