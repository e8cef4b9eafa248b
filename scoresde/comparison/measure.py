"""Measuring samplers: shared start noise, counted evaluations, time after a warm-up, peak memory, metrics."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, product

import torch
from torch import Tensor

from scoresde.comparison.brownian import SharedNoise
from scoresde.comparison.budget import Candidate, fitting
from scoresde.comparison.memory import peak_memory
from scoresde.comparison.plan import Plan
from scoresde.comparison.problems import Problem
from scoresde.comparison.reference import Accuracy, accuracy, endpoints
from scoresde.errors import InputError
from scoresde.evaluations import count_evaluations
from scoresde.model import Model
from scoresde.noise import Noise, chunks
from scoresde.results import Measurement, Quantity, Results, Row, Scorer
from scoresde.results.row import reason
from scoresde.sampling import DDIM, Sampler, Tuned

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


@dataclass(frozen=True)
class Entry:
    """A row to measure.

    Attributes:
        setting: the name of the SDE.
        candidate: the sampler.
        budget: None for an adaptive solver.
        steps: that the budget allows, or why there are none.
    """

    setting: str
    candidate: Candidate
    budget: int | None = None
    steps: int | str | None = None


class Comparison:
    """Measures a plan row by row; real data and exact endpoints are computed once.

    Args:
        plan: what to compare.
        on_work: called with the number of sample evaluations done since its last call; at the end of a row with those
            that it did not need.

    Attributes:
        entries: the rows, small budgets first, adaptive solvers last.

    Raises:
        InputError: a budget is too small for all samplers.
    """

    def __init__(self, plan: Plan, on_work: Callable[[float], object] = lambda amount: None) -> None:
        self.plan, self.on_work, self._reported = plan, on_work, 0.0
        self.models = {name: plan.problem.model(sde, plan.device) for name, sde in plan.sdes.items()}
        self.entries = self._entries()
        self._seeds = range(plan.seed, plan.seed + plan.seeds)
        self.results = Results(plan.problem.name, plan.n, plan.seeds, transform=plan.problem.transform)
        self._scorers: list[Scorer] = []
        self._endpoints: dict[str, list[Tensor]] = {}
        self.accuracy: dict[str, Accuracy] = {}

    def _entries(self) -> list[Entry]:
        fixed = [c for c in self.plan.candidates if not c.solver.adaptive]
        adaptive = [c for c in self.plan.candidates if c.solver.adaptive]
        found: list[Entry] = []
        for budget, sde in product(sorted(set(self.plan.budgets)), self.plan.sdes):
            rows = [Entry(sde, c, budget, self._steps(c, budget, self.models[sde])) for c in fixed]
            if rows and all(isinstance(row.steps, str) for row in rows):
                raise InputError(str(rows[0].steps))
            found += rows
        return found + [Entry(sde, c) for sde, c in product(self.plan.sdes, adaptive)]

    def _steps(self, candidate: Candidate, budget: int, model: Model) -> int | str:
        try:
            return fitting(candidate, budget, model.sde, self.plan.problem.event_shape, model.cost)
        except Exception as error:  # its row says so
            return reason(error)

    def tuned(self) -> dict[int, int]:
        """For each number of steps that a solver or a grid was tuned for, the evaluations which that took."""
        costs: dict[int, int] = {}
        for entry in self.entries:
            if isinstance(entry.candidate.solver, Tuned) and isinstance(entry.steps, int):
                costs |= entry.candidate.solver.costs([entry.steps])
        return costs

    @property
    def work(self) -> float:
        """About how many sample evaluations all rows need."""
        return sum(map(self._work, self.entries))

    def _work(self, entry: Entry) -> float:
        return (entry.budget or GUESS) * self.plan.n * self.plan.seeds

    def rows(self) -> Iterator[Row]:
        """Measure the rows in order; each is also appended to `results`."""
        self._prepare()
        for entry in self.entries:
            row = self._measured(entry)
            self.results.rows.append(row)
            yield row

    def _prepare(self) -> None:
        """Compute the real data of each seed and the exact endpoints."""
        plan = self.plan
        self._scorers = [Scorer(plan.metrics, real) for real in plan.problem.real(plan.n, self._seeds)]
        distribution, m = plan.problem.distribution, min(plan.reference.n, plan.n)
        if distribution is None or not m:
            return
        for name, model in self.models.items():
            level, tolerance = model.sde.at(model.sde.T), plan.reference.tolerance
            starts = [self._start(model, m, Noise(s)).double() / level.alpha for s in self._seeds]
            r = level.sigma / level.alpha
            distribution = distribution.to(model.device)
            self._endpoints[name] = [endpoints(distribution, y, r, tolerance) for y in starts]
            self.results.endpoints[name] = self._endpoints[name][0][:SHOWN].float().cpu()
            self.accuracy[name] = accuracy(distribution, starts[0], r, tolerance, self._endpoints[name][0])

    def _start(self, model: Model, n: int, noise: Noise) -> Tensor:
        return Sampler(DDIM()).prior(model, self.plan.problem.event_shape, n, noise, self.plan.dtype)

    def _measured(self, entry: Entry) -> Row:
        row = Row(entry.candidate.name, entry.setting, entry.budget, entry.candidate.tolerance)
        model = self.models[entry.setting]
        try:
            if isinstance(entry.steps, str):
                raise InputError(entry.steps)
            row.steps = entry.steps
            sampler = entry.candidate.sampler(entry.steps)
            self._warm_up(sampler, model)
            with peak_memory(model.device) as peak, count_evaluations() as spent:
                for i in range(self.plan.seeds):
                    self._repeat(row, sampler, model, i)
            row.memory = peak.megabytes
            row.nfe = spent.samples / (self.plan.n * self.plan.seeds)
        except Exception as error:  # whatever a solver does, the others are measured
            row.failed(error)
        self._report(self._work(entry) - self._reported)
        self._reported = 0.0
        return row

    def _report(self, amount: float) -> None:
        self._reported += amount
        self.on_work(amount)

    def _warm_up(self, sampler: Sampler, model: Model) -> None:
        """Take a few steps before the time is measured: memory is allocated, kernels are chosen."""
        n = 2 if sampler.solver.adaptive else min(self.plan.n, self.plan.batch_size)
        deque(islice(self._trajectory(sampler, model, range(n), -1)[0], 1 + _WARM_STEPS), maxlen=0)

    def _repeat(self, row: Row, sampler: Sampler, model: Model, i: int) -> None:
        """Draw the samples of seed number i; add their time and metrics to the row."""
        plan = self.plan
        batches = chunks(range(plan.n), plan.batch_size)
        drawn = (self._draw(sampler, model, rows, self._seeds[i]) for rows in batches)
        parts, seconds, asked = zip(*drawn, strict=True)
        x = torch.cat(parts)
        row.seconds.append(sum(seconds))
        row.stochastic |= any(asked)
        if i == 0:
            row.shown = x[:SHOWN].float().cpu()
        exact, scorer = self._endpoints.get(row.setting), self._scorers[i]
        found = scorer(x.cpu())
        if exact is not None and not row.stochastic:
            found |= {k: Measurement(v) for k, v in against(exact[i], x, plan.problem).items()}
        self.results.add(row, found, {**scorer.quantities, **ENDPOINT})

    def _draw(self, sampler: Sampler, model: Model, rows: range, seed: int) -> tuple[Tensor, float, bool]:
        """A batch of samples, the seconds it took, and whether the sampler drew noise."""
        path, shared = self._trajectory(sampler, model, rows, seed)
        done = 0
        _synchronise(model)
        began = time.perf_counter()
        with count_evaluations() as spent:
            for _, x in path:  # noqa: B007 - the last one is the sample
                self._report(spent.samples - done)
                done = spent.samples
        _synchronise(model)
        seconds = time.perf_counter() - began - shared.seconds
        if not bool(torch.isfinite(x).all()):
            raise InputError(_where(self._trajectory(sampler, model, rows, seed)[0], model))
        return x, seconds, shared.asked

    def _trajectory(
        self, sampler: Sampler, model: Model, rows: range, seed: int
    ) -> tuple[Iterator[tuple[float, Tensor]], SharedNoise]:
        """The trajectory of some samples, and the noise source that all samplers on a fixed grid share."""
        noise = Noise(seed, rows)
        shared = SharedNoise(noise, model.sde, sampler.times(model))
        source = noise if sampler.solver.adaptive else shared
        shape, dtype = self.plan.problem.event_shape, self.plan.dtype
        return sampler.trajectory(model, shape, rows=rows, seed=seed, dtype=dtype, noise=source), shared


def against(exact: Tensor, x: Tensor, problem: Problem) -> dict[str, float]:
    """Statistics of |x - exact| between the first samples x (n, *event) and their exact endpoints (m, *event)."""
    mine = x[: len(exact)].double()
    apart = (mine - exact).flatten(1).norm(dim=1)
    found = {
        "endpoint_median": float(apart.median()),
        "endpoint_rms": float(apart.square().mean().sqrt()),
        "endpoint_p95": float(torch.quantile(apart, 0.95)),
    }
    there, right = problem.basin(mine), problem.basin(exact)
    if there is not None and right is not None:
        found["other_basin"] = float((there != right).double().mean())
    return found


def _synchronise(model: Model) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def _where(path: Iterator[tuple[float, Tensor]], model: Model) -> str:
    """Where a batch first became NaN or infinite, found by computing its path again."""
    for t, x in path:
        if bad := int((~torch.isfinite(x.flatten(1)).all(1)).sum()):
            ratio = math.exp(-float(model.sde.lam(t))) if t > 0 else 0.0
            where = f"from t = {t:.4g} on (noise {ratio:.3g} of the signal)"
            return f"{bad} of {len(x)} samples are NaN or infinite {where}"
    return "some samples are NaN or infinite"
