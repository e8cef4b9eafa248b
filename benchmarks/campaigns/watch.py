"""Every change of a folder that this process makes: seen, and something done before it, such as a SIGKILL."""

import builtins
import io
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"}
_OPEN = io.open


class Watch:
    """Sees the audit events of the interpreter, and with `writes` each write to a file, half of it, and fsync too."""

    place: Path | None = None
    writes = False
    count = 0
    at: float = math.inf  # the change before which `act` is called, and before each later one
    act: Callable[[str, Path], object] = staticmethod(lambda event, path: None)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.place is None or event not in _CHANGES or isinstance(arguments[0], int):
            return
        if event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.see(event, os.fsdecode(arguments[0]))

    def see(self, event: str, name: str) -> None:
        path = Path(name).absolute()
        if self.place is not None and self.place in path.parents and path.name != ".lock":
            self.count += 1
            if self.count >= self.at:
                self.act(event, path)


WATCH = Watch()
sys.addaudithook(WATCH)


class _Raw(io.FileIO):
    """A file of which each write is seen twice: before it, and when half of it is done."""

    def write(self, data: Any) -> int:
        name, view = os.fspath(self.name), memoryview(data).cast("B")
        WATCH.see("write", name)
        half = len(view) // 2 if WATCH.count + 1 >= WATCH.at else 0
        done = super().write(view[:half]) if half else 0
        WATCH.see("half of a write", name)
        return done + super().write(view[done:])


def _open(file: Any, mode: str = "r", buffering: int = -1, *text: Any, **more: Any) -> Any:
    seen = WATCH.writes and set(mode) & set("wax+") and not isinstance(file, int)
    if not seen or WATCH.place is None or WATCH.place not in Path(file).absolute().parents:
        return _OPEN(file, mode, buffering, *text, **more)
    raw = _Raw(file, mode.replace("b", "").replace("t", ""))
    if buffering == 0:
        return raw
    buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
    return buffered if "b" in mode else io.TextIOWrapper(buffered, *text, **more)


def _fsync(descriptor: int) -> None:
    """Seen, and left out: a SIGKILL takes nothing from a file that was not flushed to the disk."""
    WATCH.see("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink()))


@contextmanager
def watched(
    place: Path, at: float = math.inf, act: Callable[[str, Path], object] | None = None, writes: bool = False
) -> Iterator[Watch]:
    """Watch the changes below a folder within the block.

    Args:
        place: the folder.
        at: number of the change before which `act` is called, and before each later one.
        act: called with the change and the path.
        writes: see writes and fsync too.
    """
    WATCH.count, WATCH.at, WATCH.act, WATCH.writes = 0, at, act or Watch.act, writes
    WATCH.place = place
    before = os.fsync
    if writes:
        io.open, builtins.open, os.fsync = _open, _open, _fsync  # type: ignore[assignment]
    try:
        yield WATCH
    finally:
        WATCH.place = None
        if writes:
            io.open, builtins.open, os.fsync = _OPEN, _OPEN, before
