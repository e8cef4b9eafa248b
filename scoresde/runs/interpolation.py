"""Items between two, through the latent space of a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.data import Transform
from scoresde.evaluations import count_evaluations
from scoresde.figures import latent
from scoresde.likelihood.latent import LatentSpace, slerp
from scoresde.model import Model
from scoresde.progress import BAR, bar


@dataclass(frozen=True, eq=False)
class Interpolation:
    """What leads from one item to another; its first and its last are the two after the round trip to noise and back.

    Attributes:
        x: (count, *event), in model units, float64, on the CPU.
        ends: the two items as they were given, (2, *event), likewise.
        transform: the map to data units.
        round_trip: RMS error of the round trip, in data units.
        angle: between the two latents, in degrees.
        nfe: network evaluations per item.
    """

    x: Tensor
    ends: Tensor
    transform: Transform
    round_trip: float
    angle: float
    nfe: float

    @property
    def data(self) -> np.ndarray[Any, Any]:
        """The items in the units and the type of the data."""
        return self.transform.finish(self.x)

    def figure(self, path: str | Path | None = None) -> Any:
        """A matplotlib figure of the items, written as a PNG if there is a path."""
        title = f"interpolation of latents, round trip within {self.round_trip:.2g}"
        return latent.interpolation(self.x[None].float(), self.ends, self.transform, path, title)

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"<{len(self)} items between two, round trip within {self.round_trip:.3g} (RMS, data units)>"


def interpolate(
    model: Model, ends: Tensor, count: int, transform: Transform, space: LatentSpace | None = None
) -> Interpolation:
    """Items at equal angles between the latents of two, which the probability-flow ODE encodes and decodes.

    Args:
        model: whose latent space it is.
        ends: the two items in model units, (2, *event).
        count: of items, the two after their round trip included.
        transform: of the data.
        space: solver, grid and steps; None for the default ones.
    """
    space = space or LatentSpace()
    total = (2 + count) * (space.sampler.steps + 1)
    with bar(total, "interpolation", unit=" steps", bar_format=BAR) as shown, count_evaluations() as spent:
        z = space.encode(model, ends, on_step=shown.update)
        way = slerp(z[:1], z[1:], torch.linspace(0, 1, count, dtype=z.dtype))[0]
        x = space.decode(model, way, on_step=shown.update).cpu()
    off = transform.decode(x[[0, -1]]) - transform.decode(ends.to("cpu", torch.float64))
    angle = torch.nn.functional.cosine_similarity(z[0].flatten(), z[1].flatten(), dim=0).clamp(-1, 1).arccos()
    error = float(off.square().mean().sqrt())
    return Interpolation(x, ends.cpu(), transform, error, float(torch.rad2deg(angle)), spent.samples / count)
