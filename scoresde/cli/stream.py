"""Arrays written piece by piece, so that they need not fit into memory; a file gets its name when it is whole."""

import csv
import os
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np


class ArchiveWriter:
    """A .npz file with one array, `samples` (n, *event), to which rows are appended.

    Args:
        path: the file.
        n: number of rows that will be written.
        event_shape: shape of a row.
        dtype: numpy name of their type.
    """

    def __init__(self, path: Path, n: int, event_shape: Sequence[int], dtype: str) -> None:
        self._path, self._aside = path, _aside(path)
        descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
        self._header: dict[str, Any] = {"descr": descr, "fortran_order": False, "shape": (n, *event_shape)}

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        archive = self._stack.enter_context(zipfile.ZipFile(self._aside, "w"))
        self._member = self._stack.enter_context(archive.open("samples.npy", "w", force_zip64=True))
        np.lib.format.write_array_header_2_0(self._member, self._header)
        return self

    def write(self, rows: np.ndarray) -> None:
        """Append rows (k, *event)."""
        self._member.write(np.ascontiguousarray(rows).tobytes())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stack.close()
            if error is None:
                self._aside.replace(self._path)
        finally:
            self._aside.unlink(missing_ok=True)


class TableWriter:
    """A .csv file with a line of column names, to which rows are appended.

    Args:
        path: the file.
        names: the column names.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path, self._aside, self._names = path, _aside(path), names

    def __enter__(self) -> Self:
        self._file = self._aside.open("w", newline="", encoding="utf-8")
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._csv.writerow(self._names)
        return self

    def write(self, rows: np.ndarray) -> None:
        """Append rows (k, *event), flattened."""
        # numpy's own scalars, whose text is the shortest that reads back as the same number
        self._csv.writerows([str(value) for value in row] for row in rows.reshape(len(rows), -1))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
            if error is None:
                self._aside.replace(self._path)
        finally:
            self._aside.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")
