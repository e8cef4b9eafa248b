"""Samples from a trained run, written as they are drawn, so that any number of them fits into memory."""

import re
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde import figures, runs
from scoresde.build import build
from scoresde.cli.asked import Asked, ask
from scoresde.cli.jobs import chosen, out_folder, typed_keys
from scoresde.cli.parts import continuable
from scoresde.cli.path import draw_path
from scoresde.cli.settings import SampleSettings
from scoresde.cli.start import Redrawn, interpolate, items
from scoresde.cli.stream import sample_files
from scoresde.control import GuidanceMethod, Guided
from scoresde.described import describe
from scoresde.errors import refuse
from scoresde.metrics.extractor import sha256
from scoresde.model import Model
from scoresde.named import name_of
from scoresde.parallel.shared import first_before_others, sharers
from scoresde.runs import Run
from scoresde.runs.samples import draw
from scoresde.runs.sizes import require_batch, require_disk
from scoresde.sampling import Choices, Sampler

_KEPT = 2000  # samples kept in memory for the picture


def sample(
    settings: SampleSettings, arguments: Any, path: bool, guidance_method: Any, observation: Any, posterior: Any
) -> None:
    """Draw samples from a run and write them, with a picture and a summary, into a folder of their own.

    Args:
        settings: of the command.
        arguments: the configuration of the sampler.
        path: draw the path from noise to data too.
        guidance_method: the configuration of a `scoresde.control.GuidanceMethod`.
        observation: the configuration of what was observed.
        posterior: the configuration of the method; None for the default one.

    Raises:
        InputError: something in the configuration is not possible; no folder is left behind then.
    """
    sampler = _sampler(arguments, settings)
    run = settings.load(settings.run)
    method = build(guidance_method, "guidance_method", settings.packages, GuidanceMethod)
    model = settings.guided(run, method, settings.guidance)
    asked = ask(run, model, observation, posterior, settings.packages, settings.seed)
    both = settings.start is not None and (path or asked is not None)
    refuse(both, "start: sampler.path and observation begin from noise; leave one out")
    prior, model = model, model if asked is None else asked.model
    given = items(settings, run) if settings.start else None
    begin = None if given is None or settings.interpolate else Redrawn(model, given, settings.strength, settings.seed)
    require_batch("batch_size", min(settings.n, settings.batch_size), run.event_shape, str(model.device))
    require_disk(settings.n, run.transform, run.path)
    label, arguments = _solver(arguments, model)
    sampler = _sampler(arguments, settings)
    name = f"{label}-{sampler.steps}-{settings.seed}"
    out = out_folder(settings.out, run.path / "samples", name)
    first = sharers().first
    try:
        sampler = _suited(sampler, settings, run, prior, model)
        with settings.accelerated(run):
            summary = _request(run, settings, prior, given)
            if given is not None and begin is None:
                return interpolate(out, run, model, sampler, settings, given, summary)
            summary |= {"sampler": arguments, "grid": describe(sampler.grid)}
            _write(out, run, model, sampler, label, settings, summary, asked, begin)
            path = path and first
            shown = min(settings.n, settings.batch_size)
            pictures = draw_path(out, run, model, sampler, shown, settings.seed, label) if path else []
        if path:
            films = "" if "film.gif" in pictures else "; only images and pairs of numbers have a film"
            print(f"path: {', '.join(pictures)}{films}", flush=True)
    finally:
        if first and not any(out.iterdir()):  # nothing was drawn
            out.rmdir()


def _sampler(arguments: Any, settings: SampleSettings) -> Sampler:
    sampler: Sampler = build(arguments, "sampler", settings.packages, Sampler, run=Path(settings.run))
    return sampler


def _solver(arguments: dict[str, Any], model: Model) -> tuple[str, dict[str, Any]]:
    """The name of the solver and the arguments with it: that of the model if it brings one and the user named none."""
    named, usual = any(re.match(r"(sampler\.)?solver\b", key) for key in typed_keys()), model.usual_solver
    if named or usual is None:
        return chosen("solver", arguments["solver"]), arguments
    return name_of("solver", usual), {**arguments, "solver": describe(usual)}


