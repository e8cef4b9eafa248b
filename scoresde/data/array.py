"""The user's own numbers: one array in a .npy or .npz file, or a table of text."""

import zipfile
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np

from scoresde.data.dataset import Dataset, Source, existing
from scoresde.data.items import check_classes, dataset_of
from scoresde.data.numpy_files import member, read_npy, readable
from scoresde.data.table import ENDINGS, Missing, Table, Wanted, chosen, read_table
from scoresde.errors import refuse
from scoresde.progress import note
from scoresde.room import require_free

Found = tuple[np.ndarray, np.ndarray | None]  # items and classes
_CLASSES = ("y", "labels", "label", "arr_1")  # what people call the classes in a .npz file


@dataclass
class ArrayFile(Source):
    """An array (N, *event) of numbers from a file; the first axis counts the items.

    What the items are follows from shape and type as for `Array`; a file of text is a table, whatever its width.
    Each of its features is shifted and scaled to mean 0 and standard deviation 1 over the training part (a constant
    feature is only shifted). Samples come out in the units and the floating type of the file. Columns of integers stay
    such, and a column of texts becomes a feature for each of its categories, at most 50.

    Args:
        path: a .npy or .npz file, or a table of text: .csv, .tsv, .txt or .dat, with columns separated by commas,
            semicolons, tabs or spaces. It may have one header line; its names are kept. An array (N,) is taken as
            (N, 1).
        key: which array of a .npz file; not needed where it holds one besides the classes.
        labels: which array of a .npz file holds the class of each item, counted from 0; None takes y, labels, label or
            arr_1, if it is one integer for each item.
        columns: of a table, by name or by number counted from 1; None takes all but an index of pandas.
        missing: what happens to items with an empty cell or NaN: an "error", or "drop".
        held_out: fraction of the items that training never uses.
        split_seed: which items those are.

    Raises:
        InputError: from the constructor: held_out outside (0, 1) or a negative seed. From `load`: the file is
            missing, unreadable, empty, ragged, too large for memory, or holds fewer than two items, or anything but
            finite numbers. Nothing is ever unpickled.
    """

    path: str | None = None
    _: KW_ONLY
    key: str | None = None
    labels: str | None = None
    columns: str | int | list[str | int] | None = None
    missing: Missing = "error"

    def load(self) -> Dataset:
        """Read the file."""
        path = existing(self.path, "table.csv")
        table, classes = self._read(path)
        return dataset_of(self, table.values, f"data.path: {path}", classes, names=table.names, columns=table.columns)

    def _read(self, path: Path) -> tuple[Table, np.ndarray | None]:
        """The items, and their classes if the file has them."""
        refuse(path.is_dir(), f"data.path: {path} is a folder; give one file, or data=folder for a folder of images")
        kind, known = path.suffix.lower(), (".npy", ".npz", *ENDINGS)
        refuse(kind not in known, f"data.path: {path} ends in {kind or 'nothing'}; give a {', '.join(known)} file")
        for name in ("key", "labels"):
            given = getattr(self, name)
            keyless = kind != ".npz" and given is not None
            refuse(keyless, f"data.{name}: {given} is given, but only .npz files have keys; leave it out for {path}")
        wanted: Wanted = [self.columns] if isinstance(self.columns, str | int) else self.columns
        require_free(path.stat().st_size, f"data.path: {path}")
        if kind in ENDINGS:
            return read_table(path, wanted, self.missing), None
        values, classes = _read_numpy(path, self.key, self.labels)
        if self.missing == "drop" and values.dtype.kind == "f" and values.ndim:
            lacking = np.isnan(values).reshape(len(values), -1).any(axis=1)
            if lacking.any():
                note(f"data.path: {path}: {lacking.sum():,} of {len(values):,} items hold NaN and are dropped")
            values, classes = values[~lacking], None if classes is None else classes[~lacking]
        return _as_table(values, wanted, path), classes


def _as_table(values: np.ndarray, wanted: Wanted, path: Path) -> Table:
    """Some columns of items (N, D), all of any others; integers come back as such."""
    values = values[:, None] if values.ndim == 1 else values
    flat = values.ndim == 2
    refuse(wanted is not None and not flat, f"data.columns: {path} holds items of shape {values.shape[1:]}, no table")
    if not flat:
        return Table(values, None, None)
    return Table(values[:, chosen(wanted, None, values.shape[1], str(path))], None, None)


def _read_numpy(path: Path, key: str | None, labels: str | None) -> Found:
    """The array of a .npy file, or one of a .npz file and the classes in it."""
    with readable(path, f"data.path: {path}"):
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return read_npy(file, path.stat().st_size, f"data.path: {path}"), None
        with zipfile.ZipFile(path) as archive:
            return _items_and_classes(archive, key, labels, path)


def _items_and_classes(archive: zipfile.ZipFile, key: str | None, labels: str | None, path: Path) -> Found:
    """The array of a .npz file that the key names, and the classes of its items if there are any."""
    keys = [name.removesuffix(".npy") for name in archive.namelist()]
    refuse(not keys, f"data.path: {path} holds no array")
    likely = labels or next(filter(set(keys).difference({key}).__contains__, _CLASSES), None)
    _key(labels, keys, path, "labels")
    item = _key(key, [name for name in keys if name != likely] or keys, path, "key")
    values = member(archive, item, f"data.path: {path}")
    classes = None if likely in (None, item) else _classes(archive, str(likely), values, path, labels is None)
    if classes is None:
        _key(key, keys, path, "key")
    return values, classes


def _classes(archive: zipfile.ZipFile, name: str, values: np.ndarray, path: Path, guessed: bool) -> np.ndarray | None:
    """The classes of items; None where the array is only guessed to be those and cannot be."""
    classes = member(archive, name, f"data.path: {path}")
    if guessed:
        if not _may_be_classes(classes, values):
            return None
        note(f"data.path: {path}: {name} is taken for the classes of the items")
    classes = classes.squeeze()
    check_classes(classes, len(values), f"data.labels: {name} of {path}")
    return classes


def _key(given: str | None, keys: Sequence[str], path: Path, name: str) -> str:
    """The key that is given, or the only one."""
    hint = f"{path}, which holds {', '.join(keys)}; e.g. data.{name}={keys[0]}"
    refuse(given not in (None, *keys), f"data.{name}: {given} is not in {hint}")
    refuse(given is None and len(keys) > 1 and name == "key", f"data.{name}: not given for {hint}")
    return given or keys[0]


def _may_be_classes(classes: np.ndarray, values: np.ndarray) -> bool:
    """Whether there is one integer >= 0 for each item."""
    shapes = (values.shape[:1], (*values.shape[:1], 1))
    return classes.dtype.kind in "iu" and classes.shape in shapes and classes.min(initial=0) >= 0
