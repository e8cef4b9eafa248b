"""The peak memory of a piece of work."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """Filled when the work is done; `megabytes` is None where it cannot be measured."""

    megabytes: float | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the memory at its highest, above that before, within the block.

    On CUDA what torch has allocated, on the CPU the resident memory of the process, which grows by whole pages and not
    at all where freed memory is used again; Linux only.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.megabytes = (torch.cuda.max_memory_allocated(device) - before) / 2**20
        return
    try:
        _RESET.write_text("5")
        start = _resident("VmRSS")
    except OSError:  # not Linux
        yield peak
        return
    yield peak
    peak.megabytes = max(_resident("VmHWM") - start, 0.0)


def _resident(key: str) -> float:
    found = re.search(rf"{key}:\s+(\d+) kB", _STATUS.read_text())
    if found is None:
        raise OSError(f"{_STATUS} has no {key}")
    return int(found[1]) / 1024