def _suited(sampler: Sampler, settings: SampleSettings, run: Run, prior: Model, model: Model) -> Sampler:
    """With a grid from a pilot: of the prior, which is cheaper than a posterior and the same for each observation."""
    if settings.interpolate is not None:  # it has an ODE of its own
        return sampler
    with first_before_others():
        return sampler.suited(prior, run.event_shape).suited(model, run.event_shape)


def _write(
    out: Path,
    run: Run,
    model: Model,
    sampler: Sampler,
    label: str,
    settings: SampleSettings,
    summary: dict[str, Any],
    asked: Asked | None,
    begin: Redrawn | None,
) -> None:
    """Draw in batches and write each as it comes; the picture is of the first ones.

    Several processes share out the batches; the first one writes.
    """
    n, size = settings.n, settings.batch_size
    spent, products, seconds = 0.0, 0.0, 0.0
    taken: list[tuple[int, Choices | None]] = []
    shown: list[Tensor] = []
    summary = summary | (asked.content if asked else {})
    request = {**summary, "batch_size": size}
    drawing = partial(draw, sampler, model, run.event_shape, n, settings.seed, size, label, None, begin=begin)
    if not (group := sharers()).first:
        deque(drawing(), 0)
        return
    with continuable(out, run.path) as place, sample_files(out, n, run.transform, settings.format) as append:
        for part in drawing(place, request):
            append(run.transform.finish(part.x))
            if asked:
                asked.add(part.x, run)
            if len(shown) * size < _KEPT:
                shown.append(part.x.cpu())
            spent += part.nfe * len(part.x)
            products += part.products * len(part.x)
            seconds += part.seconds
            taken.append((len(part.x), part.choices))
    nfe = spent / n
    title = f"{label}, {nfe:.0f} evaluations"
    few = torch.cat(shown)[:_KEPT]
    began = None if begin is None or run.transform.kind != "image" else begin.items
    figures.picture(few, run.transform, out / "samples.png", began, title, real="start")
    summary |= {"products": products / n} if asked else {}
    summary |= {"nfe": nfe, "seconds": seconds, "versions": runs.versions()}
    choices = Choices.joined(taken)
    summary |= {"choices": choices.content()} if choices else {}
    summary |= asked.finish(out, few, run, f"{asked.name}, {title}") if asked else {}
    runs.write_json(out / runs.SUMMARY, summary)
    _say(out, label, summary, group.size, choices, asked)


def _request(run: Run, settings: SampleSettings, prior: Model, given: Tensor | None) -> dict[str, Any]:
    """What was asked for, for the summary: with the steps of all runs that take part, and what files hold."""
    keys = ["weights", "n", "seed", "label", "guidance", "precision", "compile"]
    content: dict[str, Any] = {"run": str(run.path), "checkpoint_step": run.step}
    if given is not None:
        keys += ["start"] if settings.interpolate else ["start", "strength"]
        content["started"] = sha256([given])
    if isinstance(prior, Guided):
        keys += ["guidance_interval", "guide", "classifier"]
        content["guidance_method"] = describe(prior.method)
    for key, other in settings.others.items():
        content |= {f"{key}_checkpoint_step": other.step, f"{key}_weights": getattr(settings, f"{key}_weights")}
    return content | {key: getattr(settings, key) for key in keys}


def _say(
    out: Path, label: str, summary: dict[str, Any], size: int, choices: Choices | None, asked: Asked | None
) -> None:
    """Say what was drawn, at what cost, by so many processes."""
    time = f"{summary['seconds']:.1f} s" + (f" of {size} processes" if size > 1 else "")
    spent = f"{summary['n']:,} samples, {summary['nfe']:.0f} network evaluations each"
    print(f"{label}: {spent}, {time}, in {out}", flush=True)
    if asked:
        print(asked.said(summary), flush=True)
    if choices:
        print(f"auto took {choices} (mean shares of the steps)", flush=True)
