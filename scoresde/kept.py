"""Parts of a long computation that are kept until all are done, so that a call that was stopped can be continued."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scoresde.errors import refuse
from scoresde.files import aside, strict_json, write_json, writing

PARTS, _REQUEST = "parts", "request.json"
Arrays = Mapping[str, Any]  # a part: arrays, or what numpy makes arrays of, by name


def kept(
    place: Path | None, request: Mapping[str, Any], parts: Iterable[range], make: Callable[[range], Arrays], what: str
) -> Iterator[Arrays]:
    """Yield the arrays of each part, from what a call with the same request has kept, or made now and kept.

    Args:
        place: the folder; None keeps nothing.
        request: all that the arrays depend on.
        parts: the items of each.
        make: the arrays of a part.
        what: is computed, in the plural, for messages.

    Raises:
        InputError: the folder holds parts of another request, or cannot be written.
    """
    note = None if place is None else place / _REQUEST
    if note is not None and note.is_file():
        other = note.read_text(encoding="utf-8") != strict_json(request)
        refuse(other, f"out: {place} holds parts of other {what}; continue those, or give another folder")
    for rows in parts:
        file = None if place is None else place / f"{rows.start:012}.npz"
        if file is not None and file.is_file():
            with np.load(file) as stored:
                yield dict(stored)
            continue
        arrays = make(rows)
        if note is not None and file is not None:
            with writing(file.parent, "out"):
                file.parent.mkdir(parents=True, exist_ok=True)
            write_json(note, request)
            with aside(file) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **arrays)
        yield arrays
