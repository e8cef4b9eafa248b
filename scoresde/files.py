"""Files that are written whole or not at all."""

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scoresde.errors import InputError, one_line, refuse
from scoresde.plain import depth, finite

_REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}

LARGEST, DEEPEST = 2**20, 50  # of a configuration: bytes, and mappings within mappings
_LARGEST_JSON = 32 * LARGEST


def read_json(path: Path, key: str = "file", hook: Callable[[dict[str, Any]], Any] | None = None) -> dict[str, Any]:
    """The mapping in a JSON file that may be a stranger's; null for NaN and infinities, which JSON lacks.

    Args:
        path: of the file.
        key: with which messages begin.
        hook: makes something else of each mapping.

    Raises:
        InputError: it is not readable, too large or too deep, or holds no mapping.
    """
    try:
        refuse(path.stat().st_size > _LARGEST_JSON, f"has more than {_LARGEST_JSON:,} bytes")
        content: Any = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None, object_hook=hook)
        refuse(not isinstance(content, dict), f"holds {type(content).__name__}, not a mapping")
        refuse(depth(content, DEEPEST) > DEEPEST, f"is nested more than {DEEPEST}-fold")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{key}: {path} cannot be read as JSON ({one_line(error):.200})") from None
    found: dict[str, Any] = content if hook else finite(content)
    return found


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write aside, then rename, as `write_text` does."""
    write_text(path, strict_json(content))


def strict_json(content: Mapping[str, Any]) -> str:
    """The text of a JSON file, with null for NaN and infinities, which JSON lacks."""
    return json.dumps(finite(content), indent=2, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write aside, then rename: a reader sees the old file or the new one, whole.

    Raises:
        InputError: it cannot be written; nothing is left behind.
    """
    with aside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def aside(path: Path, flushed: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; the file written there gets its name when it is complete.

    Args:
        path: of the file.
        flushed: whether it is on the disk by then, for which one waits; not worth it for each of many files.

    Raises:
        InputError: it cannot be written, for example because the disk is full; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        if flushed:
            for leftover in path.parent.glob(f".{path.name}.*"):
                _remove_abandoned(leftover)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _hold(descriptor)
            yield temporary
            if flushed:
                os.fsync(descriptor)
            temporary.replace(path)
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, key: str = "file") -> Iterator[None]:
    """Turn an error of the system within the block into one line with the path.

    Raises:
        InputError: such an error.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise InputError(f"{key}: {path} cannot be written ({reason}); make room, or give another place") from error


@contextmanager
def of_the_disk() -> Iterator[None]:
    """Turn what a full, read-only or forbidden disk refuses within the block into one line, wherever it arises.

    Raises:
        InputError: such an error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        place = error.filename or "disk"
        raise InputError(f"{place}: {error.strerror}; make room, or give another place") from error


def flush(path: Path) -> None:
    """Flush the contents of a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hold(descriptor: int) -> None:
    """Lock an open file until it is closed, so that other programs see that it is in use.

    Raises:
        BlockingIOError: another program holds it.
    """
    with suppress(ImportError):  # Windows
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_abandoned(temporary: Path) -> None:
    """Remove the temporary file of a program that was killed; one that lives holds it."""
    if temporary.suffix[1:].isdigit() and temporary.is_file():
        with suppress(OSError), temporary.open("rb") as file:
            _hold(file.fileno())
            temporary.unlink()
