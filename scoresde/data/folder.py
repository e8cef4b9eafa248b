"""The user's own images: a folder of image files."""

from dataclasses import dataclass
from pathlib import Path

from scoresde.data.dataset import Dataset, assemble, existing, split
from scoresde.data.source import ImageSource, Item, kept, levels, sides, signature
from scoresde.data.transform import Transform
from scoresde.errors import InputError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass
class ImageFolder(ImageSource):
    """All images below a folder, of one size; events (3, height, width) or (1, height, width).

    They are brought to one size and to model units as `ImageSource` says.

    Args:
        path: the folder; png, jpg, jpeg, webp and bmp files at any depth are read, in the order of their
            names. Hidden files are passed over.
        size: pixels of a square, or [height, width]; None if all images have one size already.
        mode: "rgb" for color or "grey".
        held_out: fraction of the images that training never uses.
        split_seed: which images those are.
        flip: show training every other image mirrored left to right; for things that have no left and right.
        cache: folder of decoded images; None takes scoresde in the user's cache folder.

    Raises:
        InputError: from the constructor: a size below 1, another mode, held_out outside (0, 1) or a negative
            seed. From `load`: no folder, fewer than two images, an unreadable one, or several sizes without
            `size`.
    """

    path: str | None = None

    def load(self) -> Dataset:
        """Read, rotate, resize and crop the images, with a progress bar on a terminal."""
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
                return Item(str(file), levels(image, sides(self.size), self.mode))
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
            f"({', '.join(suffix[1:] for suffix in _SUFFIXES)}){f', but {others} of other kinds' if others else ''}"
            "; give a folder with at least 2 images"
        )
    return files
