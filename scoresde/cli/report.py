"""What a training says at its beginning and its end: final samples, their figures, pictures, and what to type next."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde import figures, runs
from scoresde.cli.progress import draw
from scoresde.cli.table import Row, legend, table
from scoresde.data import Dataset, Transform
from scoresde.errors import InputError
from scoresde.guidance import conditioned
from scoresde.loggers import Logger
from scoresde.model import Model, ScoreModel
from scoresde.sampling import Sampler
from scoresde.training import FitResult
from scoresde.training.checkpoint import Checkpoint

_SHOWN = 100  # samples in a picture of images
_DOTS = 2000  # and in one of points
_BATCH = 500
_LEVELS = (0.1, 0.3, 1.0)  # sigma / alpha at which the score of points is drawn
_RATIO = "sliced_wasserstein_ratio"


@dataclass
class Task:
    """What is to be done with a trained model: n samples of each sampler, told `cond` in turn, and every metric."""

    dataset: Dataset
    run: Path
    n: int
    seed: int
    samplers: Mapping[str, Sampler]
    metrics: Mapping[str, Any]
    cond: Tensor | None = None


def opening(run: Path, dataset: Dataset, model: ScoreModel, device: str, start: Checkpoint | None, brief: bool) -> None:
    """Say what is being trained; in one line if brief."""
    if brief:
        print(f"run    {run}", flush=True)
        return
    weights = sum(p.numel() for p in model.parameters())
    print(f"data   {len(dataset.items):,} items of shape {dataset.event_shape}, {len(dataset.heldout):,} held out")
    print(f"model  {type(model.net).__name__}, {weights:,} weights, {model.precond} preconditioning, on {device}")
    print(f"sde    {model.sde}")
    print(f"run    {run}" + (f", going on from step {start.step}" if start is not None else ""), flush=True)


def already_complete(run: Path, steps: int) -> float | None:
    """Say that there is nothing to do."""
    print(f"{run} is complete, with all of its {steps} steps")
    print(f"further   scoresde train {runs.setting(run)} trainer.steps={2 * steps}\n{_next(run)}")
    best = json.loads((run / runs.SUMMARY).read_text(encoding="utf-8")).get("best_ratio")
    return None if best is None else float(best)


def closing(task: Task, result: FitResult[ScoreModel], logger: Logger, brief: bool) -> float | None:
    """Draw the final samples, print their table, write summary.json, and (unless brief) say what to type next.

    Returns:
        The lowest ratio of sliced Wasserstein distances, or without that metric the best value that was monitored.
    """
    (task.run / "samples").mkdir(exist_ok=True)
    model = conditioned(result.ema, task.cond)
    rows = [_sampled(name, sampler, task, model) for name, sampler in task.samplers.items()]
    pictures = {row.name: task.run / "samples" / f"{row.name}.png" for row in rows if row.error is None}
    if task.dataset.transform.kind == "points" and math.prod(task.dataset.event_shape) == 2:
        pictures["score"] = task.run / "samples" / "score.png"
        _draw_score(result.ema, task.dataset, pictures["score"])
    for name, path in pictures.items():
        logger.picture(f"samples/{name}", path, result.step)
    _log_table(rows, logger, result.step)
    ratios = [row.figures[_RATIO] for row in rows if math.isfinite(row.figures.get(_RATIO, math.nan))]
    best = min(ratios, default=None)
    runs.write_json(task.run / runs.SUMMARY, _summary(task, result, rows, best))
    if brief:
        print(table(rows) + "\n", flush=True)
    else:
        print(f"\ntrained to step {result.step} in {result.seconds:.0f} s; {task.n:,} samples of each sampler:\n")
        print(f"{table(rows)}\n\n{legend(rows)}\n")
        where = f"{task.run / 'samples'}/*.png" if pictures else "none, since no sampler succeeded"
        print(f"pictures  {where}\nfigures   {task.run / runs.SUMMARY}\n{_next(task.run)}", flush=True)
    return best if best is not None else result.best.value if result.best is not None else None


def _next(run: Path) -> str:
    return f"next      scoresde sample {runs.setting(run)} solver=heun sampler.steps=10"


def _sampled(name: str, sampler: Sampler, task: Task, model: Model) -> Row:
    """Draw the samples of one sampler, with a picture and figures; a failure is a row that says so."""
    row, dataset = Row(name, None if sampler.solver.adaptive else sampler.steps), task.dataset
    try:
        parts = list(draw(sampler, model, dataset.event_shape, task.n, task.seed, _BATCH, name))
    except (InputError, ArithmeticError) as error:
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        row.error = kind + " ".join(str(error).split())
        return row
    row.nfe = math.fsum(p.nfe * len(p.x) for p in parts) / task.n
    row.seconds = math.fsum(p.seconds for p in parts)
    x = torch.cat([p.x for p in parts]).cpu()
    for metric in task.metrics.values():
        row.figures |= metric(x, dataset)
    path = task.run / "samples" / f"{name}.png"
    picture(x, dataset.transform, path, f"{name}, {row.nfe:.0f} evaluations", dataset.heldout)
    return row


def picture(x: Tensor, transform: Transform, path: Path, title: str, reference: Tensor | None = None) -> None:
    """A picture of the first samples x (n, *event), with real items beside them if given, all in model units."""
    shown = _SHOWN if transform.kind == "image" else _DOTS
    figures.picture(x[:shown], transform, path, None if reference is None else reference[:shown], title)


def _draw_score(model: ScoreModel, dataset: Dataset, path: Path) -> None:
    """The learned score at a few noise levels, from the finest detail of the data to its outline."""

    def score_at(ratio: float) -> Callable[[Tensor], Tensor]:
        t = float(model.sde.t_of_lam(torch.tensor(-math.log(ratio), dtype=torch.float64)))
        t = min(max(t, model.sde.t_min), model.sde.T)
        alpha = model.sde.at(t).alpha
        # of x / alpha, which lies where the data lies
        return lambda y: alpha * model(alpha * y.to(model.device), t).score

    levels = [(f"noise {ratio:g} of the signal", score_at(ratio)) for ratio in _LEVELS]
    figures.score_field(levels, dataset.transform, path, dataset.heldout[:_DOTS], "learned score")


def _log_table(rows: list[Row], logger: Logger, step: int) -> None:
    keys = list(dict.fromkeys(key for row in rows for key in row.figures))
    columns = ["sampler", "steps", "nfe", "seconds", *keys, "error"]
    cells = [[r.name, r.steps, r.nfe, r.seconds, *(r.figures.get(k) for k in keys), r.error] for r in rows]
    logger.table("samplers", columns, cells, step)


def _summary(task: Task, result: FitResult[ScoreModel], rows: list[Row], best: float | None) -> dict[str, Any]:
    samplers = {
        row.name: {"steps": row.steps, "error": row.error}
        if row.error is not None
        else {"steps": row.steps, "nfe": row.nfe, "seconds": row.seconds, **row.figures}
        for row in rows
    }
    return {
        "step": result.step,
        "training_seconds": result.seconds,
        "loss": result.loss,
        "best_checkpoint": None if result.best is None else dataclasses.asdict(result.best),
        "n": task.n,
        "seed": task.seed,
        "best_ratio": best,
        "samplers": samplers,
        "versions": runs.versions(),
    }
