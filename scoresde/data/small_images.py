"""Small images that are on the machine: digits of scikit-learn, alone and stacked, and Fashion-MNIST from IDX files."""

import gzip
import math
import os
import sys
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from scoresde.constraints import Constraint, NonNegativeInt, ProperFraction, at_least, fitting
from scoresde.data.dataset import CLASS, Dataset, Source, Stored, assemble, joined, split
from scoresde.data.transform import Transform
from scoresde.errors import InputError, one_line, refuse
from scoresde.room import require_free


@dataclass(kw_only=True)
class Digits(Source):
    """1,797 handwritten digits of 8 x 8 pixels with their classes 0 to 9; events (1, 8, 8).

    The levels 0 to 16 become (level - 8) / 8, so model units lie in [-1, 1].

    Args:
        threshold: makes bits of the levels, 1 from this level on; None keeps them.
        held_out: fraction of the images that training never uses.
        split_seed: which images those are.

    Raises:
        InputError: held_out outside (0, 1) or a negative seed.

    Reference: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """

    threshold: Annotated[int, Constraint(lambda t: 1 <= t <= 16, "a level from 1 to 16")] | None = None
    held_out: ProperFraction = 0.2

    def load(self) -> Dataset:
        """Read the images from the installed scikit-learn."""
        from sklearn.datasets import load_digits

        pixels, classes = load_digits(return_X_y=True)
        images = pixels.astype(np.uint8).reshape(-1, 1, 8, 8)
        transform = Transform("image", (1, 8, 8), 8.0, 8.0, low=0.0, high=16.0, levels=17, dtype="uint8")
        if self.threshold is not None:
            images, transform = (images >= self.threshold).astype(np.uint8), Transform.of_bits((1, 8, 8))
        parts = split(len(images), self.held_out, self.split_seed)
        return assemble(images, transform, parts, classes)


