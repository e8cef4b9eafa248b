"""Samples that are kept batch by batch until all are drawn, so that a call that was stopped can be continued."""

import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoresde.cli.jobs import overrides
from scoresde.errors import refuse
from scoresde.files import aside, strict_json, write_json, writing
from scoresde.runs import setting
from scoresde.sampling import Choices, Samples

_REQUEST = "request.json"


@contextmanager
def continuable(out: Path, run: Path) -> Iterator[Path]:
    """Yield the folder of parts in `out`; it is removed at the end, and kept with a hint if Ctrl-C or a kill comes."""
    place = out / "parts"
    try:
        yield place
    except KeyboardInterrupt:
        if any(place.glob("*.npz")):
            typed = [shlex.quote(o) for o in overrides() if not o.startswith("out=")]
            rest = setting(out).replace("run=", "out=", 1)
            print("continue with: scoresde sample", setting(run), *typed, rest, file=sys.stderr)
            raise
        shutil.rmtree(place, ignore_errors=True)
        raise
    except Exception:
        if not any(place.glob("*.npz")):
            shutil.rmtree(place, ignore_errors=True)
        raise
    shutil.rmtree(place, ignore_errors=True)


def kept(
    place: Path, request: Mapping[str, Any], n: int, size: int, fresh: Callable[[int], Iterator[Samples]]
) -> Iterator[Samples]:
    """Yield the batches that a call with the same request has kept, then those of `fresh(first)`, which are kept too.

    Raises:
        InputError: the folder holds parts of other samples, or cannot be written.
    """
    note, first = place / _REQUEST, 0
    with writing(place, "out"):
        place.mkdir(exist_ok=True)
    other = note.is_file() and note.read_text(encoding="utf-8") != strict_json(request)
    refuse(other, f"out: {place} holds parts of other samples; continue those, or give another folder")
    write_json(note, request)
    while first < n and (file := place / f"{first:012}.npz").is_file():
        with np.load(file) as part:
            yield Samples(torch.from_numpy(part["x"]), float(part["nfe"]), float(part["seconds"]), _choices(part))
        first += size
    for drawn in fresh(first) if first < n else ():
        with aside(place / f"{first:012}.npz") as temporary, temporary.open("wb") as stream:
            own = drawn.choices._asdict() if drawn.choices else {}
            np.savez(stream, x=drawn.x.cpu().numpy(), nfe=drawn.nfe, seconds=drawn.seconds, **own)
        yield drawn
        first += size


def _choices(part: Mapping[str, Any]) -> Choices | None:
    if "shares" not in part:  # of another solver
        return None
    return Choices(part["names"].tolist(), part["levels"].tolist(), torch.from_numpy(part["shares"]))
