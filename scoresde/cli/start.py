"""Samples that begin from items: `start=` of `scoresde sample`, which are redrawn or interpolated."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde import runs
from scoresde.cli.settings import SampleSettings, listed
from scoresde.cli.stream import sample_files
from scoresde.data.single import read_item
from scoresde.likelihood.latent import LatentSpace
from scoresde.model import Model
from scoresde.runs import Run, interpolation
from scoresde.sampling import Auto, Sampler
from scoresde.sampling.noised import noised


def items(settings: SampleSettings, run: Run) -> Tensor:
    """What `start` names, (m, *event) in model units, float64."""
    found = [read_item(path, "start", run.transform) for path in listed(settings.start or [])]
    return run.transform.encode(torch.stack(found))


@dataclass(frozen=True)
class Redrawn:
    """Where each sample begins: at its item, of these in turn, with noise; see `scoresde.sampling.noised`.

    Attributes:
        model: whose noise it is.
        items: in model units, (m, *event).
        strength: the share of noise.
        seed: of the noise.
    """

    model: Model
    items: Tensor
    strength: float
    seed: int

    def __post_init__(self) -> None:
        self(range(1))  # a strength that cannot be is refused before anything is written

    def __call__(self, rows: range) -> tuple[Tensor, float]:
        return noised(self.model, self.items.float(), self.strength, rows, self.seed)


def interpolate(
    out: Path, run: Run, model: Model, sampler: Sampler, settings: SampleSettings, x: Tensor, request: dict[str, Any]
) -> None:
    """Write samples between two items x (2, *event), see `scoresde.runs.interpolation`."""
    count = settings.interpolate or 2
    space = LatentSpace(None if isinstance(sampler.solver, Auto) else sampler.solver, steps=sampler.steps)
    found = interpolation.interpolate(model, x, count, run.transform, space)
    with sample_files(out, count, run.transform, settings.format) as append:
        append(found.data)
    found.figure(out / "samples.png")
    summary = request | {"n": count, "interpolate": count, "nfe": found.nfe}
    summary |= {"round_trip": found.round_trip, "angle": found.angle, "versions": runs.versions()}
    runs.write_json(out / runs.SUMMARY, summary)
    print(f"{str(found)[1:-1]}, in {out}", flush=True)
