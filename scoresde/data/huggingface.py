"""Images from any set of the Hugging Face `datasets` library: of the hub, of a folder, or of files on this machine."""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scoresde.data.dataset import Dataset, assemble, joined, split
from scoresde.data.source import ImageSource, Item, kept, levels, sides, signature
from scoresde.data.transform import Transform
from scoresde.errors import InputError, refuse, require

# By the ending of a file; of the others of the library some hold pickles.
_FORMATS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".json": "json", ".jsonl": "json"}
_SAVED = ("dataset_info.json", "dataset_dict.json")  # what save_to_disk leaves behind


@dataclass
class HuggingFace(ImageSource):
    """Images of a set of the `datasets` library, of one size; events (3, height, width) or (1, height, width).

    Images are brought to one size and to model units as `ImageSource` says. No code of a data set is ever run.

    Args:
        path: owner/name on the hub, a folder (of images, of parquet files, or made by save_to_disk), or one file.
        name: which configuration of a set that has several.
        split: part of the set, or an expression of the library such as train[:10%].
        held_out_split: part to hold out, such as test; None holds out a share of `split`.
        image: column of the images; None takes the only one there is.
        label: column of the classes; None takes the only column of classes, if there is one.
        size: pixels of a square, or [height, width]; None if all images have one size already.
        mode: "rgb" for color or "grey".
        streaming: read the set from where it is, without a copy of its files.
        limit: take that many of the first items of each part; None takes all.
        held_out: fraction of the images that training never uses, without `held_out_split`.
        split_seed: which images those are.
        flip: show training every other image mirrored left to right; for things that have no left and right.
        cache: folder of decoded images; None takes scoresde in the user's cache folder.

    Raises:
        InputError: from the constructor: a number out of range. From `load`: the library or the set is missing, a
            column or part is not there, an image is unreadable, or several sizes without `size`.
    """

    path: str | None = None
    _: KW_ONLY
    name: str | None = None
    split: str = "train"
    held_out_split: str | None = None
    image: str | None = None
    label: str | None = None
    streaming: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.limit is None or self.limit >= 2, "limit", self.limit, "give an integer >= 2, or null")

    def load(self) -> Dataset:
        """Read the set, with a progress bar on a terminal."""
        images, labels = self._part(self.split)
        if self.held_out_split is None:
            parts = split(len(images), self.held_out, self.split_seed)
            return assemble(images, Transform.of_bytes(images.shape[1:]), parts, labels, self.flip)
        others, classes = self._part(self.held_out_split)
        if others.shape[1:] != images.shape[1:]:
            raise InputError(
                f"data.size: not given, but images of {self.split} are of shape {images.shape[1:]} and those of "
                f"{self.held_out_split} of {others.shape[1:]}; e.g. data.size=64 resizes and crops all"
            )
        both = None if labels is None or classes is None else (labels, classes)
        return joined(images, others, Transform.of_bytes(images.shape[1:]), both, flip=self.flip)

    def _part(self, part: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Levels and classes of one part of the set."""
        found = self._opened(part)
        image, label = self._columns(found.features or {})
        origin = signature(_files(Path(str(self.path)).expanduser())) or getattr(found, "_fingerprint", None)
        about = ["huggingface", self.path, self.name, part, image, label, self.size, self.mode, self.limit, origin]
        count = None if self.streaming else min(len(found), self.limit or len(found))
        return kept(self._items(found, part, image, label), count, about, self.cache)

    def _opened(self, part: str) -> Any:
        """The part as an object of the library, images not yet decoded."""
        try:
            return self._saved(part) or self._loaded(part)
        except InputError:
            raise
        except Exception as error:  # the library, its readers and the network have many kinds
            raise InputError(f"data.path: {self.path}, part {part}, cannot be read ({_first_line(error)})") from None

    def _saved(self, part: str) -> Any:
        """A part of what save_to_disk wrote; None if the path is nothing of that kind."""
        path = Path(self.path or "").expanduser()
        if not self.path or not any((path / name).is_file() for name in _SAVED):
            return None
        found = _library().load_from_disk(str(path))
        if isinstance(found, dict):
            refuse(part not in found, f"data.split: {part} is not in {self.path}, which holds {', '.join(found)}")
            found = found[part]
        return found.to_iterable_dataset() if self.streaming else found

    def _loaded(self, part: str) -> Any:
        """A part of a file, a folder, or a set of the hub."""
        load = partial(_library().load_dataset, split=part, streaming=self.streaming)
        if not self.path:
            raise InputError("data.path: not given; e.g. data.path=zalando-datasets/fashion_mnist")
        path = Path(self.path).expanduser()
        if path.is_dir():
            return load(str(path), self.name)
        if path.is_file():
            if path.suffix not in _FORMATS:
                raise InputError(f"data.path: {path} ends in {path.suffix}; give one of {', '.join(_FORMATS)}")
            # a file has one part, which the library calls train
            return load(_FORMATS[path.suffix], data_files={part: str(path)})
        # a name without an owner may mean a reader of the library, of which one unpickles all files around
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.path):
            raise InputError(
                f"data.path: {self.path} is no file or folder (seen from {Path.cwd()}) and no owner/name of the hub"
            )
        return load(self.path, self.name)

    def _columns(self, features: Mapping[str, Any]) -> tuple[str, str | None]:
        """The columns of images and of classes."""
        datasets = _library()
        known = ", ".join(features)
        for key, given in (("image", self.image), ("label", self.label)):
            if given is not None and given not in features:
                raise InputError(f"data.{key}: {given} is not a column of {self.path}, which has {known}")
        images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
        classes = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
        label = self.label or (classes[0] if len(classes) == 1 else None)
        return self.image if self.image in images else self._only(images, known), label

    def _only(self, images: list[str], known: str) -> str:
        """The only column of images, if none was named."""
        if self.image is not None:
            raise InputError(f"data.image: column {self.image} holds no images; those with images: {', '.join(images)}")
        if len(images) == 1:
            return images[0]
        what = f"several columns of images ({', '.join(images)})" if images else f"no column of images among {known}"
        raise InputError(f"data.image: {self.path} has {what}; e.g. data.image={(images or ['image'])[0]}")

    def _items(self, found: Any, part: str, image: str, label: str | None) -> Iterator[Item]:
        """Decode one item after the other."""
        rows = iter(found.select_columns([image, *([label] if label else [])]))
        for i in range(sys.maxsize if self.limit is None else self.limit):
            name = f"item {i} of {part}"
            try:
                row = next(rows)
                pixels = levels(row[image], sides(self.size), self.mode)
            except StopIteration:
                return
            except Exception as error:  # of pillow, of the library, of the network
                raise InputError(f"data.path: {name} of {self.path} cannot be read ({_first_line(error)})") from None
            value = row[label] if label else None
            if label and not isinstance(value, int):
                raise InputError(f"data.label: {name} has {value!r} in column {label}; give a column of integers")
            yield Item(name, pixels, value)


def _library() -> Any:
    """The library, which is large and optional."""
    try:
        import datasets
    except ImportError:
        raise InputError("data: the library datasets is missing: pip install 'scoresde[data]'") from None
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    return datasets


def _files(path: Path) -> list[Path]:
    """All files of a local set."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}"
