"""Samples from a trained run, written as they are drawn, so that any number of them fits into memory."""

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from torch import Tensor

from scoresde import figures, runs
from scoresde.build import build, check
from scoresde.cli.jobs import result_folder, sweeping
from scoresde.cli.path import draw_path
from scoresde.cli.settings import SampleSettings
from scoresde.cli.stream import archive, table
from scoresde.model import Model
from scoresde.runs import Run
from scoresde.runs.samples import draw
from scoresde.sampling import Sampler

_KEPT = 2000  # samples kept in memory for the picture


def sample(settings: SampleSettings, arguments: Any, path: bool) -> None:
    """Draw samples from a run and write them, with a picture and a summary, into a folder of their own.

    Args:
        settings: of the command.
        arguments: the configuration of the sampler.
        path: draw the path from noise to data too.

    Raises:
        InputError: something in the configuration is not possible; no folder is left behind then.
    """
    check(arguments, "sampler", settings.packages, Sampler)
    sampler: Sampler = build(arguments, "sampler", settings.packages, Sampler, run=Path(settings.run))
    run = settings.load(settings.run)
    model = run.conditioned(run.model, settings.label, settings.guidance)
    out = _folder(settings, run.path, sampler)
    try:
        _write(out, run, model, sampler, settings, arguments)
        if path:
            shown = min(settings.n, settings.batch_size)
            pictures = draw_path(out, run, model, sampler, shown, settings.seed, _label(sampler))
            films = "" if "film.gif" in pictures else "; only images and pairs of numbers have a film"
            print(f"path: {', '.join(pictures)}{films}", flush=True)
    finally:
        _remove_if_empty(out)


def _label(sampler: Sampler) -> str:
    choice = HydraConfig.get().runtime.choices.get("solver")
    return str(choice or type(sampler.solver).__name__)


def _folder(settings: SampleSettings, run: Path, sampler: Sampler) -> Path:
    """Where the samples go: a new folder in the run, or the given one (in a sweep, a new one in that)."""
    name = f"{_label(sampler)}-{sampler.steps}-{settings.seed}"
    given = None if sweeping() else settings.out
    parent = run / "samples" if settings.out is None else Path(settings.out)
    return result_folder("out", given, lambda: runs.new_folder(parent, name))


def _write(
    out: Path, run: Run, model: Model, sampler: Sampler, settings: SampleSettings, arguments: dict[str, Any]
) -> None:
    """Draw in batches and write each as it comes; the picture is of the first ones."""
    transform, nfe, seconds = run.transform, 0.0, 0.0
    shown: list[Tensor] = []
    label, size = _label(sampler), settings.batch_size
    with ExitStack() as stack:
        files = [archive(out / "samples.npz", settings.n, run.event_shape, transform.dtype)]
        if transform.kind == "table":
            names = transform.names or [f"x{i}" for i in range(math.prod(run.event_shape))]
            files.append(table(out / "samples.csv", names))
        appends = [stack.enter_context(file) for file in files]
        for part in draw(sampler, model, run.event_shape, settings.n, settings.seed, size, label):
            rows = transform.finish(part.x)
            for append in appends:
                append(rows)
            if sum(len(x) for x in shown) < _KEPT:
                shown.append(part.x.cpu())
            nfe += part.nfe * len(part.x) / settings.n
            seconds += part.seconds
    figures.picture(torch.cat(shown)[:_KEPT], transform, out / "samples.png", title=f"{label}, {nfe:.0f} evaluations")
    summary = {
        "run": str(run.path),
        "checkpoint_step": run.step,
        "weights": settings.weights,
        "n": settings.n,
        "seed": settings.seed,
        "label": settings.label,
        "guidance": settings.guidance,
        "nfe": nfe,
        "seconds": seconds,
        "sampler": arguments,
        "versions": runs.versions(),
    }
    runs.write_json(out / runs.SUMMARY, summary)
    print(f"{label}: {settings.n:,} samples, {nfe:.0f} network evaluations each, {seconds:.1f} s, in {out}", flush=True)


def _remove_if_empty(folder: Path) -> None:
    """Leave nothing behind when nothing was drawn."""
    if not any(folder.iterdir()):
        folder.rmdir()
