"""Samples that begin from items: `start=` of `scoresde sample`, which are redrawn or interpolated."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde import runs
from scoresde.cli.settings import SampleSettings, listed
from scoresde.cli.stream import sample_files
from scoresde.data.single import read_item
from scoresde.evaluations import count_evaluations
from scoresde.figures.latent import interpolation
from scoresde.likelihood.latent import LatentSpace, slerp
from scoresde.model import Model
from scoresde.runs import Run
from scoresde.runs.samples import Begin
from scoresde.sampling import Auto, Sampler
from scoresde.sampling.noised import noised


def items(settings: SampleSettings, run: Run) -> Tensor:
    """What `start` names, (m, *event) in model units, float64."""
    found = [read_item(path, "start", run.transform) for path in listed(settings.start or [])]
    return run.transform.encode(torch.stack(found))


def redrawn(settings: SampleSettings, model: Model, x: Tensor) -> Begin:
    """Where each sample begins: at its item, of these in turn, with noise; see `scoresde.sampling.noised`."""
    x = x.float()
    noised(model, x, settings.strength, range(1))  # a strength that cannot be is refused before anything is written
    return lambda rows: noised(model, x, settings.strength, rows, settings.seed)


def interpolate(
    out: Path, run: Run, model: Model, sampler: Sampler, settings: SampleSettings, x: Tensor, request: dict[str, Any]
) -> None:
    """Write samples between two items x (2, *event), at equal angles between their latents.

    The first and the last are the items after a round trip to noise and back, whose error is reported.
    """
    count = settings.interpolate or 2
    space = LatentSpace(None if isinstance(sampler.solver, Auto) else sampler.solver, steps=sampler.steps)
    with count_evaluations() as spent:
        z = space.encode(model, x)
        found = space.decode(model, slerp(z[:1], z[1:], torch.linspace(0, 1, count, dtype=z.dtype))[0]).cpu()
    back, given = run.transform.decode(found[[0, -1]]), run.transform.decode(x)
    error = float((back - given).square().mean().sqrt())
    with sample_files(out, count, run.transform, settings.format) as append:
        append(run.transform.finish(found))
    title = f"interpolation of latents, round trip within {error:.2g}"
    interpolation(found[None].float(), x, run.transform, out / "samples.png", title)
    angle = torch.nn.functional.cosine_similarity(z[0].flatten(), z[1].flatten(), dim=0).clamp(-1, 1).arccos()
    summary = request | {"n": count, "interpolate": count, "nfe": spent.samples / count}
    summary |= {"round_trip": error, "angle": float(torch.rad2deg(angle)), "versions": runs.versions()}
    runs.write_json(out / runs.SUMMARY, summary)
    print(f"{count} items between two, round trip within {error:.3g} (RMS, data units), in {out}", flush=True)
