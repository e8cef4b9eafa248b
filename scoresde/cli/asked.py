"""Samples given an observation: `observation=` and `posterior=` of `scoresde sample`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.build import build
from scoresde.data.pixels import CHANNELS, image_of
from scoresde.described import describe
from scoresde.errors import refuse
from scoresde.figures.posterior import inferred
from scoresde.files import aside
from scoresde.metrics.extractor import sha256
from scoresde.model import Model
from scoresde.named import name_of
from scoresde.noise import Noise
from scoresde.posterior import Method, Posterior
from scoresde.runs import Run
from scoresde.runs.observed import Observed, error_of, span

_MOST = 1000  # values of an observation in a summary


@dataclass
class Asked:
    """A posterior, what was observed, and what its samples say so far.

    Attributes:
        model: the posterior.
        seen: what is observed.
        measured: what was observed, (1, *seen), in data units.
        truth: the item in data units, (*event), float64, if it is known.
        content: of the summary.
    """

    model: Posterior
    seen: Observed
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
        self._misfit += float(self.seen.residuals(self.measured, x).sum())
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
            share = found["spread"] / (found["spread"].max() or 1.0)  # all samples may be one
            _save(out / "std.png", (transform.low or 0.0) + span(run) * share, run)
        found |= {} if self.truth is None else {"truth": self.truth.numpy()}
        found |= self.seen.picture(self.measured)
        inferred(transform.decode(shown.double()).numpy(), found, transform, out / "posterior.png", title)
        content = {"residual": self._misfit / self._count, "spread": float(spread.square().mean().sqrt())}
        return content if self.truth is None else content | error_of(mean, self.truth, run)

    def said(self, summary: Mapping[str, Any]) -> str:
        """What its samples say, in one line."""
        unit = "sigma_y" if self.seen.own.sigma_y else "in model units"
        parts = [f"|y - A(x)| is {summary['residual']:.3g} {unit}", f"spread {summary['spread']:.3g}"]
        parts += [f"error of the mean {summary['rmse']:.3g}"] if "rmse" in summary else []
        parts += [f"PSNR {summary['psnr']:.1f} dB"] if "psnr" in summary else []
        return f"posterior by {self.name}: {', '.join(parts)}"


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
    seen = Observed.of(run, observation, packages)
    if seen is None:
        refuse(method is not None, "posterior: nothing is observed; give observation=inpaint observation.item=FILE")
        return None
    rule: Method | None = None if method is None else build(method, "posterior", packages, Method)
    measured = seen.measured(truth := seen.truth(), seed)
    with torch.no_grad():
        posterior = Posterior(model, seen.own, seen.own.encode(measured).float(), rule)
    shape = (1, *seen.observation.event_shape)
    probe = Noise(0).normal("probe", 0, shape, dtype=torch.float64)  # tells operators of files apart
    content = {"observation": describe(seen.observation), seen.source: seen.place}
    content |= {"y": measured.flatten().tolist()[:_MOST]}
    content["observed"] = sha256([measured, seen.observation(probe).detach()])
    return Asked(posterior, seen, measured, truth, content | {"posterior": describe(posterior.method)})
