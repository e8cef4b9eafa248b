"""Samples of a run in data units, which show themselves in a notebook; and how they are drawn, with a progress bar."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde._shapes import flat
from scoresde.data import Transform
from scoresde.kept import Arrays, kept
from scoresde.model import Model
from scoresde.noise import chunks
from scoresde.parallel.shared import first_before_others, sharers
from scoresde.progress import BAR, bar, note
from scoresde.sampling import Choices, Sampler, Samples
from scoresde.sampling.foresight import say_once

_SHOWN = 2000
Begin = Callable[[range], tuple[Tensor, float]]
_FAR = 10  # standard deviations of the data


def sizes(x: Tensor) -> Tensor:
    """The largest absolute value of each sample, (n,)."""
    return flat(x).abs().amax(1)


def far(found: Tensor, reach: float) -> str:
    """What to say of samples of these `sizes` (n,) if some are beyond the reach of the data; else nothing."""
    count = int((found > reach).sum())
    text = f"{count} of {len(found)} samples lie far outside the data: up to {float(found.max()):.3g} in model units"
    return f"{text}, where {reach:.3g} is far already; use more steps or another solver" if count else ""


def batches(
    sampler: Sampler,
    model: Model,
    event_shape: Sequence[int],
    n: int,
    seed: int,
    batch_size: int = 500,
    place: Path | None = None,
    request: Mapping[str, Any] | None = None,
    on_step: Callable[[int], None] | None = None,
    begin: Begin | None = None,
) -> Iterator[Samples]:
    """Draw n samples in batches on the CPU; several processes share out the batches, see `scoresde.parallel.sharing`.

    Args:
        sampler: what draws.
        model: what predicts.
        event_shape: of one sample.
        n: number of samples.
        seed: of the samples.
        batch_size: samples computed at once.
        place: folder in which batches are kept for a call that goes on after a kill; None keeps nothing.
        request: all that they depend on.
        on_step: called after each step of a batch in this process with its number of samples.
        begin: of the samples with these numbers their states and the time of these; None for draws from the prior.
    """

    def drawn(rows: range) -> Arrays:
        request: dict[str, Any] = {"rows": rows, "seed": seed, "batch_size": batch_size, "on_step": on_step}
        start, at = (None, None) if begin is None else begin(rows)
        (part,) = sampler.batches(model, event_shape, start=start, at=at, **request)
        return part.arrays

    return map(Samples.of, kept(place, request or {}, chunks(range(n), batch_size), drawn, "samples"))


def draw(
    sampler: Sampler,
    model: Model,
    event_shape: Sequence[int],
    n: int,
    seed: int,
    batch_size: int = 500,
    label: str = "samples",
    reach: float | None = None,
    place: Path | None = None,
    request: Mapping[str, Any] | None = None,
    begin: Begin | None = None,
) -> Iterator[Samples]:
    """Yield n samples as `batches` does, with a bar that moves within a batch; a note says what is `far`.

    Args:
        sampler: see `batches`.
        model: see `batches`.
        event_shape: see `batches`.
        n: see `batches`.
        seed: see `batches`.
        batch_size: see `batches`.
        label: of the bar.
        reach: the largest plausible absolute value; ten standard deviations of the data unless given.
        place: see `batches`.
        request: see `batches`.
        begin: see `batches`.
    """
    done, fraction, seen, group = 0, 0.0, [], sharers()
    with first_before_others():
        sampler = sampler.suited(model, event_shape)

    def show(count: float) -> None:
        shown.update(max(int(count) - shown.n, 0))

    def on_step(count: int) -> None:
        nonlocal fraction  # an adaptive solver reports few steps: its bar jumps from batch to batch
        fraction = min(fraction + 1 / (sampler.steps + 1), 1.0)
        show(done + fraction * min(count * group.size, n - done))

    parts = batches(sampler, model, event_shape, n, seed, batch_size, place, request, on_step, begin)
    if group.first:
        say_once(sampler, model.sde, model.sigma_data)
        _note_idle(n, batch_size, group.size)
    with bar(n, label, hidden=not group.first, unit=" samples", bar_format=BAR) as shown:
        for part in parts:
            done, fraction = done + len(part.x), 0.0
            show(done)
            seen.append(sizes(part.x))
            yield part
    warning = far(torch.cat(seen), _FAR * model.sigma_data if reach is None else reach)
    if warning and group.first:
        note(f"warning: {label}: {warning}")


def _note_idle(n: int, batch_size: int, processes: int) -> None:
    """Say that there are fewer batches than processes, where there could be more."""
    if (count := -(-n // batch_size)) < min(n, processes):
        use = f"a batch of {batch_size} is the work of one process, so {processes - count} of {processes} have none"
        note(f"batch_size: {use}; give {-(-n // processes)} or less for these {n} samples")


@dataclass(frozen=True, eq=False)
class RunSamples:
    """Samples of a run. `numpy.asarray` of it, its length and its items are those of `data`.

    Attributes:
        x: (n, *event), in model units, on the CPU.
        transform: the map to data units.
        nfe: network evaluations per sample.
        seconds: wall-clock time.
        title: how they were drawn.
        choices: which candidates `Auto` took; None of other solvers.
    """

    x: Tensor
    transform: Transform
    nfe: float
    seconds: float
    title: str = ""
    choices: Choices | None = None

    @property
    def data(self) -> np.ndarray[Any, Any]:
        """The samples (n, *event) in the units and the type of the data."""
        return self.transform.finish(self.x)

    def figure(self) -> Any:
        """A matplotlib figure of the first samples."""
        from scoresde import figures

        return figures.picture(self.x[:_SHOWN], self.transform, title=self.title)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return self.data if dtype is None else self.data.astype(dtype)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Any:
        return self.data[index]

    def __repr__(self) -> str:
        return f"<{len(self)} samples of shape {tuple(self.x.shape[1:])}: {self.title}>"

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self.figure()._repr_png_()).decode()
        return f"<img alt='samples' src='data:image/png;base64,{picture}'>"
