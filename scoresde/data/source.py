"""What data sources share: a split by a seed; images of any size and kind brought to levels of one size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from scoresde.data.dataset import Dataset
from scoresde.errors import InputError, at_least, one_of, require

if TYPE_CHECKING:
    from PIL.Image import Image

Mode = Literal["rgb", "grey"]


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


@dataclass(kw_only=True)
class Source(ABC):
    """Settings of a data set, read by `load`.

    Args:
        held_out: fraction of the items that training never uses.
        split_seed: which items those are.

    Raises:
        InputError: held_out outside (0, 1), or a negative seed.
    """

    held_out: float = 0.1
    split_seed: int = 0

    def __post_init__(self) -> None:
        require(0 < self.held_out < 1, "held_out", self.held_out, "give a fraction between 0 and 1, such as 0.1")
        at_least(0, split_seed=self.split_seed)

    @abstractmethod
    def load(self) -> Dataset:
        """Read the data."""


@dataclass(kw_only=True)
class ImageSource(Source):
    """Settings of images that are brought to one size and kept decoded in a cache folder.

    Each image is rotated as its camera says, placed on white where it is transparent, resized so that it just covers
    the size asked for, and cropped at the center. Levels 0 to 255 become level / 128 - 1, in [-1, 1): exact in float32,
    each level the lower edge of its bin. The cache is used for as long as no file changes.

    Args:
        size: pixels of a square, or [height, width]; None if all images have one size already.
        mode: "rgb" for color or "grey".
        flip: show training every other image mirrored left to right; for things that have no left and right.
        cache: folder of decoded images; None takes scoresde in the user's cache folder.
        held_out: see `Source`.
        split_seed: see `Source`.

    Raises:
        InputError: an argument out of its range.
    """

    size: int | list[int] | tuple[int, int] | None = None
    mode: Mode = "rgb"
    flip: bool = False
    cache: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(Mode, mode=self.mode)
        self.size = sides(self.size)
