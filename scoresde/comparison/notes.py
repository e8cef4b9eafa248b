"""What a reader of a comparison must know, a sentence each."""

from collections.abc import Iterator

from scoresde.comparison.guided import Guidance
from scoresde.comparison.measure import Comparison
from scoresde.control import ClassifierFree
from scoresde.named import name_of
from scoresde.sampling.pilot import SAMPLES


def notes(comparison: Comparison) -> list[str]:
    """How the rows so far were measured."""
    plan = comparison.plan
    return [
        f"{plan.seeds} independent seeds of {plan.n:,} samples each; all samplers start from the same noise, and "
        "stochastic ones follow the same Brownian path in the log signal-to-noise ratio.",
        "Intervals are Student's t over the seeds, 95 %; those of differences are of pairs of the same seed, "
        "at the level at which all pairs of a budget together are judged correctly with 95 % (Bonferroni).",
        "NFE is counted where the network is called. The clock sees the sampling alone, after a warm-up.",
        *_of_methods(comparison),
        *comparison.far,
        *_of_steps(comparison),
        *_of_data(comparison),
        *dict.fromkeys(_of_guidance(comparison)),
        *(f"Tuning {k} steps took {n:,} evaluations, which are not in NFE." for k, n in comparison.tuned().items()),
        *(f"{n} has its grid from {SAMPLES} pilot samples, which are not in NFE." for n in sorted(comparison.piloted)),
        *_of_memory(comparison),
    ]


def _of_methods(comparison: Comparison) -> Iterator[str]:
    rules = {c.name: name_of("solver", c.solver) for c in comparison.plan.candidates if c.method is not None}
    if rules:
        yield f"Solvers of the methods: {', '.join(f'{name} {rule}' for name, rule in rules.items())}."


def _of_steps(comparison: Comparison) -> Iterator[str]:
    if found := ", ".join(comparison.coarse):
        yield f"Too few steps, or on a grid that does not suit them, even for an exact score of Gaussian data: {found}."


def _of_data(comparison: Comparison) -> Iterator[str]:
    plan, accuracies = comparison.plan, comparison.accuracy.values()
    yield from plan.problem.notes(plan.n, plan.seeds)
    if accuracies:
        median, largest = max(a.median for a in accuracies), max(a.largest for a in accuracies)
        yield (
            "Exact endpoints are those of the probability-flow ODE in float64 at sigma = 0; a hundredfold tolerance "
            f"moves them by {median:.1g} (median) and at most {largest:.1g}."
        )


def _of_guidance(comparison: Comparison) -> Iterator[str]:
    """What the names of guided rows leave open."""
    guided = [c.method for c in comparison.plan.candidates if isinstance(c.method, Guidance)]
    for one in guided:
        if len({id(other) for other in guided}) == 1:
            yield f"Guidance has scale {one.scale:g}, by {name_of('guidance_method', one.method or ClassifierFree())}."
        if one.interval is not None:
            yield f"Guidance acts from {one.interval[0]:g} to {one.interval[1]:g} in sigma / alpha."
        if one.guide is not None:
            yield f"Samples are led away from {one.guide.path}, step {one.guide.step}."
        if one.classifier is not None:
            yield f"Samples are led by {one.classifier.path}, step {one.classifier.step}, whose calls are not in NFE."


def _of_memory(comparison: Comparison) -> Iterator[str]:
    if any(row.memory is None for row in comparison.results.succeeded):
        yield "Peak memory cannot be measured on this system."
    elif any(model.device.type == "cpu" for model in comparison.models.values()):
        yield (
            "Memory is the growth of the resident memory of the process at its peak: 0 where freed memory was used "
            "again. Seconds include what else ran on this machine."
        )
