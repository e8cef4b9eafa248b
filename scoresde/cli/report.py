"""What a training says at its beginning and its end: final samples, their metrics, pictures, and what to type next."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde import figures, runs
from scoresde.cli.progress import draw
from scoresde.control.guidance import conditioned
from scoresde.data import Dataset, Transform
from scoresde.errors import InputError
from scoresde.loggers import Logger
from scoresde.model import Model, ScoreModel
from scoresde.results import Results, Row, Scorer
from scoresde.results.table import explained
from scoresde.sampling import Sampler
from scoresde.training import FitResult
from scoresde.training.checkpoint import Checkpoint

_SHOWN = 100  # samples in a picture of images
_DOTS = 2000  # and in one of points
_BATCH = 500
_LEVELS = (0.1, 0.3, 1.0)  # sigma / alpha at which the score of points is drawn


@dataclass
class Task:
    """What is to be done with a trained model: samples of each sampler under `cond`, and every metric on them."""

    scorer: Scorer
    run: Path
    n: int
    seed: int
    samplers: Mapping[str, Sampler]
    cond: Mapping[str, Tensor] = field(default_factory=dict)


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
    summary = json.loads((run / runs.SUMMARY).read_text(encoding="utf-8"))
    best = summary.get("best", summary.get("best_ratio"))  # its older name
    return None if best is None else float(best)


def closing(task: Task, result: FitResult[ScoreModel], logger: Logger, brief: bool) -> float | None:
    """Draw the final samples, print their table, write summary.json, and (unless brief) say what to type next.

    Returns:
        `Results.best`, or without a ranking the best value that was monitored.
    """
    (task.run / "samples").mkdir(exist_ok=True)
    model = conditioned(result.ema, task.cond)
    dataset, results = task.scorer.dataset, Results(str(task.run), task.n, 1)
    for name, sampler in task.samplers.items():
        results.rows.append(_sampled(name, sampler, task, model, results))
    pictures = {row.name: task.run / "samples" / f"{row.name}.png" for row in results.succeeded}
    if dataset.transform.kind == "points" and math.prod(dataset.event_shape) == 2:
        pictures["score"] = task.run / "samples" / "score.png"
        _draw_score(result.ema, dataset, pictures["score"])
    for name, path in pictures.items():
        logger.picture(f"samples/{name}", path, result.step)
    logger.table("samplers", results.header(), results.flat(), result.step)
    runs.write_json(task.run / runs.SUMMARY, _summary(task, result, results))
    if brief:
        print(f"{results}\n", flush=True)
    else:
        print(f"\ntrained to step {result.step} in {result.seconds:.0f} s; {task.n:,} samples of each sampler:\n")
        print(f"{explained(results)}\n")
        where = f"{task.run / 'samples'}/*.png" if pictures else "none, since no sampler succeeded"
        print(f"pictures  {where}\nmetrics   {task.run / runs.SUMMARY}\n{_next(task.run)}", flush=True)
    best = results.best()
    return best if best is not None or result.best is None else result.best.value


def _next(run: Path) -> str:
    return f"next      scoresde sample {runs.setting(run)} solver=heun sampler.steps=10"


def _sampled(name: str, sampler: Sampler, task: Task, model: Model, results: Results) -> Row:
    """Draw the samples of one sampler, with a picture and metrics; a failure is a row that says so."""
    row, dataset = Row(name, steps=None if sampler.solver.adaptive else sampler.steps), task.scorer.dataset
    try:
        parts = list(draw(sampler, model, dataset.event_shape, task.n, task.seed, _BATCH, name))
    except (InputError, ArithmeticError) as error:
        row.failed(error)
        return row
    row.nfe = math.fsum(p.nfe * len(p.x) for p in parts) / task.n
    row.seconds = [math.fsum(p.seconds for p in parts)]
    x = torch.cat([p.x for p in parts]).cpu()
    results.add(row, task.scorer(x), task.scorer.quantities)
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


def _summary(task: Task, result: FitResult[ScoreModel], results: Results) -> dict[str, Any]:
    return {
        "step": result.step,
        "training_seconds": result.seconds,
        "loss": result.loss,
        "best_checkpoint": None if result.best is None else dataclasses.asdict(result.best),
        "n": task.n,
        "seed": task.seed,
        "best": results.best(),
        "results": results.content(),
        "versions": runs.versions(),
    }
