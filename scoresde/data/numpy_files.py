"""Arrays in .npy and .npz files: nothing is unpickled, and nothing is read that does not fit into memory."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from scoresde.errors import InputError, one_line, refuse
from scoresde.room import in_words, require_free

# Compressed data of the world are smaller than this; zeros, which deflate makes 1,000 times smaller, are a trap.
_MOST_RATIO, _HARMLESS = 200, 2**28


def read_npz(path: Path, where: str) -> dict[str, np.ndarray]:
    """All arrays of a .npz file.

    Raises:
        InputError: beginning with `where`: it is damaged, holds Python objects, or announces more than there is room.
    """
    with readable(path, where), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        return {name: member(archive, name, where) for name in names}


def member(archive: zipfile.ZipFile, name: str, where: str) -> np.ndarray:
    """One array of an open .npz file; see `read_npz`."""
    info, where = archive.getinfo(f"{name}.npy"), f"{where}, array {name},"
    trap = info.file_size > max(_HARMLESS, _MOST_RATIO * info.compress_size)
    sizes = f"{in_words(info.file_size)} from {in_words(info.compress_size)}"
    refuse(trap, f"{where} announces {sizes}; at most {_MOST_RATIO} times are read: save it with numpy.savez")
    with archive.open(info) as file:
        return read_npy(file, info.file_size, where)


def read_npy(file: IO[bytes], held: int, where: str) -> np.ndarray:
    """The array of a .npy file of `held` bytes; see `read_npz`."""
    first = np.lib.format.read_magic(file)[0] == 1
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    size, there = math.prod(shape) * dtype.itemsize, held - file.tell()
    if not dtype.hasobject:
        require_free(size, where)
        announced = f"{where} announces {in_words(size)} of shape {shape}, and holds {in_words(there)}"
        refuse(size > there, f"{announced}; save it again with numpy")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


@contextmanager
def readable(path: Path, where: str) -> Iterator[None]:
    """Turn what numpy and its archives raise at a file into an InputError that begins with `where`."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, EOFError, OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            remedy = "save plain numbers, e.g. numpy.save(path, numpy.asarray(rows, dtype=float))"
            raise InputError(f"{where} holds Python objects, which are never loaded; {remedy}") from None
        what = f"cannot be read as a {path.suffix} file ({one_line(error) or type(error).__name__})"
        raise InputError(f"{where} {what}; save it again with numpy") from None
