"""From an image of any size and kind to the levels of one size that a data set holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from scoresde.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

Mode = Literal["rgb", "grey"]


def check_mode(mode: str) -> None:
    """Raises InputError for a mode that is neither rgb nor grey."""
    if mode not in ("rgb", "grey"):
        raise InputError(f"mode: {mode} is not allowed; give rgb or grey")


def sides(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """(height, width) from one number or two; None stays None."""
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        raise InputError(f"size: {size} is not allowed; give an integer >= 1, or two as [height, width]")
    return pair[0], pair[1]


def levels(image: Image, size: tuple[int, int] | None, mode: str) -> np.ndarray:
    """The image as (channels, height, width) uint8.

    Rotated as its camera says, placed on white where it is transparent, resized so that it just covers `size` and
    cropped at the center.

    Raises:
        OSError, ValueError, SyntaxError, DecompressionBombError: from pillow, which decodes it here.
    """
    from PIL import Image as pillow
    from PIL import ImageOps

    image = _eight_bit(ImageOps.exif_transpose(image))
    if image.mode != "L":
        # without a background, colors hidden below transparent pixels would show
        alpha = image.convert("RGBA")
        image = pillow.alpha_composite(pillow.new("RGBA", alpha.size, "white"), alpha)
    image = image.convert("RGB" if mode == "rgb" else "L")
    if size is not None:
        image = ImageOps.fit(image, (size[1], size[0]), method=pillow.Resampling.BICUBIC)
    pixels = np.asarray(image)
    return pixels[None] if mode == "grey" else np.moveaxis(pixels, -1, 0)


def _eight_bit(image: Image) -> Image:
    """Scales 16-bit grey to 8 bits; pillow's own conversion would clip it to white."""
    from PIL import Image as pillow

    if image.mode not in ("I;16", "I;16B", "I;16L", "I"):
        return image
    return pillow.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8))
