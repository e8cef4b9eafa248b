"""The manifest of a checkpoint: size and SHA-256 of every file, written last."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from scoresde.errors import one_line
from scoresde.files import flush, read_json, strict_json

_MANIFEST = "manifest.json"


def seal(place: Path, pool: Executor, started: Mapping[Path, Future[str]]) -> None:
    """Write the manifest of the files in a folder, when all are flushed to the disk.

    Args:
        place: the folder.
        pool: of threads, for the digests, which would make up half of the cost of a checkpoint.
        started: digests of some of the files.
    """
    files = _files(place)
    digests = {file: started.get(file) or pool.submit(digest, file) for file in files}
    for file in files:
        file.chmod((place / "state.json").stat().st_mode)  # safetensors makes files readable by their owner only
        flush(file)
    manifest = {_name(place, f): {"size": f.stat().st_size, "sha256": digests[f].result()} for f in files}
    (place / _MANIFEST).write_text(strict_json(manifest), encoding="utf-8")
    flush(place / _MANIFEST)
    for folder in {file.parent for file in files}:
        flush(folder)


def damage(path: Path, digests: bool = True) -> str | None:
    """What is wrong with the checkpoint in a folder, in a few words; None if every file matches the manifest.

    Without digests sizes alone are compared, which takes no time.
    """
    try:
        if not (path / _MANIFEST).is_file():
            return f"{_MANIFEST} is missing"
        manifest = read_json(path / _MANIFEST)
        present = {_name(path, file) for file in _files(path)} - {_MANIFEST}
        needed = {"state.json"} if (path / "optimizer").is_dir() else {"state.json", "optimizer.safetensors"}
        names = sorted({*manifest, *present, *needed})
        found = (_damage_of_file(path, name, manifest.get(name), digests) for name in names)
        return next(filter(None, found), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{_MANIFEST} cannot be read ({one_line(error)})"


def _files(place: Path) -> list[Path]:
    """All files of a checkpoint; a module that is cut over processes has a folder of its own."""
    return sorted(file for file in place.rglob("*") if not file.is_dir() or file.is_symlink())


def _name(place: Path, file: Path) -> str:
    return file.relative_to(place).as_posix()


def _damage_of_file(path: Path, name: str, written: dict[str, Any] | None, digests: bool) -> str | None:
    """What is wrong with a file, of which the manifest says what was written."""
    file = path / name
    if written is None:
        return f"{name} is not in its manifest"
    if not file.is_file():
        return f"{name} is missing"
    size = file.stat().st_size
    if size != written["size"]:
        return f"{name} has {size} bytes instead of {written['size']}"
    same = not digests or digest(file) == written["sha256"]
    return None if same else f"{name} has another SHA-256 than when it was written"


def digest(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