@dataclass(kw_only=True)
class StackedDigits(Source):
    """Three handwritten digits, one in each channel: 1,000 equally likely modes; events (3, 8, 8).

    The class is the number 0 to 999 that the digits write, the first channel first. Every stack is a random one: its
    class, and for each channel a random image of `Digits` of that class. Held-out stacks consist of held-out images.

    Args:
        n: number of stacks, training and held-out together.
        seed: which stacks are drawn.
        held_out: fraction of the images, and of the stacks, that training never uses.
        split_seed: which images those are.

    Raises:
        InputError: n < 2, held_out outside (0, 1) or a negative seed. From `load`: a part without one of the digits.

    After L. Metz et al., Unrolled Generative Adversarial Networks, arXiv 1611.02163, section 3.3.1.
    """

    n: Annotated[int, at_least(2), fitting(768)] = 50000
    seed: NonNegativeInt = 0
    held_out: ProperFraction = 0.2

    def load(self) -> Dataset:
        """Read the images and stack them."""
        digits = Digits(held_out=self.held_out, split_seed=self.split_seed).load()
        rng = np.random.default_rng(self.seed)
        held = min(max(1, round(self.n * self.held_out)), self.n - 1)
        items, classes = self._stacks(digits.train, digits.labels, self.n - held, rng)
        heldout, others = self._stacks(digits.heldout, digits.heldout_labels, held, rng)
        transform = replace(digits.transform, event_shape=(3, 8, 8))
        return Dataset(items, heldout, transform, {CLASS: classes}, {CLASS: others})

    def _stacks(self, images: Tensor, labels: Tensor | None, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """n stacks of some images (N, 1, 8, 8) with their classes."""
        classes = rng.integers(0, 1000, n)
        written = np.stack([classes // 100, classes // 10 % 10, classes % 10], axis=1)
        chosen = np.empty_like(written)
        for digit in range(10):
            own, places = np.flatnonzero(labels == digit), written == digit
            part = f"{self.held_out} leaves no image of a {digit} in one of the two parts"
            refuse(not len(own), f"data.held_out: {part}; give a number nearer to 0.2")
            chosen[places] = rng.choice(own, places.sum())
        return images[:, 0][torch.from_numpy(chosen)], torch.from_numpy(classes)


_GZIP = b"\x1f\x8b"
_AGAIN = "download the file again"
_MORE = 2**20  # bytes beyond those announced that are looked for; a compressed file may hold any number
_BYTES = 8  # the code of unsigned bytes among the types that the format knows


def read_idx(path: Path, axes: int) -> np.ndarray:
    """The unsigned bytes of an IDX file, gzipped or not, as an array with `axes` axes.

        2 zero bytes, type (8: unsigned byte), number of axes, their sizes as big-endian 32-bit integers, the values

    Raises:
        InputError: another kind of file, another type or number of axes, or more or fewer values than announced.

    Reference: Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits, 1998.
    """
    wanted, start, where = bytes((0, 0, _BYTES, axes)), 4 + 4 * axes, f"data.folder: {path}"
    try:
        with path.open("rb") as plain:
            file = gzip.GzipFile(fileobj=plain) if plain.peek(2).startswith(_GZIP) else plain
            header = file.read(start)
            magic = header[:4]
            found = f"begins with {magic.hex(' ') or 'nothing'} where {wanted.hex(' ')} is expected"
            refuse(magic != wanted, f"{where} {found}; {_AGAIN}")
            short = f"ends within its header, after {len(header)} of {start} bytes"
            refuse(len(header) < start, f"{where} {short}; {_AGAIN}")
            shape = tuple(np.frombuffer(header, ">u4", axes, offset=4).tolist())
            said = math.prod(shape)
            require_free(said, where)
            content = file.read(said + _MORE)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{where} cannot be read ({one_line(error)}); {_AGAIN}") from None
    held = len(content)
    refuse(held != said, f"{where} holds {held:,} values, and says {said:,} for {shape}; {_AGAIN}")
    return np.frombuffer(content, np.uint8).reshape(shape)


_REMEDY = (
    "install the Debian package dataset-fashion-mnist, give data.folder=<the folder of the four IDX files>, "
    "or take data=huggingface data.path=zalando-datasets/fashion_mnist"
)


@dataclass
class FashionMNIST:
    """70,000 grey images of clothes, 28 x 28 pixels, with their classes 0 to 9; events (1, 28, 28).

    The split is the official one: 60,000 to train on, and the 10,000 test images held out. Levels 0 to 255 become
    level / 128 - 1, in [-1, 1). Files of MNIST and its other relatives have the same form and are read as well.

    Args:
        folder: where train-images-idx3-ubyte, train-labels-idx1-ubyte and the two of t10k lie, each with or without
            .gz; None looks where the Debian package dataset-fashion-mnist puts them.
        flip: show training every other image mirrored left to right; for things that have no left and right.

    Raises:
        InputError: from `load`: no such folder or file, or files that are damaged or do not belong together.

    Reference: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST, arXiv 1708.07747.
    """

    folder: str | None = None
    flip: bool = False

    def load(self) -> Dataset:
        """Read the files."""
        folder = _installed() if self.folder is None else Path(self.folder).expanduser()
        refuse(not folder.is_dir(), f"data.folder: {folder} is not a folder (seen from {Path.cwd()}); {_REMEDY}")
        (images, classes), (tests, test_classes) = _part(folder, "train"), _part(folder, "t10k")
        pixels, others = images.shape[1:], tests.shape[1:]
        found = f"training images of {pixels} pixels and test images of {others}"
        refuse(pixels != others, f"data.folder: {folder} holds {found}; give the files of one set")
        stored = Stored(images[:, None], np.arange(len(images)), Transform.of_levels((1, *pixels)))
        return joined(stored, tests[:, None], (classes, test_classes), self.flip)


def _installed() -> Path:
    """Where packages of the system put data for all users; raises InputError if the set is not there."""
    # the default of the XDG base directory specification
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    roots = [*map(Path, shared.split(":")), Path(sys.base_prefix, "share"), Path(sys.prefix, "share")]
    places = [root / "datasets" / "fashion-mnist" for root in roots]
    found = [place for place in places if place.is_dir()]
    refuse(not found, f"data.folder: not given, and Fashion-MNIST is not installed here; {_REMEDY}")
    return found[0]


def _part(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, height, width) and classes (n,) of one part of the set."""
    images = read_idx(_file(folder, f"{name}-images-idx3-ubyte"), 3)
    classes = read_idx(_file(folder, f"{name}-labels-idx1-ubyte"), 1)
    found = f"{len(images):,} {name} images and {len(classes):,} {name} labels"
    refuse(len(images) != len(classes), f"data.folder: {folder} holds {found}; give the files of one set")
    refuse(images.size == 0, f"data.folder: {folder} holds no pixels in its {name} images ({images.shape}); {_REMEDY}")
    return images, classes


def _file(folder: Path, name: str) -> Path:
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
    refuse(not found, f"data.folder: {folder} holds neither {name} nor {name}.gz; {_REMEDY}")
    return found[0]
