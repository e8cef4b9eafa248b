"""Parts of a long computation: shared out over processes, and kept until all are done, for a call that goes on."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np

from scoresde.errors import refuse
from scoresde.files import aside, strict_json, write_json, writing
from scoresde.parallel.shared import shared, sharers, with_all

PARTS, _REQUEST = "parts", "request.json"
Arrays = Mapping[str, Any]  # a part: arrays, or what numpy makes arrays of, by name


def kept(
    place: Path | None, request: Mapping[str, Any], parts: Sequence[range], make: Callable[[range], Arrays], what: str
) -> Iterator[Arrays]:
    """The arrays of each part, from what a call with the same request has kept, or made now and kept.

    Several processes share out what is not there, see `scoresde.parallel.sharing`; the first one reads and writes.

    Args:
        place: the folder; None keeps nothing.
        request: all that the arrays depend on.
        parts: the items of each.
        make: the arrays of a part.
        what: is computed, in the plural, for messages.

    Raises:
        InputError: the folder holds parts of another request, or cannot be written.
    """
    folder = place if sharers().first else None
    note, files = folder and folder / _REQUEST, [folder and folder / f"{rows.start:012}.npz" for rows in parts]
    if note is not None and note.is_file():
        other = note.read_text(encoding="utf-8") != strict_json(request)
        refuse(other, f"out: {place} holds parts of other {what}; continue those, or give another folder")
    with with_all() as group:
        there = group.share([file is not None and file.is_file() for file in files])
    return _each(zip(there, files, parts, strict=True), note, request, make)


def _each(
    parts: Iterable[tuple[bool, Path | None, range]],
    note: Path | None,
    request: Mapping[str, Any],
    make: Callable[[range], Arrays],
) -> Iterator[Arrays]:
    """The arrays of each part, which is there or not, in its file."""

    def stored(file: Path | None) -> Arrays:
        with np.load(cast(Path, file)) as arrays:
            return dict(arrays)

    for before, some in groupby(parts, key=itemgetter(0)):
        _, own, rows = zip(*some, strict=True)
        if before:
            for file in own:
                yield from shared([file], stored)
            continue
        for file, arrays in zip(own, shared(rows, make), strict=True):
            if note is not None and file is not None:
                with writing(file.parent, "out"):
                    file.parent.mkdir(parents=True, exist_ok=True)
                write_json(note, request)
                with aside(file) as temporary, temporary.open("wb") as stream:
                    np.savez(stream, **arrays)
            yield arrays
