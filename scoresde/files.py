"""Files: those of strangers are read with care, ours are written whole or not at all."""

import errno
import glob
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from scoresde.errors import InputError, one_line, refuse
from scoresde.plain import depth, finite, from_yaml

_REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}

LARGEST, DEEPEST = 2**20, 50  # of a configuration: bytes, and mappings within mappings
_LARGEST_JSON = 32 * LARGEST
_WAIT = 0.5  # seconds for a lock, which `is_held` holds for an instant


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
        refuse(not path.is_file(), "is no file")  # but a pipe, which may never end
        content: Any = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None, object_hook=hook)
        refuse(not isinstance(content, dict), f"holds {type(content).__name__}, not a mapping")
        refuse(depth(content, DEEPEST) > DEEPEST, f"is nested more than {DEEPEST}-fold")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{key}: {path} cannot be read as JSON ({one_line(error):.200})") from None
    found: dict[str, Any] = content if hook else finite(content)
    return found


def read_yaml(path: Path, name: str) -> Any:
    """The content of a YAML file that may be a stranger's: neither aliases, which can stand for gigabytes, nor depths.

    Args:
        path: of the file.
        name: with which messages begin.

    Raises:
        InputError: one line about what it is instead.
    """
    import yaml

    size, depth, loader = path.stat().st_size, 0, getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # C is much faster
    refuse(size > LARGEST, f"{name}: has {size:,} bytes, and no configuration has more than {LARGEST:,}")
    try:
        text = path.read_text(encoding="utf-8")
        for event in yaml.parse(text, loader):
            opens, closes = (isinstance(event, kinds) for kinds in (yaml.CollectionStartEvent, yaml.CollectionEndEvent))
            depth += opens - closes
            refuse(depth > DEEPEST, f"{name}: is nested more than {DEEPEST}-fold, as no configuration is")
            alias = isinstance(event, yaml.AliasEvent)
            refuse(alias, f"{name}: holds an alias (*), which no configuration may; give the value")
        return from_yaml(text)
    except InputError:
        raise
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{name}: not readable as YAML ({one_line(error)})") from None


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
            remove_abandoned(path.parent, f".{glob.escape(path.name)}")
        try:
            with held(temporary, os.O_RDWR | os.O_CREAT) as descriptor:
                yield temporary
                if flushed:
                    os.fsync(descriptor)
                temporary.replace(path)
        finally:
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


@contextmanager
def held(path: Path, flags: int = os.O_RDONLY, wait: float = 0) -> Iterator[int]:
    """Open and lock a file or folder within the block, so that other programs see that it is in use.

    Args:
        path: of the file or folder.
        flags: of `os.open`.
        wait: seconds for another program to release it.

    Raises:
        BlockingIOError: another program holds it.
    """
    descriptor = os.open(path, flags, 0o666)
    try:
        end = time.monotonic() + wait
        while not _taken(descriptor):
            if time.monotonic() >= end:
                raise BlockingIOError(errno.EWOULDBLOCK, "in use by another program", str(path))
            time.sleep(wait / 10)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def reserved(lock: Path, key: str, what: str) -> Iterator[None]:
    """Hold the file `lock`, which is made if needed, within the block.

    Args:
        lock: path of the file.
        key: with which messages begin.
        what: is in use as long as it is held.

    Raises:
        InputError: another program holds it.
    """
    with ExitStack() as stack:
        taken = None
        with writing(lock, key), suppress(BlockingIOError):
            taken = stack.enter_context(held(lock, os.O_RDWR | os.O_CREAT, _WAIT))
        refuse(taken is None, f"{key}: {what} is in use by another program; wait for it, or give another folder")
        yield


def is_held(lock: Path) -> bool:
    """Whether a program holds this file."""
    if lock.is_symlink() or not lock.is_file():
        return False
    with lock.open("rb") as file:
        return not _taken(file.fileno(), shared=True)


def _taken(descriptor: int, shared: bool = False) -> bool:
    """Take the lock of an open file, if nobody holds it, until the file is closed."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX))
    except OSError:
        return False
    return True


def remove_abandoned(parent: Path, pattern: str) -> None:
    """Remove the temporary files and folders `<pattern>.PID` of killed programs; those that live hold theirs."""
    for path in parent.glob(f"{pattern}.*"):
        ours = path.suffix[1:].isdecimal() and not path.is_symlink() and (path.is_file() or path.is_dir())
        if ours and not _lives(int(path.suffix[1:])):  # of another machine, the lock alone tells
            with suppress(OSError), held(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _lives(process: int) -> bool:
    """Whether another process of this number is there, which may be about to lock what it has made."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return process != os.getpid()
