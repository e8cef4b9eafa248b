"""Arrays written batch by batch, so that they need not fit into memory."""

import csv
import itertools
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from scoresde.cli.settings import Format
from scoresde.data.columns import Column, cells
from scoresde.data.pixels import CHANNELS, image_of
from scoresde.data.transform import Transform
from scoresde.errors import refuse
from scoresde.files import aside

Append = Callable[[np.ndarray], object]  # takes rows (k, *event)


@contextmanager
def archive(path: Path, n: int, event_shape: Sequence[int], dtype: str) -> Iterator[Append]:
    """Yield a function that appends rows to the array `samples` (n, *event) of a .npz file.

    Args:
        path: the file.
        n: number of rows that will be written.
        event_shape: shape of a row.
        dtype: numpy name of their type.
    """
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    header = {"descr": descr, "fortran_order": False, "shape": (n, *event_shape)}
    with (
        aside(path) as temporary,
        zipfile.ZipFile(temporary, "w") as file,
        file.open("samples.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_2_0(member, header)
        yield lambda rows: member.write(np.ascontiguousarray(rows).tobytes())


@contextmanager
def table(path: Path, transform: Transform) -> Iterator[Append]:
    """Yield a function that appends finished samples of a table to a .csv file, which begins with the column names."""
    size = math.prod(transform.event_shape)
    columns = transform.columns or [Column(name) for name in transform.names or [f"x{i}" for i in range(size)]]
    with aside(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(column.name for column in columns)
        yield lambda x: rows.writerows(cells(columns, x.reshape(len(x), -1)))


@contextmanager
def images(folder: Path, n: int, transform: Transform) -> Iterator[Append]:
    """Yield a function that appends finished samples to a new folder as single files 00000.png, 00001.png, ...

    Raises:
        InputError: the samples are no images of 1, 3 or 4 channels.
    """
    shape = transform.event_shape
    fits = transform.kind == "image" and shape[0] in CHANNELS
    refuse(not fits, f"format: png is for images of 1, 3 or 4 channels, not for samples of shape {shape}; give npz")
    folder.mkdir(exist_ok=True)
    names = (folder / f"{k:0{max(len(str(n - 1)), 5)}d}.png" for k in itertools.count())

    def append(rows: np.ndarray) -> None:
        for row, path in zip(rows, names):  # noqa: B905 - the names have no end
            with aside(path, flushed=False) as temporary:
                image_of(row, transform).save(temporary, format="PNG")

    yield append


@contextmanager
def sample_files(folder: Path, n: int, transform: Transform, kind: Format = "npz") -> Iterator[Append]:
    """Yield a function that appends finished samples to samples.npz, and to what else suits them."""
    with ExitStack() as stack:
        appends = [stack.enter_context(images(folder / "images", n, transform))] if kind == "png" else []
        appends.append(stack.enter_context(archive(folder / "samples.npz", n, transform.event_shape, transform.dtype)))
        if transform.kind == "table":
            appends.append(stack.enter_context(table(folder / "samples.csv", transform)))

        def append(rows: np.ndarray) -> None:
            for one in appends:
                one(rows)

        yield append
