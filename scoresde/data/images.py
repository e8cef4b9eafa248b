"""Images of any size brought to one and kept decoded on disk, and the folder of image files as a source of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from scoresde.data.dataset import Dataset, Source, assemble, existing, split
from scoresde.data.pixels import FORMATS, Mode, levels, opened, sides
from scoresde.data.transform import Transform
from scoresde.errors import InputError, refuse
from scoresde.files import aside
from scoresde.progress import note

_RECIPE = 2  # counts the changes of decoding, so that images of an older one are never reused


class Item(NamedTuple):
    """One image: what to call it in a message, its levels (channels, height, width) and its class or None."""

    name: str
    levels: np.ndarray
    label: int | None = None


class Images(NamedTuple):
    """All images of a set: levels (N, channels, height, width), mapped from disk, and classes (N,) or None."""

    levels: np.ndarray
    labels: np.ndarray | None


def cache_folder(folder: str | None) -> Path:
    """The folder for what can be made again: the given one, or that of SCORESDE_CACHE, or scoresde in the user's."""
    given = folder or os.environ.get("SCORESDE_CACHE")
    if given:
        return Path(given).expanduser()
    # the XDG base directory specification
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scoresde"


def signature(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Name, size and time of change of each file: another one where a file may have changed."""
    return [(str(file.resolve()), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]


def kept(items: Iterator[Item], count: int | None, about: object, folder: str | None) -> Images:
    """The images of `items`, decoded at the first call and mapped from a .npy file of the cache folder afterwards.

    Args:
        items: not begun where the file is there.
        count: how many there are, for the progress bar; None if nobody knows.
        about: all that decides what they are, as plain values; the name of the file is its hash.
        folder: see `cache_folder`.

    Raises:
        InputError: fewer than two images, several sizes, or no place to write.
    """
    key = hashlib.sha256(json.dumps([_RECIPE, about], default=str).encode()).hexdigest()[:16]
    root = cache_folder(folder)
    file, classes = root / f"images-{key}.npy", root / f"images-{key}-classes.npy"
    with suppress(OSError, ValueError, EOFError):  # where it is not there, or not whole
        return _mapped(file, classes)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with aside(file) as temporary:  # renamed last, since its presence says that all is there
            labels = _decode(items, count, temporary)
            np.save(classes, np.empty(0, np.int64) if labels is None else labels)
    except OSError as error:
        raise InputError(f"data.cache: {root} cannot be written ({error.strerror}); give another folder") from None
    return _mapped(file, classes)


def _mapped(file: Path, classes: Path) -> Images:
    """What lies in the cache."""
    levels, labels = np.load(file, mmap_mode="c"), np.load(classes)  # "c": torch wants memory it could write to
    return Images(levels, labels if len(labels) == len(levels) else None)


def _decode(items: Iterator[Item], count: int | None, file: Path) -> np.ndarray | None:
    """Write the levels of all items as one .npy file, as they come; returns their classes."""
    from tqdm import tqdm

    labels: list[int | None] = []
    first: Item | None = None
    with file.open("wb") as out:
        for item in tqdm(items, desc="reading images", total=count, unit="image", disable=None, leave=False):
            if first is None:
                first = item
                _write_header(out, first.levels, 0)
            if item.levels.shape != first.levels.shape:
                found = f"{first.name} is {_shown(first.levels)} pixels and {item.name} is {_shown(item.levels)}"
                raise InputError(f"data.size: not given, but {found}; e.g. data.size=64 resizes and crops all")
            out.write(item.levels.tobytes())
            labels.append(item.label)
        if first is None or len(labels) < 2:
            raise InputError(f"data: {len(labels)} images; give at least 2, one to train on and one held out")
        out.seek(0)
        _write_header(out, first.levels, len(labels))
    return None if None in labels else np.array(labels, np.int64)


def _write_header(out: BinaryIO, item: np.ndarray, count: int) -> None:
    """The first bytes of a .npy file of so many items; numpy leaves room for any number of them."""
    about = {"descr": item.dtype.str, "fortran_order": False, "shape": (count, *item.shape)}
    np.lib.format.write_array_header_1_0(out, about)


def _shown(levels: np.ndarray) -> str:
    return f"{levels.shape[2]} x {levels.shape[1]}"


@dataclass(kw_only=True)
class ImageSource(Source):
    """Settings of images that are brought to one size and kept decoded in a cache folder.

    Each image is rotated as its camera says, placed on white where it is transparent, resized so that it just covers
    the size asked for, and cropped at the center. Levels 0 to 255 become level / 128 - 1, in [-1, 1): exact in float32,
    each level the lower edge of its bin. Those of mode grey16 likewise, with as many bits as the largest of the set
    has: 12-bit levels become level / 2048 - 1. The cache is used for as long as no file changes.

    Args:
        size: pixels of a square, or [height, width]; None if all images have one size already.
        mode: "rgb" or "grey"; "rgba" keeps transparency, "grey16" all levels of 16-bit grey images.
        flip: show training every other image mirrored left to right; for things that have no left and right.
        cache: folder of decoded images; None takes scoresde in the user's cache folder.
        held_out: see `Source`.
        split_seed: see `Source`.

    Raises:
        InputError: an argument out of its range.
    """

    size: int | tuple[int, int] | None = None
    mode: Mode = "rgb"
    flip: bool = False
    cache: str | None = None

    def __post_init__(self) -> None:
        self.size = sides(self.size)

    def divided(self, images: Images) -> Dataset:
        """The data set of these images, split by the seed."""
        parts = split(len(images.levels), self.held_out, self.split_seed)
        return assemble(images.levels, transform_of(images.levels), parts, images.labels, self.flip)


def transform_of(*parts: np.ndarray) -> Transform:
    """The map to model units that fits all parts of a set of images (n, channels, height, width)."""
    dtype, shape = parts[0].dtype, parts[0].shape[1:]
    bits = 8 if dtype == np.uint8 else max(8, *(int(part.max()).bit_length() for part in parts))
    return Transform.of_levels(shape, bits, dtype.name)


@dataclass
class ImageFolder(ImageSource):
    """All images below a folder, of one size; events (3, height, width), or as `mode` says.

    They are brought to one size and to model units as `ImageSource` says.

    Args:
        path: the folder; png, jpg, jpeg, webp, bmp, gif, tif and tiff files at any depth are read, in the order of
            their names. Hidden files are passed over.
        size: pixels of a square, or [height, width]; None if all images have one size already.
        mode: "rgb" or "grey"; "rgba" keeps transparency, "grey16" all levels of 16-bit grey images.
        held_out: fraction of the images that training never uses.
        split_seed: which images those are.
        flip: show training every other image mirrored left to right; for things that have no left and right.
        classes: whether the folders below `path` are classes, counted in the order of their names; None: if there are
            several, and all images lie in them.
        cache: folder of decoded images; None takes scoresde in the user's cache folder.

    Raises:
        InputError: from the constructor: a size below 1, another mode, held_out outside (0, 1) or a negative
            seed. From `load`: no folder, fewer than two images, an unreadable one, or several sizes without
            `size`.
    """

    path: str | None = None
    classes: bool | None = field(default=None, kw_only=True)

    def load(self) -> Dataset:
        """Read, rotate, resize and crop the images, with a progress bar on a terminal."""
        root = existing(self.path, "photos/")
        where = f"data.path: {root} is a file"
        refuse(not root.is_dir(), f"{where}; give a folder of images, or data=array for .npy and .csv")
        files = _image_files(root)
        about = ["folder", self.size, self.mode, signature(files)]
        images = kept(map(self._read, files), len(files), about, self.cache)
        return self.divided(images._replace(labels=self._labels(root, files)))

    def _labels(self, root: Path, files: Sequence[Path]) -> np.ndarray | None:
        """The number of the folder in which each image lies, if these are classes."""
        tops = [file.relative_to(root).parent.parts[:1] for file in files]  # empty for one in no folder
        folders, loose = sorted(set(tops) - {()}), () in tops
        if not ((not loose and len(folders) > 1) if self.classes is None else self.classes):
            return None
        refuse(loose, f"data.classes: {files[tops.index(min(tops))]} is in no folder of a class; move it into one")
        known = ", ".join(f"{k} {name}" for k, (name,) in enumerate(folders))
        note(f"data.path: the folders of {root} are classes: {known}")
        numbers = {top: k for k, top in enumerate(folders)}
        return np.array([numbers[top] for top in tops])

    def _read(self, file: Path) -> Item:
        with opened(file, str(file)) as image:
            return Item(str(file), levels(image, sides(self.size), self.mode))


def _image_files(root: Path) -> list[Path]:
    """The images below a folder in a fixed order; raises InputError if there are fewer than two."""
    seen = sorted(f for f in root.rglob("*") if f.is_file() and "/." not in f"/{f.relative_to(root).as_posix()}")
    files = [f for f in seen if f.suffix.lower() in FORMATS]
    count = "one image only" if files else "no image"
    others = f", but {len(seen) - len(files)} of other kinds" if len(seen) > len(files) else ""
    what = f"{count} ({', '.join(FORMATS).replace('.', '')}){others}"
    refuse(len(files) < 2, f"data.path: {root} holds {what}; give a folder with at least 2 images")
    return files
