"""Arrays that an observation takes from a file: masks, matrices, kernels."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.data.single import is_image, read_array, read_image
from scoresde.errors import InputError, refuse

__all__ = ["is_image", "values"]


def values(source: Any, key: str) -> Tensor:
    """Numbers from a .npy file or an image, or as they are given; float64.

    An image is (4, height, width): levels of red, green, blue and opacity.

    Args:
        source: the path, or numbers.
        key: the setting that names it, for messages.

    Raises:
        InputError: there is no such file, or it is damaged or holds no finite numbers.
    """
    if isinstance(source, str):
        source = read_image(source, key, "rgba") if is_image(source) else read_array(source, key)
    try:
        found = torch.as_tensor(source if isinstance(source, Tensor) else np.array(source)).to(torch.float64)
    except (TypeError, ValueError):
        raise InputError(f"{key}: it is no array of numbers; give a .npy file or nested lists") from None
    refuse(not bool(torch.isfinite(found).all()), f"{key}: it holds NaN or infinite values; give finite numbers")
    return found
