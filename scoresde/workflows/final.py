"""The final samples of a training: drawn, measured, shown, and written into the run."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde import figures, runs
from scoresde.data import Dataset
from scoresde.errors import InputError
from scoresde.files import writing
from scoresde.loggers import Logger
from scoresde.model import Model, NetworkModel
from scoresde.results import Results, Row, Scorer
from scoresde.runs.samples import draw, sizes
from scoresde.sampling import Sampler, Samples
from scoresde.training import FitResult
from scoresde.workflows.enough import enough_evaluations, keep_grids
from scoresde.workflows.recorded import of_training

_SHOWN = 2000  # samples in a picture
_LEVELS = (0.1, 0.3, 1.0)  # sigma / alpha at which the score of points is drawn


def final_samples(
    run: Path, result: FitResult[NetworkModel], model: Model, scorer: Scorer, samplers: Mapping[str, Sampler],
    n: int, seed: int, check: int, logger: Logger, found: Mapping[str, Any],
) -> tuple[Results, dict[str, Any]]:  # fmt: skip
    """Draw n samples with each sampler, measure and log them, and write samples/*.png into the run.

    Returns what was measured, and the summary of the run, which comes last: with it a run is complete.

    Several processes share out the batches of samples: the others call `help_draw` meanwhile.

    Args:
        run: the folder.
        result: of the training.
        model: what to sample from: the averaged model, with its conditions.
        scorer: the metrics, on the data.
        samplers: by name.
        n: number of samples of each.
        seed: of the samples.
        check: number of samples with which `enough_evaluations` is found; 0 leaves it and `keep_grids` out.
        logger: receives the pictures and the table.
        found: what else the summary says, see `scoresde.Loss.summary`.
    """
    dataset, results = scorer.dataset, Results(str(run), n, 1)
    with writing(run / "samples"):
        (run / "samples").mkdir(exist_ok=True)
    pictures: dict[str, Path] = {}
    reach = 2 * float(sizes(dataset.items[:10_000]).max())
    for name, sampler in samplers.items():
        row = Row(name, steps=None if sampler.solver.adaptive else sampler.steps)
        try:
            drawn = Samples.joined(draw(sampler, model, dataset.event_shape, n, seed, label=name, reach=reach))
        except (InputError, ArithmeticError) as error:
            row.failed(error)
        else:
            row.nfe, row.seconds = drawn.nfe, [drawn.seconds]
            results.add(row, scorer(drawn.x), scorer.quantities)
            title = f"{name}, {row.nfe:.0f} evaluations"
            pictures[name] = run / "samples" / f"{name}.png"
            figures.picture(drawn.x[:_SHOWN], dataset.transform, pictures[name], dataset.heldout[:_SHOWN], title)
        results.rows.append(row)
    results.floors |= scorer.floors(n) if results.succeeded else {}
    results.cards = scorer.cards
    if model.states == "gaussian" and dataset.transform.kind == "points" and math.prod(dataset.event_shape) == 2:
        pictures["score"] = run / "samples" / "score.png"
        _draw_score(result.ema, dataset, pictures["score"])
    for name, path in pictures.items():
        logger.picture(f"samples/{name}", path, result.step)
    logger.table("samplers", results.header(), results.flat(), result.step)
    summary: dict[str, Any] = {
        **of_training(result),
        **found,
        "n": n,
        "seed": seed,
        "best": results.best(),
        "results": results.content(),
        "versions": runs.versions(),
    }
    if check and model.states == "gaussian":
        summary["auto_enough"] = enough_evaluations(model, dataset.event_shape, check, seed)
        keep_grids(run, model, dataset.event_shape)
    return results, summary


def help_draw(model: Model, event_shape: Sequence[int], samplers: Mapping[str, Sampler], n: int, seed: int) -> None:
    """Take part in the drawing of `final_samples`, which the first process has called."""
    for sampler in samplers.values():
        with suppress(InputError, ArithmeticError):  # which the first one has too
            deque(draw(sampler, model, event_shape, n, seed), 0)


def _draw_score(model: Model, dataset: Dataset, path: Path) -> None:
    """The learned score at a few noise levels, from the finest detail of the data to its outline."""

    def score_at(ratio: float) -> Callable[[Tensor], Tensor]:
        t = float(model.sde.t_of_lam(torch.tensor(-math.log(ratio), dtype=torch.float64)))
        t = min(max(t, model.sde.t_min), model.sde.t_start)
        alpha = model.sde.at(t).alpha
        # of x / alpha, which lies where the data lies
        return lambda y: alpha * model(alpha * y.to(model.device), t).score

    levels = [(f"noise {ratio:g} of the signal", score_at(ratio)) for ratio in _LEVELS]
    figures.score_field(levels, dataset.transform, path, dataset.heldout[:_SHOWN], "learned score")
