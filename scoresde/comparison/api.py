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
    from scoresde.comparison.budget import Candidate
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
    guidance: Any = None,
    guidance_methods: Any = None,
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
        guidance: scales of guidance, of `Trained(run, label)` or `MixtureClasses()`: each a row.
        guidance_methods: `cfg` and others, each a row for each scale: see `scoresde.comparison.guidances`.
        budgets: network evaluations per sample, the final denoising included.
        tolerances: of adaptive solvers, a row for each.
        sdes: names or objects of the SDEs to sample under; None is that of the model, and VP for an exact problem.
        grid: of samplers that name none.
        corrector: of samplers that name none.
        metrics: see `scoresde.results.Metric`; None takes three distances, or of guidance one and `Diversity`.
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
    from scoresde.comparison import entries, measure, output, plan

    problem = problem_of(model, data)
    run = model.path if isinstance(model, Run) else None
    defaults = entries.Defaults(tolerances, grid, corrector, allow, run)
    paths = entries.sdes(sdes or problem.default_sdes, lambda: problem.sigma_max, defaults)
    guided = guidance is not None or guidance_methods is not None
    samplers = entries.candidates(solvers or ("auto" if posteriors or guided else SOLVERS), defaults)
    scales, most = (guidance, guidance_methods), math.gcd(n, batch_size)
    samplers = with_methods(samplers, posteriors, scales, most, not solvers, allow)
    what = plan.Plan(
        problem, samplers, paths, budgets, n, seed, seeds,
        usual_metrics(guided) if metrics is None else metrics, reference or plan.Reference(), batch_size, dtype,
    )  # fmt: skip
    out = None if folder is None else Path(folder)
    results = output.measured(measure.Comparison(what), out)
    if out is not None and sharers().first:
        output.report(out, results, {})
    return results


def with_methods(
    samplers: list[Candidate],
    posteriors: Any,
    guidance: tuple[Any, ...],
    most: int,
    usual: bool,
    allow: Sequence[str],
) -> list[Candidate]:
    """The samplers with each method of posterior sampling or each guidance.

    Args:
        samplers: without methods.
        posteriors: see `scoresde.comparison.posteriors`.
        guidance: scales and methods, perhaps an interval and a guide, see `scoresde.comparison.guidances`.
        most: samples that are always computed together.
        usual: whether the samplers are those that nobody asked for.
        allow: packages of the user's own.

    Raises:
        InputError: both, or what these two refuse.
    """
    from scoresde.comparison import guided, inverse

    scales, methods, *others = guidance
    if scales is None and methods is None:
        return inverse.posteriors(posteriors, samplers, most, usual, allow) if posteriors else samplers
    refuse(bool(posteriors), "posteriors: given together with guidance, which makes rows too; leave one of them out")
    return guided.guidances(1.0 if scales is None else scales, methods, samplers, *others)


def usual_metrics(guided: bool) -> list[Any]:
    """The metrics of a comparison of which none are given: of guidance a distance, and fidelity beside diversity."""
    from scoresde import metrics

    first = metrics.SlicedWasserstein()
    return [first, metrics.Diversity()] if guided else [first, metrics.EnergyDistance(), metrics.MMD()]


def problem_of(model: Model | Run | Problem, data: Any = None) -> Problem:
    """What is sampled and with what samples are compared, see `compare`."""
    from scoresde.comparison.problems import Given, GivenMixture, Problem
    from scoresde.comparison.trained import Trained

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
