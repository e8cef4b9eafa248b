"""Images from any set of the Hugging Face `datasets` library: of the hub, of a folder, or of files on this machine."""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from io import BytesIO
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np

from scoresde.constraints import at_least
from scoresde.data.dataset import Dataset, Stored, joined
from scoresde.data.images import Images, ImageSource, Item, kept, signature, transform_of
from scoresde.data.pixels import levels, opened, sides
from scoresde.errors import InputError, refuse

# By the ending of a file; of the others of the library some hold pickles.
_FORMATS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".json": "json", ".jsonl": "json"}
_SAVED = ("dataset_info.json", "dataset_dict.json")  # what save_to_disk leaves behind


@dataclass
class HuggingFace(ImageSource):
    """Images of a set of the `datasets` library, of one size; events (3, height, width), or as `mode` says.

    Images are brought to one size and to model units as `ImageSource` says. No code of a data set is ever run.

    Args:
        path: owner/name on the hub, a folder (of images, of parquet files, or made by save_to_disk), or one file.
        name: which configuration of a set that has several.
        split: part of the set, or an expression of the library such as train[:10%].
        held_out_split: part to hold out, such as test; None holds out a share of `split`.
        image: column of the images; None takes the only one there is.
        label: column of the classes; None takes the only column of classes, if there is one.
        size: pixels of a square, or [height, width]; None if all images have one size already.
        mode: "rgb" or "grey"; "rgba" keeps transparency, "grey16" all levels of 16-bit grey images.
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
    limit: Annotated[int, at_least(2)] | None = None

    def load(self) -> Dataset:
        """Read the set, with a progress bar on a terminal."""
        refuse(not self.path, "data.path: not given; e.g. data.path=zalando-datasets/fashion_mnist")
        images, labels = found = self._part(self.split)
        if self.held_out_split is None:
            return self.divided(found)
        others, classes = self._part(self.held_out_split)
        shape, other = images.shape[1:], others.shape[1:]
        sizes = f"images of {self.split} are of shape {shape} and those of {self.held_out_split} of {other}"
        refuse(other != shape, f"data.size: not given, but {sizes}; e.g. data.size=64 resizes and crops all")
        both = None if labels is None or classes is None else (labels, classes)
        stored = Stored(images, np.arange(len(images)), transform_of(images, others))
        return joined(stored, others, both, self.flip)

    @property
    def online(self) -> bool:
        """Whether `load` asks the hub."""
        return not self._place.exists()

    @property
    def _place(self) -> Path:
        """Where the set lies, if it is on this machine."""
        return Path(str(self.path)).expanduser()

    def _part(self, part: str) -> Images:
        """Levels and classes of one part of the set."""
        found = self._opened(part)
        image, label = self._columns(found.features or {})
        origin = signature(_files(self._place)) or getattr(found, "_fingerprint", None)
        about = ["huggingface", self.path, self.name, part, image, label, self.size, self.mode, self.limit, origin]
        total = None if self.streaming else min(len(found), self.limit or len(found))
        return kept(self._items(found, part, image, label), total, about, self.cache)

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
        if not any((self._place / name).is_file() for name in _SAVED):
            return None
        found = _library().load_from_disk(str(self._place))
        if isinstance(found, dict):
            refuse(part not in found, f"data.split: {part} is not in {self.path}, which holds {', '.join(found)}")
            found = found[part]
        return found.to_iterable_dataset() if self.streaming else found

    def _loaded(self, part: str) -> Any:
        """A part of a file, a folder, or a set of the hub."""
        load = partial(_library().load_dataset, split=part, streaming=self.streaming)
        path, name = self._place, self.path or ""
        if path.is_dir():
            return load(str(path), self.name)
        if path.is_file():
            known = ", ".join(_FORMATS)
            refuse(path.suffix not in _FORMATS, f"data.path: {path} ends in {path.suffix}; give one of {known}")
            # a file has one part, which the library calls train
            return load(_FORMATS[path.suffix], data_files={part: str(path)})
        # a name without an owner may mean a reader of the library, of which one unpickles all files around
        named, here = re.fullmatch(r"[\w.-]+/[\w.-]+", name), f"no file or folder (seen from {Path.cwd()})"
        refuse(not named, f"data.path: {name} is {here} and no owner/name of the hub")
        return load(name, self.name)

    def _columns(self, features: Mapping[str, Any]) -> tuple[str, str | None]:
        """The columns of images and of classes."""
        datasets = _library()
        known = ", ".join(features)
        for key, given in (("image", self.image), ("label", self.label)):
            missing = given is not None and given not in features
            refuse(missing, f"data.{key}: {given} is not a column of {self.path}, which has {known}")
        images = _columns_of(features, datasets.Image)
        image, label = _only(self.image, images), _only(self.label, _columns_of(features, datasets.ClassLabel))
        pictured = ", ".join(images)
        if image is None:
            what = f"several columns of images ({pictured})" if images else f"no column of images among {known}"
            raise InputError(f"data.image: {self.path} has {what}; e.g. data.image={(images or ['image'])[0]}")
        refuse(image not in images, f"data.image: column {image} holds no images; those with images: {pictured}")
        return image, label

    def _items(self, found: Any, part: str, image: str, label: str | None) -> Iterator[Item]:
        """Decode one item after the other."""
        found = found.select_columns([name for name in (image, label) if name])
        # files as they are: the library would open them by any reader of pillow, and lose bits of theirs
        rows = iter(found.cast_column(image, _library().Image(decode=False)))
        for i in islice(count(), self.limit):
            name = f"item {i} of {part}"
            try:
                row = next(rows)
                with opened(_file(row[image]), f"{name} of {self.path}") as picture:
                    pixels = levels(picture, sides(self.size), self.mode)
            except StopIteration:
                return
            except InputError:
                raise
            except Exception as error:  # of pillow, of the library, of the network
                raise InputError(f"data.path: {name} of {self.path} cannot be read ({_first_line(error)})") from None
            value = row.get(label)
            unusable = label is not None and not isinstance(value, int)
            refuse(unusable, f"data.label: {name} has {value!r} in column {label}; give a column of integers")
            yield Item(name, pixels, value)


def _file(image: Mapping[str, Any]) -> BinaryIO:
    """The file of an image that the library did not decode; its path may be the address of a member of an archive."""
    import fsspec

    content = image["bytes"]
    return BytesIO(content) if content is not None else fsspec.open(image["path"]).open()


def _library() -> Any:
    """The library, which is large and optional."""
    try:
        import datasets
    except ImportError:
        raise InputError("data: the library datasets is missing: pip install 'scoresde[data]'") from None
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    return datasets


def _columns_of(features: Mapping[str, Any], kind: type) -> list[str]:
    return [name for name, feature in features.items() if isinstance(feature, kind)]


def _only(given: str | None, columns: list[str]) -> str | None:
    """The column that the user named, or else the only one."""
    return given or (columns[0] if len(columns) == 1 else None)


def _files(path: Path) -> list[Path]:
    """All files of a local set."""
    return sorted(file for file in (path, *path.rglob("*")) if file.is_file())


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}"
