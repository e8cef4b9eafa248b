"""The user's own pictures: a folder of image files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from scoresde.data.dataset import Dataset, assemble, check_split, existing, split
from scoresde.data.transform import Transform
from scoresde.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class ImageFolder:
    """All images below a folder, of one size; events (3, height, width) or (1, height, width).

    Each image is turned as its camera says, laid on white where it is transparent, resized so that it just
    covers the size asked for, and cropped at the centre. Levels 0 to 255 become level / 128 - 1, in [-1, 1):
    exact in float32, each level the lower edge of its bin.

    Args:
        path: the folder; png, jpg, jpeg, webp and bmp files at any depth are read, in the order of their
            names. Hidden files are passed over.
        size: pixels of a square, or [height, width]; None if all images have one size already.
        mode: "rgb" for colour or "grey".
        held_out: fraction of the images that training never sees.
        split_seed: which images those are.

    Raises:
        InputError: from the constructor: a size below 1, another mode, held_out outside (0, 1) or a negative
            seed. From `load`: no folder, fewer than two images, an unreadable one, or several sizes without
            `size`.
    """

    def __init__(
        self,
        path: str | None = None,
        size: int | list[int] | None = None,
        mode: Literal["rgb", "grey"] = "rgb",
        held_out: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        check_split(held_out, split_seed)
        if mode not in ("rgb", "grey"):
            raise InputError(f"mode: {mode} is not allowed; give rgb or grey")
        self.path = path
        self.size = _pair(size)
        self.mode = mode
        self.held_out = held_out
        self.split_seed = split_seed

    def load(self) -> Dataset:
        """Reads, turns, resizes and crops the images, with a progress bar on a terminal."""
        from tqdm import tqdm

        root = existing(self.path, "photos/")
        if not root.is_dir():
            raise InputError(f"data.path: {root} is a file; give a folder of images, or data=array for .npy and .csv")
        files = _image_files(root)
        size, first = self.size, files[0]
        images: np.ndarray | None = None
        for k, file in enumerate(tqdm(files, desc="reading images", unit="image", disable=None, leave=False)):
            pixels = _read(file, self.size, self.mode)
            if images is None:
                size = pixels.shape[1:]
                images = np.empty((len(files), *pixels.shape), dtype=np.uint8)
            if pixels.shape[1:] != size:
                raise InputError(
                    f"data.size: not given, but {first} is {_shown(images[0])} pixels and {file} is "
                    f"{_shown(pixels)}; e.g. data.size=64 resizes and crops all"
                )
            images[k] = pixels
        assert images is not None
        return assemble(
            images, Transform.of_bytes(images.shape[1:]), split(len(images), self.held_out, self.split_seed)
        )


def _pair(size: int | list[int] | None) -> tuple[int, int] | None:
    """(height, width) from one number or two."""
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise InputError(f"size: {size} is not allowed; give an integer >= 1, or two as [height, width]")
    return sides[0], sides[1]


def _shown(pixels: np.ndarray) -> str:
    return f"{pixels.shape[2]} x {pixels.shape[1]}"


def _image_files(root: Path) -> list[Path]:
    """The images below a folder in a fixed order; raises InputError if there are fewer than two."""
    seen = [f for f in root.rglob("*") if not any(part.startswith(".") for part in f.relative_to(root).parts)]
    files = sorted(f for f in seen if f.suffix.lower() in _SUFFIXES and f.is_file())
    if len(files) < 2:
        others = sum(f.is_file() for f in seen) - len(files)
        raise InputError(
            f"data.path: {root} holds {'one image only' if files else 'no image'} "
            f"({', '.join(suffix[1:] for suffix in _SUFFIXES)})"
            f"{f', but {others} other file' + 's' * (others > 1) if others else ''}"
            "; give a folder with at least 2 images"
        )
    return files


def _read(file: Path, size: tuple[int, int] | None, mode: str) -> np.ndarray:
    """One image as (channels, height, width) uint8."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            image = _eight_bit(ImageOps.exif_transpose(opened))
            if image.mode != "L":
                # Without a background, colours hidden below transparent pixels would come to light.
                alpha = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", alpha.size, "white"), alpha)
            image = image.convert("RGB" if mode == "rgb" else "L")
            if size is not None:
                image = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.BICUBIC)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"data.path: {file} cannot be read as an image ({reason}); remove or replace it") from None
    pixels = np.asarray(image)
    return pixels[None] if mode == "grey" else np.moveaxis(pixels, -1, 0)


def _eight_bit(image: Image) -> Image:
    """Scales 16-bit grey to 8 bits; pillow's own conversion would clip it to white."""
    from PIL import Image as pillow

    if image.mode not in ("I;16", "I;16B", "I;16L", "I"):
        return image
    return pillow.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8))
