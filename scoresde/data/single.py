"""One array or image from a file that a setting names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoresde.data.numpy_files import read_npy, readable
from scoresde.data.pixels import CHANNELS, FORMATS, Mode, levels, opened
from scoresde.data.row import read_row
from scoresde.data.table import ENDINGS
from scoresde.data.transform import Transform
from scoresde.errors import InputError, refuse, require


def is_image(source: object) -> bool:
    """Whether it is the path of an image."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in FORMATS


def read_array(path: str, key: str) -> np.ndarray:
    """The array of a .npy file.

    Raises:
        InputError: beginning with the setting: there is no such file, or it is damaged or of another kind.
    """
    file, where = _there(path, key), f"{key}: {path}"
    refuse(file.suffix != ".npy", f"{where} is of no known kind; give .npy or {', '.join(FORMATS)}")
    with readable(file, where), file.open("rb") as stream:
        return read_npy(stream, file.stat().st_size, where)


def read_image(path: str, key: str, mode: Mode, size: tuple[int, int] | None = None) -> np.ndarray:
    """The levels of an image, (channels, height, width), see `scoresde.data.pixels.levels`; errors as `read_array`."""
    file = _there(path, key)
    try:
        with opened(file, path) as image:
            return levels(image, size, mode)
    except InputError as error:
        raise InputError(f"{key}: {str(error).removeprefix('data.path: ')}") from None


def _there(path: str, key: str) -> Path:
    refuse(not Path(path).is_file(), f"{key}: {path} is no file; give a .npy file or an image")
    return Path(path)


def read_item(
    path: str, key: str, transform: Transform, shape: Sequence[int] | None = None, finite: bool = True
) -> Tensor:
    """An item in data units, float64, from a .npy file, an image, or a table of one row.

    Images of the size of items cover it and are cropped at the center, as those of a folder are; their levels are
    stretched from black to white over the range of the data, as images of samples are.

    Args:
        path: the file.
        key: the setting that names it.
        transform: of the data.
        shape: of the array instead of that of an item; then an image is not resized.
        finite: refuse NaN, which also stand for what a table does not say.

    Raises:
        InputError: another or a damaged file, or an array of another shape or with numbers that are not finite.
    """
    wanted = tuple(transform.event_shape if shape is None else shape)
    if is_image(path):
        fits = transform.kind == "image" and len(wanted) == 3 and wanted[0] in CHANNELS
        require(fits, key, path, f"this is no image of these data, which need {list(wanted)}; give a .npy file")
        deep = transform.levels is not None and transform.levels > 256
        modes: dict[int, Mode] = {1: "grey16" if deep else "grey", 3: "rgb", 4: "rgba"}
        mode = modes[wanted[0]]
        found = read_image(path, key, mode, (wanted[1], wanted[2]) if shape is None else None)
        low, high = transform.low or 0.0, 1.0 if transform.high is None else transform.high
        found = low + found.astype(np.float64) / np.iinfo(found.dtype).max * (high - low)
    elif wanted == transform.event_shape and len(wanted) == 1 and Path(path).suffix.lower() in ENDINGS:
        found = read_row(_there(path, key), key, transform)
    else:
        found = read_array(path, key)
    refuse(found.dtype.kind not in "biuf", f"{key}: {path} holds no numbers; give numbers")
    require(found.shape == wanted, key, path, f"it has the shape {list(found.shape)}; give {list(wanted)}")
    out = torch.from_numpy(found.astype(np.float64))
    if finite:
        require_finite(out, key, path, transform.of_columns)
    return out


def require_finite(values: Tensor, key: str, path: str, names: Sequence[str] | None = None) -> None:
    """Refuse NaN and infinite values of a file, and say in which columns they are."""
    bad = (~values.isfinite()).flatten().nonzero()[:, 0].tolist()
    holds = "holds NaN or infinite values"
    if names is not None:
        holds = f"has no value for {', '.join(dict.fromkeys(names[k] for k in bad))}, or none that is finite"
    refuse(bool(bad), f"{key}: {path} {holds}; give finite numbers")
