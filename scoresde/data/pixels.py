"""Images of any kind decoded to levels: orientation, transparency, bit depth and size."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from scoresde.errors import InputError, one_line, refuse

if TYPE_CHECKING:
    from PIL.Image import Image

    from scoresde.data.transform import Transform

Mode = Literal["rgb", "grey", "rgba", "grey16"]
# By the ending of a file. Pillow tries no other: of those that it knows, some start programs.
FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF", ".tif": "TIFF",
    ".tiff": "TIFF",
}  # fmt: skip
CHANNELS = (1, 3, 4)  # of images in files: grey, color, color with transparency
_MOST = 2**26  # pixels of a resized image
_FULL = 257  # 65535 / 255: what 8 bits are multiplied by in 16
_DEEP = re.compile(";16[BLN]")  # among the layouts of pillow, those of 16 bits a channel


def sides(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """(height, width) from one number or two; None stays None."""
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        raise InputError(f"size: {size} is not allowed; give an integer >= 1, or two as [height, width]")
    height, width = pair
    refuse(height * width > _MOST, f"size: {size} is {height * width:,} pixels an image; give at most {_MOST:,}")
    return height, width


@contextmanager
def opened(file: Path | BinaryIO, name: str) -> Iterator[Image]:
    """An image file of one of `FORMATS`, whatever its ending; what pillow cannot read in it is an InputError.

    Args:
        file: the file.
        name: what to call it in a message.

    Raises:
        InputError: another or a damaged file, several frames, or so many pixels that memory is at risk.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # from 90 million pixels
            with Image.open(file, formats=sorted({*FORMATS.values()})) as image:
                # the second image in a jpeg is a preview of the first
                several = image.format != "MPO" and getattr(image, "is_animated", False)
                refuse(several, "it holds several frames; save each as a file of its own")
                yield image
    except (
        OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning
    ) as error:  # fmt: skip
        reason = str(error) if isinstance(error, InputError) else f"{one_line(error)}; remove or replace it"
        raise InputError(f"data.path: {name} cannot be read as an image: {reason}") from None


def levels(image: Image, size: tuple[int, int] | None, mode: Mode) -> np.ndarray:
    """The image as (channels, height, width), uint8, or uint16 for `grey16`.

    Rotated as its camera says, placed on white where it is transparent (but for `rgba`), resized so that it just
    covers `size` and cropped at the center. Levels of 8 bits become those of 16 times 257.

    Raises:
        InputError: the mode would lose some of its 16 bits, or it holds other numbers than levels.
        OSError, ValueError, SyntaxError, DecompressionBombError: from pillow, which decodes it here.
    """
    from PIL import Image as pillow
    from PIL import ImageOps

    grey, layout = image.mode.startswith("I"), str(getattr(image, "tile", ""))
    refuse(image.mode == "F", "it holds fractions; give such numbers as an array, data=array")
    lost = "it has several channels of 16 bits, of which only 8 are read; save it with 8 bits, or as 16-bit grey"
    refuse(not grey and _DEEP.search(layout) is not None, lost)
    image = ImageOps.exif_transpose(image)
    if grey:
        deep = _sixteen_bits(np.asarray(image))
        if mode == "grey16":
            return _covering(pillow.fromarray(deep.astype(np.float32)), size, np.uint16)[None]
        # what was 8 bits once loses nothing
        lossy = bool((deep % _FULL).any())
        refuse(lossy, f"its levels have 16 bits, more than mode={mode} keeps; data.mode=grey16 keeps all")
        image = pillow.fromarray((deep // _FULL).astype(np.uint8))
    if mode != "rgba" and image.mode != "L":
        # without a background, colors hidden below transparent pixels would show
        alpha = image.convert("RGBA")
        image = pillow.alpha_composite(pillow.new("RGBA", alpha.size, "white"), alpha)
    if mode == "grey16":
        deep = np.asarray(image.convert("L"), np.float32) * _FULL
        return _covering(pillow.fromarray(deep), size, np.uint16)[None]
    pixels = _covering(image.convert({"grey": "L"}.get(mode, mode.upper())), size, np.uint8)
    return pixels[None] if mode == "grey" else np.moveaxis(pixels, -1, 0)


def _sixteen_bits(values: np.ndarray) -> np.ndarray:
    """Grey levels as unsigned integers of 16 bits."""
    low, high = int(values.min()), int(values.max())
    refuse(not 0 <= low <= high < 2**16, f"its levels run from {low} to {high}; give 16 bits, 0 to 65535")
    return values.astype(np.uint16)


def _covering(image: Image, size: tuple[int, int] | None, dtype: Any) -> np.ndarray:
    """The middle of the image, scaled to cover `size`, (height, width) or (height, width, channels)."""
    from PIL import Image as pillow
    from PIL import ImageOps

    if size is not None:
        image = ImageOps.fit(image, (size[1], size[0]), method=pillow.Resampling.BICUBIC)
    # bicubic interpolation of fractions overshoots
    pixels = np.asarray(image)
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels).clip(0, np.iinfo(dtype).max).astype(dtype)


def image_of(event: np.ndarray, transform: Transform) -> Image:
    """An image (channels, height, width) for a file: finished 8 and 16-bit levels as they are, others over 8 bits."""
    from PIL import Image as pillow

    if event.dtype == np.uint16 or (event.dtype == np.uint8 and transform.levels == _FULL - 1):
        levels = event
    else:
        low, high = transform.low or 0.0, 1.0 if transform.high is None else transform.high
        levels = np.rint((np.nan_to_num(event) - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
    return pillow.fromarray(levels[0] if len(levels) == 1 else np.ascontiguousarray(np.moveaxis(levels, 0, -1)))
