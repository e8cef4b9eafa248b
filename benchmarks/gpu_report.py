"""Rows of `gpu.py`: measured within a time budget, printed at once, kept on disk after each."""

import contextlib
import functools
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from record import save

Figures = dict[str, Any]


class OutOfTime(BaseException):
    """Raised by the clock amidst a row; no Exception, so that no library takes it for a fault of its own."""


@dataclass
class Report:
    """What is measured, on which device, in how much time.

    Args:
        device: where.
        quick: tiny sizes, to see that everything runs.
        seconds: time for all sections together.
        file: where results go; benchmarks/results/gpu-<date>.json unless given.
    """

    device: torch.device
    quick: bool
    seconds: float
    file: Path | None = None
    rows: list[Figures] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = time.perf_counter()
        self.section, self.until = "", self.began + self.seconds

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of an image."""
        return (3, 8, 8) if self.quick else (3, 32, 32)

    @property
    def left(self) -> float:
        """Seconds left for this section."""
        return self.until - time.perf_counter()

    def begin(self, section: str, share: float) -> None:
        """Start a section that may take this share of the time that is left."""
        left = self.began + self.seconds - time.perf_counter()
        self.section, self.until = section, time.perf_counter() + share * left
        print(f"\n{section}", flush=True)

    def row(self, name: str, action: Callable[[], Figures], need: float = 1.0) -> Figures:
        """Figures of one row; instead of them why there are none, if it fails or takes too long.

        Args:
            need: do not start with fewer seconds left.
        """
        try:
            if self.left < need and not self.quick:
                raise OutOfTime
            with _alarm(max(self.left, 1.0)):
                found = action()
        except OutOfTime:
            found = {"skipped": "no time left"}
        except ImportError as error:
            found = {"skipped": f"{error.name or error} is missing"}
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.rows.append({"section": self.section, "name": name, **found})
        print(f"  {name:44}", "   ".join(f"{k} {_short(v)}" for k, v in found.items() if v is not None), flush=True)
        self.write()
        return found

    def write(self) -> Path:
        content = {"device": str(self.device), "quick": self.quick, "rows": self.rows}
        return save("gpu", {**content, "seconds": time.perf_counter() - self.began}, self.file)

    def timed(self, action: Callable[[], object], seconds: float = 1.5) -> float:
        """Median over five blocks of the seconds that one call takes, after calls that warm up."""
        for _ in range(1 if self.quick else 3):
            action()
        one = self.block(action, 1)
        count = 1 if self.quick else max(1, int(seconds / 5 / one))
        return statistics.median(self.block(action, count) for _ in range(2 if self.quick else 5))

    def block(self, action: Callable[[], object], count: int) -> float:
        """Seconds of one of `count` calls in a row."""
        self.wait()
        start = time.perf_counter()
        for _ in range(count):
            action()
        self.wait()
        return (time.perf_counter() - start) / count

    def wait(self) -> None:
        """Until the device has done all it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_memory(self, action: Callable[[], object]) -> float | None:
        """Most memory in MiB that is allocated while `action` runs, all that lay there before included."""
        if self.device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats()
        action()
        return torch.cuda.max_memory_allocated() / 2**20


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise OutOfTime after so many seconds, where the system can."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Arithmetic of matrix products and convolutions: fp32, tf32 (on CUDA), or bf16 and fp16 by autocast."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = name != "fp32"
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name)
    try:
        with torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext():
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def precisions(device: torch.device) -> tuple[str, ...]:
    """What the device knows."""
    return ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16")


def under(name: str, device: torch.device, action: Callable[[], Any]) -> Callable[[], Any]:
    """`action` in that precision."""

    @functools.wraps(action)
    def run() -> Any:
        with precision(name, device):
            return action()

    return run
