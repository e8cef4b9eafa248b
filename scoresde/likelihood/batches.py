"""What a metric of a model computes of items: batch by batch, with a bar, and kept until its evaluation is complete."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scoresde.kept import PARTS, Arrays, kept
from scoresde.noise import chunks
from scoresde.parallel.shared import sharers
from scoresde.progress import BAR, bar

OnStep = Callable[[int], None]  # called after each step of a solver with the number of items that took it


class InBatches(Protocol):
    """Computes arrays of items, each with the items first; see `in_batches`."""

    def __call__(
        self, name: str, rows: range, make: Callable[[range, OnStep], Arrays], steps: int
    ) -> dict[str, np.ndarray]:
        """The arrays of all items.

        Args:
            name: of the folder of the batches.
            rows: the items.
            make: the arrays of some of them, with what it calls after each step; or numbers, one for a batch.
            steps: how often an item is reported, about.
        """


@contextmanager
def in_batches(metric: Any, label: str, total: int, of: str, place: Path | None) -> Iterator[InBatches]:
    """Within, compute in batches of `metric.batch_size`, which `place` keeps for a call that goes on after a kill.

    Args:
        metric: a dataclass; the numbers depend on its fields.
        label: of the bar.
        total: items in all.
        of: a hash of all else that the numbers depend on.
        place: the folder of the metric; None keeps nothing.
    """
    # an object of the user's own may have no text but its address
    settings = {f.name: re.sub(r" at 0x\w+", "", repr(getattr(metric, f.name))) for f in fields(metric)}
    with bar(total, label, hidden=not sharers().first, unit=" items", bar_format=BAR) as shown:
        done, reached = 0, 0.0

        def show(now: float) -> None:
            nonlocal reached
            reached = now
            shown.update(int(reached) - shown.n)

        def compute(
            name: str, rows: range, make: Callable[[range, OnStep], Arrays], steps: int
        ) -> dict[str, np.ndarray]:
            nonlocal done

            def on_step(count: int) -> None:  # an adaptive solver reports few steps, or more than `steps`
                show(min(reached + count / steps, done + count))

            folder, parts, found = place and place / PARTS / name, chunks(rows, metric.batch_size), list[Arrays]()
            for part in kept(folder, settings | {"of": of}, parts, lambda own: make(own, on_step), "items"):
                done += len(parts[len(found)])
                found.append(part)
                show(done)
            return {key: np.concatenate([np.atleast_1d(part[key]) for part in found]) for key in found[0]}

        yield compute
