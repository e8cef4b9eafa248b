"""Measuring samplers: shared start noise, counted evaluations, time after a warm-up, peak memory, metrics."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import groupby, islice, product
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scoresde.comparison.brownian import SharedNoise
from scoresde.comparison.budget import Candidate, fitting, spent
from scoresde.comparison.guided import Guidance
from scoresde.comparison.memory import peak_memory
from scoresde.comparison.plan import Plan
from scoresde.comparison.reference import Accuracy, Distribution, accuracy, endpoints
from scoresde.errors import refuse
from scoresde.evaluations import count_evaluations
from scoresde.model import Model
from scoresde.noise import Noise, chunks
from scoresde.parallel.shared import first_before_others, shared, sharers
from scoresde.posterior import Posterior
from scoresde.results import Measurement, Quantity, Results, Row, Scorer
from scoresde.results.card import shared as shared_card
from scoresde.runs.samples import far, sizes
from scoresde.sampling import DDIM, Sampler, Samples, Tuned
from scoresde.sampling.foresight import caution
from scoresde.sampling.pilot import PilotGrid

SHOWN = 400  # samples kept for pictures
GUESS = 150  # evaluations of an adaptive solver, assumed for the remaining time
_WARM_STEPS = 3
_END = "that of the exact endpoint"
_EXACT = "to the exact endpoint of the same noise"
# what `against` measures
ENDPOINT = {
    q.key: q
    for q in (
        Quantity("endpoint_median", "median", f"median distance {_EXACT}", direction="lower", brief=False),
        Quantity("endpoint_rms", "RMS", f"root mean square distance {_EXACT}", direction="lower", ranks=True),
        Quantity("endpoint_p95", "95 %", f"95th percentile of the distance {_EXACT}", direction="lower", brief=False),
        Quantity("other_basin", "wrong mode", f"share of samples in a mode other than {_END}", direction="lower"),
    )
}


class Entry(NamedTuple):
    """A sampler to measure, and its row, which has an error already if the budget is too small."""

    candidate: Candidate
    row: Row


class Comparison:
    """Measures a plan row by row; real data and exact endpoints are computed once.

    Several processes share out the batches of a row, see `scoresde.parallel.sharing`; all get the results.

    Args:
        plan: what to compare.
        on_work: called with the number of sample evaluations done since its last call; at the end of a row with those
            that it did not need.

    Attributes:
        entries: the rows, small budgets first, adaptive solvers last.
        far: which samples lie far outside the data, a sentence for each sampler.
        coarse: which samplers have too few steps, see `scoresde.sampling.foresight`.
        piloted: which samplers took a grid from pilot samples.

    Raises:
        InputError: a budget is too small for all samplers.
    """

    def __init__(self, plan: Plan, on_work: Callable[[float], object] = lambda amount: None) -> None:
        self.plan, self.on_work, self._reported = plan, on_work, 0.0
        self.models = {name: plan.problem.model(sde, plan.device) for name, sde in plan.sdes.items()}
        for named in (c for c in plan.candidates if isinstance(c.method, Guidance | str)):
            self._asked(named, next(iter(self.models.values())))  # what is not possible is no matter of a row
        self.entries = self._entries()
        self._seeds = range(plan.seed, plan.seed + plan.seeds)
        self.results = Results(plan.problem.name, plan.n, plan.seeds, transform=plan.problem.transform)
        self._scorers: dict[str, list[Scorer]] = {}
        for entry in self.entries:
            if entry.row.target not in self._scorers:
                self._scorers[entry.row.target] = self._scored(entry.candidate)
        targets = ((name, own[0].dataset) for name, own in self._scorers.items() if name)
        self.results.endpoints |= {name: real.heldout[:SHOWN] for name, real in targets}
        of_all = [scorer.cards for scorers in self._scorers.values() for scorer in scorers]
        self.results.cards = {key: shared_card([cards[key] for cards in of_all]) for key in of_all[0]}
        self.results.items = plan.problem.pictured()
        self._endpoints: dict[str, list[Tensor]] = {}
        self.accuracy: dict[str, Accuracy] = {}
        self.far: list[str] = []
        self.coarse: list[str] = []
        self.piloted: set[str] = set()

    def _entries(self) -> list[Entry]:
        fixed = [c for c in self.plan.candidates if not c.solver.adaptive]
        adaptive = [c for c in self.plan.candidates if c.solver.adaptive]
        found: list[Entry] = []
        for budget, sde in product(sorted(set(self.plan.budgets)), self.plan.sdes):
            entries = [self._entry(c, sde, budget) for c in fixed]
            errors = [e.row.error for e in entries if e.row.error is not None]
            refuse(len(errors) == len(fixed) > 0, next(iter(errors), ""))
            found += entries
        return found + [Entry(c, self._row(c, sde, None)) for sde, c in product(self.plan.sdes, adaptive)]

    def _row(self, candidate: Candidate, sde: str, budget: int | None) -> Row:
        target = self.plan.problem.target(candidate.method)
        own = "" if target is self.plan.problem else target.name
        return Row(candidate.name, sde, budget, candidate.tolerance, target=own)

    def _scored(self, candidate: Candidate) -> list[Scorer]:
        """What measures the samples of a candidate, for each seed."""
        plan = self.plan
        real = plan.problem.target(candidate.method).real(plan.n, self._seeds)
        return [Scorer(plan.metrics, one, plan.device).prepare(plan.n) for one in real]

    def _entry(self, candidate: Candidate, sde: str, budget: int) -> Entry:
        row, model = self._row(candidate, sde, budget), self.models[sde]
        try:
            row.steps = fitting(candidate, budget, self._asked(candidate, model), self.plan.problem.event_shape)
        except Exception as error:  # its row says so
            row.failed(error)
        return Entry(candidate, row)

    def _asked(self, candidate: Candidate, model: Model, i: int = 0) -> Model:
        """The model that a candidate samples for seed number i."""
        return self.plan.problem.asked(model, candidate.method, self.plan.seed + i)

    def tuned(self) -> dict[int, int]:
        """For each number of steps that a solver or a grid was tuned for, the evaluations which that took."""
        costs: dict[int, int] = {}
        for candidate, row in self.entries:
            if isinstance(candidate.solver, Tuned) and row.steps is not None:
                costs |= candidate.solver.costs([row.steps])
        return costs

    @property
    def work(self) -> float:
        """About how many sample evaluations all rows need."""
        return sum(self._work(row) for _, row in self.entries)

    def _work(self, row: Row) -> float:
        return (row.budget or GUESS) * self.plan.n * self.plan.seeds

    def rows(self) -> Iterator[Row]:
        """Measure the rows in order; each is also appended to `results`."""
        self._prepare()
        for candidate, row in self.entries:
            self._measured(candidate, row)
            self._report(self._work(row))
            self._reported = 0.0
            self.results.rows.append(row)
            yield row

    def _prepare(self) -> None:
        """Compute the exact endpoints."""
        plan = self.plan
        distribution, m, prior = plan.problem.distribution, min(plan.reference.n, plan.n), Sampler(DDIM()).prior
        if distribution is None or not m:
            return
        for name, model in self.models.items():
            level, tolerance = model.sde.at(model.sde.t_start), plan.reference.tolerance
            priors = [prior(model, plan.problem.event_shape, m, Noise(s), plan.dtype) for s in self._seeds]
            starts = [x.double() / level.alpha for x in priors]
            r = level.sigma / level.alpha
            distribution = distribution.to(model.device)
            found = shared(starts, partial(_endpoints, distribution, r, tolerance))
            self._endpoints[name] = [torch.as_tensor(one["x"]).to(model.device) for one in found]
            self.results.endpoints[name] = self._endpoints[name][0][:SHOWN].float().cpu()
            self.accuracy[name] = accuracy(distribution, starts[0], r, tolerance, self._endpoints[name][0])

    def _measured(self, candidate: Candidate, row: Row) -> None:
        """Fill the row, unless it has an error."""
        if row.error is not None:
            return
        model = self._asked(candidate, self.models[row.setting])
        try:
            with first_before_others():
                sampler = self._suited(candidate, row, model)
            if caution(sampler, model.sde, model.sigma_data):
                self.coarse.append(f"{row.name} with {row.steps} steps on {row.setting}")
            with suppress(Exception):  # which the first batch will raise, in all processes
                self._warm_up(sampler, model)
            with peak_memory(model.device) as peak, count_evaluations() as spent:
                done = lambda _: self._report(spent.samples * sharers().size)  # noqa: E731
                made = self._draw(row, candidate, sampler, done)
                nfe = [self._repeat(row, candidate.method, i, drawn) for i, drawn in made]
            row.memory, row.nfe = peak.megabytes, math.fsum(nfe) / len(nfe)
        except Exception as error:  # whatever a solver does, the others are measured
            row.failed(error)

    def _suited(self, candidate: Candidate, row: Row, model: Model) -> Sampler:
        """The sampler of a row, with the grid that it looks up: with fewer steps where these cost more on that grid."""
        shape, prior = self.plan.problem.event_shape, self.models[row.setting]
        while True:
            plain = candidate.sampler(row.steps)
            # a pilot of the prior is cheaper than one of a posterior, and the same for every method
            first = plain.suited(prior, shape) if isinstance(model, Posterior) else plain
            sampler = first.suited(model, shape)
            if not isinstance(model.suits(plain).grid, PilotGrid):
                return sampler
            self.piloted |= {row.name}
            if row.budget is None or not row.steps or spent(sampler, model, shape) <= row.budget:
                return sampler
            row.steps -= 1

    def _report(self, done: float) -> None:
        """Call `on_work` with the evaluations of this row since its last call, of which `done` are done by now."""
        self.on_work(done - self._reported)
        self._reported = done

    def _warm_up(self, sampler: Sampler, model: Model) -> None:
        """Take a few steps before the time is measured: memory is allocated, kernels are chosen."""
        n = 2 if sampler.solver.adaptive else min(self.plan.n, self.plan.batch_size)
        shape, dtype = self.plan.problem.event_shape, self.plan.dtype
        path = sampler.trajectory(model, shape, rows=range(n), seed=-1, dtype=dtype)
        *_, (_, x) = islice(path, 1 + _WARM_STEPS)
        x.cpu()  # waits for the device

    def _repeat(self, row: Row, method: Any, i: int, drawn: Samples) -> float:
        """Add the time and the metrics of the samples of seed number i to the row; returns their evaluations."""
        x, exact, scorer = drawn.x, self._endpoints.get(row.setting), self._scorers[row.target][i]
        row.seconds.append(drawn.seconds)
        if i == 0:
            row.shown, row.choices = x[:SHOWN].float(), drawn.choices
            if warning := far(sizes(x), 2 * float(sizes(scorer.dataset.heldout).max())):
                self.far.append(f"{row.name} within {row.budget} evaluations: {warning}.")
        found = scorer(x)
        if exact is not None and self.plan.problem.distribution is not None and not row.stochastic:
            found |= against(exact[i], x.to(exact[i].device), self.plan.problem.distribution)
        found |= (of_problem := self.plan.problem.measured(drawn, self._seeds[i], method, scorer.dataset))
        for name, item in self.plan.problem.pictured_of(drawn).items():
            row.items.setdefault(name, []).append(item)
        known = {q.key: q for q in self.plan.problem.quantities if q.key in of_problem}
        self.results.add(row, found, {**scorer.quantities, **ENDPOINT, **known})
        return drawn.nfe

    def _draw(
        self, row: Row, candidate: Candidate, sampler: Sampler, on_step: Callable[[int], None]
    ) -> Iterator[tuple[int, Samples]]:
        """Each number of a seed, and its samples on the CPU."""
        parts = list(product(range(self.plan.seeds), chunks(range(self.plan.n), self.plan.batch_size)))

        def of_seed() -> Iterator[tuple[int, Samples]]:
            prior = self.models[row.setting]
            models = [self._asked(candidate, prior, i) for i in range(self.plan.seeds)]
            made = shared(parts, lambda p: self._batch(models[p[0]], sampler, p[1], self._seeds[p[0]], on_step))
            for (i, _), arrays in zip(parts, made, strict=True):
                row.stochastic |= bool(arrays["stochastic"])
                yield i, Samples.of(arrays)

        for i, batches in groupby(of_seed(), key=itemgetter(0)):
            yield i, Samples.joined(batch for _, batch in batches)

    def _batch(
        self, model: Model, sampler: Sampler, rows: range, seed: int, on_step: Callable[[int], None]
    ) -> Mapping[str, Any]:
        """A batch of samples as arrays; those of all samplers on fixed grids come from one source of noise."""
        noise = Noise(seed, rows)
        shared = SharedNoise(noise, model.sde, sampler.times(model, event_shape=self.plan.problem.event_shape))
        (drawn,) = sampler.batches(
            model, self.plan.problem.event_shape, rows=rows, seed=seed, batch_size=len(rows), dtype=self.plan.dtype,
            noise=noise if sampler.solver.adaptive else shared, on_step=on_step,
        )  # fmt: skip
        return replace(drawn, seconds=drawn.seconds - shared.seconds).arrays | {"stochastic": shared.asked}


def _endpoints(distribution: Distribution, r: float, tolerance: float, y: Tensor) -> Mapping[str, Any]:
    return {"x": endpoints(distribution, y, r, tolerance).cpu().numpy()}


def against(exact: Tensor, x: Tensor, distribution: Distribution) -> dict[str, Measurement]:
    """Statistics of |x - exact| between the first samples x (n, *event) and their exact endpoints (m, *event)."""
    mine = x[: len(exact)].double()
    apart = (mine - exact).flatten(1).norm(dim=1)
    found = {
        "endpoint_median": apart.median(),
        "endpoint_rms": apart.square().mean().sqrt(),
        "endpoint_p95": apart.quantile(0.95),
        "other_basin": (distribution.component(mine) != distribution.component(exact)).double().mean(),
    }
    return {key: Measurement(float(value)) for key, value in found.items()}
