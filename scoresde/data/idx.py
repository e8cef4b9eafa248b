"""Reads the IDX files in which MNIST and its relatives are handed out."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from scoresde.errors import InputError

_GZIP = b"\x1f\x8b"
_BYTES = 8  # the code of unsigned bytes among the types that the format knows


def read_idx(path: Path, axes: int) -> np.ndarray:
    """The unsigned bytes of an IDX file, gzipped or not, as an array with `axes` axes.

        2 zero bytes, type (8: unsigned byte), number of axes, their sizes as big-endian 32-bit integers, the values

    Raises:
        InputError: another kind of file, another type or number of axes, or more or fewer values than announced.

    Reference: Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits, 1998.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(_GZIP) else content
    except (OSError, EOFError, zlib.error) as error:
        raise _unusable(path, f"cannot be read ({' '.join(str(error).split())})") from None
    magic, wanted = content[:4], bytes((0, 0, _BYTES, axes))
    if magic != wanted:
        raise _unusable(path, f"begins with {magic.hex(' ') or 'nothing'} where {wanted.hex(' ')} is expected")
    start = 4 + 4 * axes
    if len(content) < start:
        raise _unusable(path, f"ends within its header, after {len(content)} of {start} bytes")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", axes, offset=4))
    if len(content) - start != math.prod(shape):
        raise _unusable(path, f"holds {len(content) - start:,} values, and says {math.prod(shape):,} for {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _unusable(path: Path, why: str) -> InputError:
    return InputError(f"data.folder: {path} {why}; download the file again")
