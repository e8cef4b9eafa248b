"""Samples of a run in data units, which show themselves in a notebook; and the progress bar of drawing them."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde._shapes import flat
from scoresde.data import Transform
from scoresde.model import Model
from scoresde.progress import BAR, bar, note
from scoresde.sampling import Choices, Sampler, Samples
from scoresde.sampling.foresight import say_once

_SHOWN = 2000
_FAR = 10  # standard deviations of the data


def sizes(x: Tensor) -> Tensor:
    """The largest absolute value of each sample, (n,)."""
    return flat(x).abs().amax(1)


def far(found: Tensor, reach: float) -> str:
    """What to say of samples of these `sizes` (n,) if some are beyond the reach of the data; else nothing."""
    count = int((found > reach).sum())
    text = f"{count} of {len(found)} samples lie far outside the data: up to {float(found.max()):.3g} in model units"
    return f"{text}, where {reach:.3g} is far already; use more steps or another solver" if count else ""


def draw(
    sampler: Sampler,
    model: Model,
    event_shape: Sequence[int],
    n: int,
    seed: int,
    batch_size: int = 500,
    label: str = "samples",
    reach: float | None = None,
    first: int = 0,
) -> Iterator[Samples]:
    """Yield n samples in batches, with a bar that counts samples and moves within a batch; a note says what is `far`.

    Args:
        sampler: what draws.
        model: what predicts.
        event_shape: of one sample.
        n: number of samples.
        seed: of the samples.
        batch_size: samples computed at once.
        label: of the bar.
        reach: the largest plausible absolute value; ten standard deviations of the data unless given.
        first: the number of samples that are there already.
    """
    done, fraction, seen = first, 0.0, []
    sampler = sampler.suited(model, event_shape)
    say_once(sampler, model.sde, model.sigma_data)
    with bar(n, label, unit=" samples", bar_format=BAR) as shown:

        def on_step(count: int) -> None:
            nonlocal fraction  # an adaptive solver reports few steps: its bar jumps from batch to batch
            fraction = min(fraction + 1 / (sampler.steps + 1), 1.0)
            shown.update(int(done + fraction * count) - shown.n)

        rows = range(first, n) if first else None
        own: dict[str, Any] = {"n": None if first else n, "rows": rows, "seed": seed}
        for part in sampler.batches(model, event_shape, batch_size=batch_size, on_step=on_step, **own):
            done, fraction = done + len(part.x), 0.0
            shown.update(done - shown.n)
            seen.append(sizes(part.x))
            yield part
    if warning := far(torch.cat(seen), _FAR * model.sigma_data if reach is None else reach):
        note(f"warning: {label}: {warning}")


def joined(batches: Iterable[Samples]) -> Samples:
    """All samples of several batches, on the CPU, with what they cost together."""
    return Samples.joined(replace(part, x=part.x.cpu()) for part in batches)


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
