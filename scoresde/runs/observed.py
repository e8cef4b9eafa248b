"""What was observed of items of a run: from a configuration to truths and measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.build import TARGET, build
from scoresde.constraints import NonNegativeInt, checked
from scoresde.data.single import read_array, read_item, require_finite
from scoresde.errors import refuse, require
from scoresde.noise import Noise
from scoresde.observation import Inpaint, InUnits, Observation, in_units
from scoresde.runs.run import Run

_SOURCES: dict[str, Any] = {"item": str | None, "measured": str | None, "held_out": NonNegativeInt | None}
_FLOOR = 1e-3  # of the solve that gives a picture of what was seen


@dataclass(frozen=True)
class Observed:
    """An observation, and of what.

    Attributes:
        run: whose data it is of.
        observation: in data units.
        own: the same in the units of the model.
        source: item, measured or held_out.
        place: a file, or the number of a held-out item.
    """

    run: Run
    observation: Observation
    own: InUnits
    source: str
    place: Any

    @classmethod
    def of(cls, run: Run, configured: Any, packages: Sequence[str]) -> Observed | None:
        """From a configuration with `item`, `measured` and `held_out`; None if it says nothing.

        Args:
            run: whose data it is of.
            configured: the configuration.
            packages: whose classes it may name.

        Raises:
            InputError: it says less or more than what is observed of which item.
        """
        cfg = dict(configured) if isinstance(configured, Mapping) else {}
        given = {k: checked(cfg.pop(k, None), f"observation.{k}", kind) for k, kind in _SOURCES.items()}
        sources = {k: v for k, v in given.items() if v is not None}
        if TARGET not in cfg:
            key = next(iter([*sources, *cfg]), "")
            refuse(bool(key), f"observation.{key}: nothing says what is seen; give observation=inpaint")
            return None
        wanted = "give observation.item=FILE, observation.measured=FILE or observation.held_out=0"
        refuse(len(sources) != 1, f"observation: {' and '.join(sources) or 'no item'} is given; {wanted}")
        data = {"event_shape": run.event_shape, "names": run.transform.names}
        seen: Observation = build(cfg, "observation", packages, Observation, **data)
        return cls(run, seen, in_units(seen, run.transform), *next(iter(sources.items())))

    @cached_property
    def heldout(self) -> Tensor:
        """The held-out items of the run, in model units."""
        return self.run.dataset().heldout

    def truth(self, further: int = 0) -> Tensor | None:
        """The item in data units, (*event), float64, or a held-out item further on; None if it is not known.

        Raises:
            InputError: there is no such item.
        """
        if self.source == "measured":
            return None
        if self.source == "item":
            return read_item(self.place, "observation.item", self.run.transform)
        items, place = self.heldout, self.place + further
        require(place < len(items), "observation.held_out", place, f"there are {len(items)} items; give less")
        return self.run.transform.decode(items[place : place + 1].double())[0]

    def measured(self, truth: Tensor | None, seed: int) -> Tensor:
        """What was observed, (1, *seen), in data units: of a truth with noise of a seed, or what a file holds."""
        with torch.no_grad():
            return self._read() if truth is None else self.observation.measure(truth[None], Noise(seed))

    def _read(self) -> Tensor:
        """A measurement; of an inpainting also an item, whose hidden values do not matter."""
        key, path, transform = "observation.measured", str(self.place), self.run.transform
        if not isinstance(self.observation, Inpaint) or _has_shape(path, self.observation.seen):
            return read_item(path, key, transform, self.observation.seen)[None]
        y: Tensor = self.observation(read_item(path, key, transform, self.run.event_shape, finite=False)[None])
        names = transform.of_columns
        require_finite(y, key, path, names and [names[k] for k in self.observation.index.tolist()])
        return y

    def residuals(self, measured: Tensor, x: Tensor) -> Tensor:
        """The root mean square of y - A(x) of samples (k, *event) in model units, in sigma_y or model units; (k,)."""
        off: Tensor = (self.own.encode(measured) - self.own(x)) / (self.own.sigma_y or 1.0)
        return off.square().flatten(1).mean(1).sqrt()

    def picture(self, measured: Tensor) -> dict[str, np.ndarray]:
        """What was seen by its name: an item in data units or an image of another size; empty if it is like neither."""
        shape, seen, run = tuple(measured.shape[1:]), self.observation, self.run
        if isinstance(seen, Inpaint):
            values = np.full(math.prod(run.event_shape), np.nan)
            values[seen.index.cpu().numpy()] = measured[0].numpy()
            return {"observation": values.reshape(run.event_shape)}
        if shape == run.event_shape or (run.transform.kind == "image" and len(shape) == 3):
            return {"observation": measured[0].numpy()}
        if not seen.linear:
            return {}
        nearest = self.own.adjoint(self.own.solve(self.own.encode(measured), 1.0, _FLOOR))
        return {"observation, put back": run.transform.decode(nearest)[0].numpy()}


def _has_shape(path: str, shape: tuple[int, ...]) -> bool:
    """Whether a file is an array of a shape."""
    if not path.endswith(".npy") or not Path(path).is_file():
        return False
    return bool(read_array(path, "observation.measured").shape == shape)


def span(run: Run) -> float:
    """From the least to the largest value of the data; 1 without bounds."""
    low, high = run.transform.low, run.transform.high
    return (1.0 if high is None else high) - (low or 0.0)


def error_of(mean: Tensor, truth: Tensor, run: Run) -> dict[str, float]:
    """The root mean square error of a mean (*event) in data units, and its PSNR in dB where the data have bounds.

    psnr = 20 log10(span / rmse)
    """
    found = {"rmse": float((mean - truth).square().mean().sqrt())}
    if None not in (run.transform.low, run.transform.high) and found["rmse"] > 0:
        found["psnr"] = 20 * math.log10(span(run) / found["rmse"])
    return found
