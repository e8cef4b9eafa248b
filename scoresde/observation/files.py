"""Arrays that an observation takes from a file: masks, matrices, kernels."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.data.numpy_files import read_npy, readable
from scoresde.data.pixels import FORMATS, levels, opened
from scoresde.errors import InputError, refuse


def values(source: Any, key: str) -> Tensor:
    """Numbers from a .npy file or an image, or as they are given; float64.

    An image is (4, height, width), see `is_image`.

    Args:
        source: the path, or numbers.
        key: the setting that names it, for messages.

    Raises:
        InputError: there is no such file, or it is damaged or holds no finite numbers.
    """
    array = _from_file(Path(source), f"{key}: {source}") if isinstance(source, str | Path) else source
    try:
        found = torch.as_tensor(np.asarray(array) if not isinstance(array, Tensor) else array).to(torch.float64)
    except (TypeError, ValueError):
        raise InputError(f"{key}: it is no array of numbers; give a .npy file or nested lists") from None
    refuse(not bool(torch.isfinite(found).all()), f"{key}: it holds NaN or infinite values; give finite numbers")
    return found


def is_image(source: Any) -> bool:
    """Whether it is the path of an image, whose `values` are levels of red, green, blue and opacity."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in FORMATS


def _from_file(path: Path, where: str) -> np.ndarray:
    refuse(not path.is_file(), f"{where} is no file; give a .npy file or an image")
    if is_image(path):
        try:
            with opened(path, str(path)) as image:
                return levels(image, None, "rgba")
        except InputError as error:
            raise InputError(f"{where} {str(error).partition(f'{path} ')[2] or error}") from None
    refuse(path.suffix != ".npy", f"{where} is of no known kind; give .npy or {', '.join(FORMATS)}")
    with readable(path, where), path.open("rb") as file:
        return read_npy(file, path.stat().st_size, where)
