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
from scoresde.cli.sweep_job import sweeping
from scoresde.kept import PARTS, Arrays
from scoresde.kept import kept as kept_arrays
from scoresde.noise import chunks
from scoresde.runs import setting
from scoresde.sampling import Choices, Samples


@contextmanager
def continuable(out: Path, run: Path) -> Iterator[Path]:
    """Yield the folder of parts in `out`; it is removed at the end, and kept with a hint if Ctrl-C or a kill comes."""
    place = out / PARTS
    try:
        yield place
    except KeyboardInterrupt:
        if any(place.glob("*.npz")):
            continue_with("sample", out, run)
            raise
        shutil.rmtree(place, ignore_errors=True)
        raise
    except Exception:
        if not any(place.glob("*.npz")):
            shutil.rmtree(place, ignore_errors=True)
        raise
    shutil.rmtree(place, ignore_errors=True)


def continue_with(command: str, out: Path, run: Path | None) -> None:
    """Say how a command that was stopped goes on in its folder, with the run that was given, if any; not in a sweep."""
    if sweeping():
        return
    typed = [shlex.quote(o) for o in overrides() if not o.startswith("out=")]
    given, rest = [] if run is None else [setting(run)], setting(out).replace("run=", "out=", 1)
    print(f"continue with: scoresde {command}", *given, *typed, rest, file=sys.stderr)


def kept(
    place: Path, request: Mapping[str, Any], n: int, size: int, fresh: Callable[[int], Iterator[Samples]]
) -> Iterator[Samples]:
    """Yield the batches that a call with the same request has kept, then those of `fresh(first)`, which are kept too.

    Raises:
        InputError: the folder holds parts of other samples, or cannot be written.
    """
    drawing: list[Iterator[Samples]] = []

    def drawn(rows: range) -> Arrays:
        if not drawing:
            drawing.append(fresh(rows.start))
        part = next(drawing[0])
        own = part.choices._asdict() if part.choices else {}
        return {"x": part.x.cpu().numpy(), "nfe": part.nfe, "seconds": part.seconds, **own}

    for part in kept_arrays(place, request, chunks(range(n), size), drawn, "samples"):
        yield Samples(torch.as_tensor(part["x"]), float(part["nfe"]), float(part["seconds"]), _choices(part))


def _choices(part: Arrays) -> Choices | None:
    if "shares" not in part:  # of another solver
        return None
    names, levels = (list(np.asarray(part[key]).tolist()) for key in ("names", "levels"))
    return Choices(names, levels, torch.as_tensor(part["shares"]))
