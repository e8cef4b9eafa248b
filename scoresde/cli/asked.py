"""Samples given an observation: `observation=` and `posterior=` of `scoresde sample`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.build import TARGET, build
from scoresde.constraints import NonNegativeInt, checked
from scoresde.data.pixels import CHANNELS, image_of
from scoresde.data.single import read_array, read_item, require_finite
from scoresde.described import describe
from scoresde.errors import refuse, require
from scoresde.figures.posterior import inferred
from scoresde.files import aside
from scoresde.metrics.extractor import sha256
from scoresde.model import Model
from scoresde.named import name_of
from scoresde.noise import Noise
from scoresde.observation import Inpaint, InUnits, Observation, in_units
from scoresde.posterior import Method, Posterior
from scoresde.runs import Run

_SOURCES: dict[str, Any] = {"item": str | None, "measured": str | None, "held_out": NonNegativeInt | None}
_FLOOR = 1e-3  # of the solve that gives a picture of what was seen
_MOST = 1000  # values of an observation in a summary


@dataclass
class Asked:
    """A posterior, what was observed, and what its samples say so far.

    Attributes:
        model: the posterior.
        seen: the observation in the units of the model.
        measured: what was observed, (1, *seen), in data units.
        truth: the item in data units, (*event), float64, if it is known.
        content: of the summary.
    """

    model: Posterior
    seen: InUnits
    measured: Tensor
    truth: Tensor | None
    content: dict[str, Any]
    _moments: list[Tensor] = field(default_factory=list)
    _count: int = 0
    _misfit: float = 0.0

    @property
    def name(self) -> str:
        """Of the method."""
        return name_of("posterior", self.model.method)

    def add(self, x: Tensor, run: Run) -> None:
        """Take account of samples (k, *event) in model units."""
        x = x.detach().to("cpu", torch.float64)
        off = (self.seen.encode(self.measured) - self.seen(x)) / (self.seen.sigma_y or 1.0)
        self._misfit += float(off.square().flatten(1).mean(1).sqrt().sum())
        items, count = run.transform.decode(x), len(x)
        mean, total = items.mean(0), self._count + count
        square = (items - mean).square().sum(0)
        if self._moments:  # Chan's update, which loses no digits far from zero
            gap = mean - self._moments[0]
            square = self._moments[1] + square + gap.square() * (self._count * count / total)
            mean = self._moments[0] + gap * (count / total)
        self._moments, self._count = [mean, square], total

    def finish(self, out: Path, shown: Tensor, run: Run, title: str) -> dict[str, Any]:
        """Write mean and standard deviation, and a picture with samples in model units; returns more of the summary."""
        mean, transform = self._moments[0], run.transform
        spread = (self._moments[1] / max(self._count - 1, 1)).sqrt()
        found = {"mean": mean.numpy(), "spread": spread.numpy()}
        with aside(out / "posterior.npz") as temporary, temporary.open("wb") as stream:
            np.savez(stream, mean=found["mean"], std=found["spread"], y=self.measured[0].numpy())
        if transform.kind == "image" and transform.event_shape[0] in CHANNELS:
            _save(out / "mean.png", found["mean"], run)
            _save(out / "std.png", (transform.low or 0.0) + _span(run) * found["spread"] / found["spread"].max(), run)
        found |= {} if self.truth is None else {"truth": self.truth.numpy()}
        found |= self.picture(run)
        inferred(transform.decode(shown.double()).numpy(), found, transform, out / "posterior.png", title)
        content = {"residual": self._misfit / self._count, "spread": float(spread.square().mean().sqrt())}
        if self.truth is not None:
            content["rmse"] = float((mean - self.truth).square().mean().sqrt())
            if None not in (transform.low, transform.high) and content["rmse"] > 0:
                content["psnr"] = 20 * math.log10(_span(run) / content["rmse"])
        return content

    def said(self, summary: Mapping[str, Any]) -> str:
        """What its samples say, in one line."""
        unit = "sigma_y" if self.seen.sigma_y else "in model units"
        parts = [f"|y - A(x)| is {summary['residual']:.3g} {unit}", f"spread {summary['spread']:.3g}"]
        parts += [f"error of the mean {summary['rmse']:.3g}"] if "rmse" in summary else []
        parts += [f"PSNR {summary['psnr']:.1f} dB"] if "psnr" in summary else []
        return f"posterior by {self.name}: {', '.join(parts)}"

    def picture(self, run: Run) -> dict[str, np.ndarray]:
        """What was seen by its name: an item in data units or an image of another size; empty if it is like neither."""
        shape, seen = tuple(self.measured.shape[1:]), self.seen.observation
        if isinstance(seen, Inpaint):
            values = np.full(math.prod(run.event_shape), np.nan)
            values[seen.index.cpu().numpy()] = self.measured[0].numpy()
            return {"observation": values.reshape(run.event_shape)}
        if shape == run.event_shape or (run.transform.kind == "image" and len(shape) == 3):
            return {"observation": self.measured[0].numpy()}
        if not seen.linear:
            return {}
        nearest = self.seen.adjoint(self.seen.solve(self.seen.encode(self.measured), 1.0, _FLOOR))
        return {"observation, put back": run.transform.decode(nearest)[0].numpy()}


def _span(run: Run) -> float:
    """From the least to the largest value of the data."""
    return (1.0 if run.transform.high is None else run.transform.high) - (run.transform.low or 0.0)


def _save(path: Path, image: np.ndarray, run: Run) -> None:
    with aside(path) as temporary:
        image_of(np.nan_to_num(image).astype(np.float32), run.transform).save(temporary, format="PNG")


def ask(run: Run, model: Model, observation: Any, method: Any, packages: list[str], seed: int) -> Asked | None:
    """The posterior of a model given what a configuration says was observed; None if it says nothing.

    Args:
        run: whose data the observation is of.
        model: the prior.
        observation: its configuration, with `item`, `measured` and `held_out`.
        method: its configuration, or None for the default.
        packages: whose classes it may name.
        seed: of the noise of an observation that is made here.

    Raises:
        InputError: something in them is not possible.
    """
    cfg = dict(observation) if isinstance(observation, Mapping) else {}
    given = {k: checked(cfg.pop(k, None), f"observation.{k}", kind) for k, kind in _SOURCES.items()}
    sources = {k: v for k, v in given.items() if v is not None}
    if TARGET not in cfg:
        key = next(iter([*sources, *cfg]), "")
        refuse(bool(key), f"observation.{key}: nothing says what is seen; give observation=inpaint")
        refuse(method is not None, "posterior: nothing is observed; give observation=inpaint observation.item=FILE")
        return None
    wanted = "give observation.item=FILE, observation.measured=FILE or observation.held_out=0"
    refuse(len(sources) != 1, f"observation: {' and '.join(sources) or 'no item'} is given; {wanted}")
    data = {"event_shape": run.event_shape, "names": run.transform.names}
    seen: Observation = build(cfg, "observation", packages, Observation, **data)
    rule: Method | None = None if method is None else build(method, "posterior", packages, Method)
    (source, place), own = next(iter(sources.items())), in_units(seen, run.transform)
    truth = None if source == "measured" else _item(run, source, place)
    with torch.no_grad():
        measured = _measured(seen, run, str(place)) if truth is None else seen.measure(truth[None], Noise(seed))
        posterior = Posterior(model, own, own.encode(measured).float(), rule)
    probe = Noise(0).normal("probe", 0, (1, *seen.event_shape), dtype=torch.float64)  # tells operators of files apart
    content = {"observation": describe(seen), source: place, "y": measured.flatten().tolist()[:_MOST]}
    content["observed"] = sha256([measured, seen(probe).detach()])
    return Asked(posterior, own, measured, truth, content | {"posterior": describe(posterior.method)})


def _item(run: Run, source: str, place: Any) -> Tensor:
    """The item that is observed, in data units."""
    if source == "item":
        return read_item(place, "observation.item", run.transform)
    items = run.dataset().heldout
    require(place < len(items), "observation.held_out", place, f"there are {len(items)} items; give less")
    return run.transform.decode(items[place : place + 1].double())[0]


def _measured(seen: Observation, run: Run, path: str) -> Tensor:
    """A measurement in data units, (1, *seen); of an inpainting also an item, whose hidden values do not matter."""
    key = "observation.measured"
    if not isinstance(seen, Inpaint) or _has_shape(path, seen.seen):
        return read_item(path, key, run.transform, seen.seen)[None]
    y: Tensor = seen(read_item(path, key, run.transform, run.event_shape, finite=False)[None])
    names = run.transform.names
    require_finite(y, key, path, names and [names[k] for k in seen.index.tolist()])
    return y


def _has_shape(path: str, shape: tuple[int, ...]) -> bool:
    """Whether a file is an array of a shape."""
    if not path.endswith(".npy") or not Path(path).is_file():
        return False
    return bool(read_array(path, "observation.measured").shape == shape)
