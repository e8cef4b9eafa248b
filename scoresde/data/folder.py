"""The user's own pictures: a folder of image files."""

from __future__ import annotations

from pathlib import Path

from scoresde.data.cache import Item, kept, signature
from scoresde.data.dataset import Dataset, assemble, check_split, existing, split
from scoresde.data.images import Mode, check_mode, levels, sides
from scoresde.data.transform import Transform
from scoresde.errors import InputError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class ImageFolder:
    """All images below a folder, of one size; events (3, height, width) or (1, height, width).

    Each image is turned as its camera says, laid on white where it is transparent, resized so that it just
    covers the size asked for, and cropped at the centre. Levels 0 to 255 become level / 128 - 1, in [-1, 1):
    exact in float32, each level the lower edge of its bin.

    What was decoded is kept in a cache folder, for as long as no file changes.

    Args:
        path: the folder; png, jpg, jpeg, webp and bmp files at any depth are read, in the order of their
            names. Hidden files are passed over.
        size: pixels of a square, or [height, width]; None if all images have one size already.
        mode: "rgb" for colour or "grey".
        held_out: fraction of the images that training never sees.
        split_seed: which images those are.
        flip: show training every other image mirrored left to right; for things that have no left and right.
        cache: folder of decoded images; None takes scoresde in the user's cache folder.

    Raises:
        InputError: from the constructor: a size below 1, another mode, held_out outside (0, 1) or a negative
            seed. From `load`: no folder, fewer than two images, an unreadable one, or several sizes without
            `size`.
    """

    def __init__(
        self,
        path: str | None = None,
        size: int | list[int] | None = None,
        mode: Mode = "rgb",
        held_out: float = 0.1,
        split_seed: int = 0,
        flip: bool = False,
        cache: str | None = None,
    ) -> None:
        check_split(held_out, split_seed)
        check_mode(mode)
        self.path = path
        self.size = sides(size)
        self.mode = mode
        self.held_out = held_out
        self.split_seed = split_seed
        self.flip = flip
        self.cache = cache

    def load(self) -> Dataset:
        """Reads, turns, resizes and crops the images, with a progress bar on a terminal."""
        root = existing(self.path, "photos/")
        if not root.is_dir():
            raise InputError(f"data.path: {root} is a file; give a folder of images, or data=array for .npy and .csv")
        files = _image_files(root)
        about = ["folder", self.size, self.mode, signature(files)]
        images = kept((self._read(file) for file in files), len(files), about, self.cache).levels
        transform = Transform.of_bytes(images.shape[1:])
        return assemble(images, transform, split(len(images), self.held_out, self.split_seed), flip=self.flip)

    def _read(self, file: Path) -> Item:
        from PIL import Image

        try:
            with Image.open(file) as image:
                return Item(str(file), levels(image, self.size, self.mode))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"data.path: {file} cannot be read as an image ({reason}); remove or replace it") from None


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
