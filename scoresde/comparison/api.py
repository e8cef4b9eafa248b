"""`scoresde.compare`: a comparison from Python."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scoresde.data import Dataset
from scoresde.errors import InputError, refuse
from scoresde.files import of_the_disk
from scoresde.mixture import GaussianMixture
from scoresde.model import Model
from scoresde.parallel.shared import sharers
from scoresde.runs import Run
from scoresde.sampling import Corrector, Grid

if TYPE_CHECKING:  # else `scoresde.compare` would cost more to name than all other names
    from scoresde.comparison.plan import Reference
    from scoresde.comparison.problems import Problem
    from scoresde.results import Results

SOLVERS = ("auto", "ddim", "dpmpp_2m", "unipc_2", "heun", "sde_dpmpp_2m", "ancestral")


@of_the_disk()
def compare(
    model: Model | Run | Problem,
    data: Any = None,
    *,
    solvers: Any = None,
    posteriors: Any = None,
    budgets: Sequence[int] = (5, 10, 20, 50),
    tolerances: Sequence[float] = (1e-3, 1e-5),
    sdes: Any = None,
    grid: Grid | None = None,
    corrector: Corrector | None = None,
    metrics: Mapping[str, Any] | Sequence[Any] | None = None,
    n: int = 500,
    seeds: int = 8,
    seed: int = 0,
    reference: Reference | None = None,
    batch_size: int = 500,
    dtype: torch.dtype = torch.float32,
    folder: str | Path | None = None,
    allow: Sequence[str] = (),
) -> Results:
    """Compare samplers of a model, from the same noise, with confidence intervals.

        scoresde.compare(model, images, solvers=["heun", "unipc_2@karras", DDIM(eta=1.0)], budgets=[10, 20])

    The results print a table and show one in a notebook; `results.rows` holds the numbers.

    Args:
        model: any model, a run, or an exact problem such as `scoresde.comparison.Mixture()`.
        data: real data in model units: a `Dataset`, a data source, items (N, *event) of which every other one makes
            the floor, or a `GaussianMixture`; None for the data of a run or a problem.
        solvers: see `scoresde.comparison.candidates`; None takes the usual ones, or that of each of `posteriors`.
        posteriors: methods of posterior sampling, each a row, of an inverse problem: see
            `scoresde.comparison.posteriors`.
        budgets: network evaluations per sample, the final denoising included.
        tolerances: of adaptive solvers, a row for each.
        sdes: names or objects of the SDEs to sample under; None is that of the model, and VP for an exact problem.
        grid: of samplers that name none.
        corrector: of samplers that name none.
        metrics: see `scoresde.results.Metric`; None takes three distances.
        n: samples of each seed.
        seeds: independent repetitions, which give the intervals.
        seed: of the first repetition.
        reference: how exact endpoints are computed, where they are known.
        batch_size: samples computed at once.
        dtype: of the state.
        folder: where report.html, results.json and results.csv are written, if given.
        allow: packages of your own whose classes YAML files may name.

    Raises:
        InputError: something that cannot be compared.
    """
    from scoresde import metrics as measures
    from scoresde.comparison import entries, inverse, measure, output, plan

    problem = problem_of(model, data)
    run = model.path if isinstance(model, Run) else None
    defaults = entries.Defaults(tolerances, grid, corrector, allow, run)
    paths = entries.sdes(sdes or problem.default_sdes, lambda: problem.sigma_max, defaults)
    samplers = entries.candidates(solvers or ("auto" if posteriors else SOLVERS), defaults)
    if posteriors:
        samplers = inverse.posteriors(posteriors, samplers, math.gcd(n, batch_size), not solvers)
    distances = [measures.SlicedWasserstein(), measures.EnergyDistance(), measures.MMD()]
    what = plan.Plan(
        problem, samplers, paths, budgets, n, seed, seeds,
        distances if metrics is None else metrics, reference or plan.Reference(), batch_size, dtype,
    )  # fmt: skip
    out = None if folder is None else Path(folder)
    results = output.measured(measure.Comparison(what), out)
    if out is not None and sharers().first:
        output.report(out, results, {})
    return results


def problem_of(model: Model | Run | Problem, data: Any = None) -> Problem:
    """What is sampled and with what samples are compared, see `compare`."""
    from scoresde.comparison.problems import Given, GivenMixture, Problem, Trained

    if isinstance(model, Problem):
        return model
    if isinstance(model, Run):
        if data is None:
            return Trained(model)
        model = model.plain
    refuse(data is None, "data: not given; give a Dataset, items (N, *event), or a GaussianMixture to compare with")
    return GivenMixture(model, data) if isinstance(data, GaussianMixture) else Given(model, dataset_of(data))


def dataset_of(data: Any) -> Dataset:
    """Real data as a data set; of plain items every other one is held out."""
    if hasattr(data, "load"):
        loaded: Dataset = data.load()
        return loaded
    from scoresde.comparison.problems import plain_transform

    items = torch.as_tensor(data)
    if items.ndim < 2 or len(items) < 4:
        raise InputError(f"data: items of shape {tuple(items.shape)} cannot be compared with; give (N, *event)")
    items = items.detach().cpu().to(torch.promote_types(items.dtype, torch.float32))
    return Dataset(items[::2], items[1::2], plain_transform(tuple(items.shape[1:])))
