"""Twisted diffusion sampling: particles that a method guides, and weights that make good for its errors."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from scoresde._shapes import expand, flat
from scoresde.constraints import Count, Fraction, at_least
from scoresde.control import Wrapper
from scoresde.errors import refuse
from scoresde.evaluations import uncounted
from scoresde.model import Model, S
from scoresde.nets.condition import Cond
from scoresde.posterior.base import Posterior, posterior_in
from scoresde.posterior.moments import damped, held
from scoresde.posterior.steps import Loop
from scoresde.prediction import Prediction
from scoresde.progress import note
from scoresde.sampling import Ancestral, Auto, Corrector, Sampler, Solver
from scoresde.sampling.solver import GridSolver, NoiseSource, Path

_COLLAPSED = 2.0  # effective particles, below which a population is one draw


class Populations(NamedTuple):
    """How the populations of one batch went.

    Attributes:
        t: the times after the start, (N + 1,).
        ess: effective sample sizes at these times (N + 1, populations), before any resampling.
        log_evidence: log of an unbiased estimate of p(y), in nats, (populations,).
    """

    t: list[float]
    ess: Tensor
    log_evidence: Tensor


_WATCHED: ContextVar[list[Populations] | None] = ContextVar("scoresde_populations", default=None)


@contextmanager
def populations() -> Iterator[list[Populations]]:
    """A list that gets the `Populations` of each batch that `Twisted` draws within the block."""
    found: list[Populations] = []
    token = _WATCHED.set(found)
    try:
        yield found
    finally:
        _WATCHED.reset(token)


@dataclass(frozen=True, repr=False)
class Twisted(Loop):
    """Twisted diffusion sampler: sequential Monte Carlo with a guided proposal, exact as particles grow.

        h_t(x) = N(y; A D, A V A^T + sigma_y^2 I),   D = E[x0 | x_t = x]
        p(x_s | x_t) = N(mu, c^2 I),   q(x_s | x_t, y) = N(mu + c^2 (alpha_t / alpha_s) grad log h_t(x_t), c^2 I)
        w_s = w_t p(x_s | x_t) h_s(x_s) / (h_t(x_t) q(x_s | x_t, y)),   w_T = h_T(x_T)

    with the step p of the solver, and grad D A^T (A V A^T + sigma_y^2 I)^-1 (y - A D) for grad log h. The last h is
    N(y; A D, sigma_y^2 I), so particles with their weights have the posterior of the discretised reverse SDE whatever V
    is; V decides how many that takes. Where their effective number 1 / sum w^2 falls below `share` of them they are
    resampled, systematically; at the end samples are drawn so by the last weights.

    Sample k is one of `draws` from population k // draws, whose particles share one y. With draws=1 samples are
    independent, and each costs the evaluations of `particles`; with draws=particles each costs those of one, but the
    samples of a population descend from few. Twice as many particles as draws, in half of the steps, cost the same and
    give fewer copies. `populations` gives effective numbers and the evidence.

    With draws=n, particles=2 n and 100 steps, 201 evaluations a sample, samples are 1.0 (0.68 to 1.6) floors away at
    sigma_y = 0.05 and 1.3 (0.97 to 1.7) at 0.3 from the exact posterior of 8-D mixtures (benchmarks/posterior.py, 5
    problems, n = 2,000, 95 %).

    A network's Jacobian is no covariance: axes on which A V A^T is negative are not pulled along, and the pull is held
    to the length that data allow, as in `MMPS`. The weights stay right, since they hold for any pull and any h.

    The solver needs Gaussian steps of one evaluation: `ancestral` stands for the default one; ddim with eta=1,
    sde_dpmpp_2m, sde_dpmpp_3m, euler_maruyama and reverse_diffusion are others.

    Args:
        particles: in a population.
        draws: samples from a population; divides `particles`.
        twist: V. `mmps` takes the covariance (sigma^2 / alpha) dD/dx, at a product for each value of y; `pigdm` r^2 I,
            r^2 = s^2 sd^2 / (s^2 + sd^2) with s = sigma / alpha and sd that of the data, at one. None for `pigdm` of a
            network, which is no covariance near pure noise, else `mmps`.
        share: see above; 1 resamples at each step, 0 never.

    Raises:
        InputError: draws that do not divide particles; from a sampler, a solver or a corrector whose moves have no
            density, and samples that are no whole populations.

    Wu et al. 2023 (arXiv 2306.17775), algorithm 1.
    """

    particles: Annotated[int, at_least(2)] = 64
    draws: Count = 1
    twist: Literal["mmps", "pigdm"] | None = None
    share: Fraction = 0.5

    divides = differentiates = True

    def __post_init__(self) -> None:
        fits = self.particles % self.draws == 0
        refuse(not fits, f"draws: {self.draws} does not divide the {self.particles} particles; give a divisor of them")

    def suits(self, sampler: S) -> S:
        other, own = cast(Sampler, super().suits(sampler)), cast(Sampler, sampler)
        if other is not own and own._usual_grid:
            other = copy.copy(other)
            other.grid = other.solver.default_grid
        return cast(S, other)

    def solver(self, solver: Solver) -> Solver:
        solver = Ancestral() if isinstance(solver, Auto) else solver
        fine = isinstance(solver, GridSolver) and solver.evaluations == 1 and solver.eta != 0
        fine = fine and not getattr(solver, "corrector", 0)
        refuse(
            not fine,
            f"solver: the steps of {solver.called} have no density, which twisted weighs by; "
            "use ancestral, sde_dpmpp_2m or euler_maruyama",
        )
        return solver

    def carry(
        self, solver: Solver, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, then: Corrector | None
    ) -> Path:
        refuse(then is not None, "corrector: its moves have no weights, which twisted needs; use corrector=none")
        each, count = self.particles // self.draws, len(x)
        whole = f"{count} samples are no whole populations of draws={self.draws}; give a multiple, also of batch_size"
        refuse(count % self.draws != 0, f"n: {whole}")
        if each > 1:
            model = model.of_samples(torch.arange(count).repeat_interleave(each))
        walk = _Walk(self, cast(GridSolver, solver), model, times, noise, each)
        x = walk.started(x)
        for t in times.tolist()[1:]:
            x = walk.step(x, t)
            yield t, x[::each]  # the last of these is replaced by the next one

    def guided(self, asked: Posterior, x: Tensor, t: float) -> tuple[Tensor, Tensor, Tensor]:
        """D and x0_y (B, *event), and log h (B,) up to a number that is the same for all, float64; one evaluation."""
        x0, product = asked.with_products(x, t)
        left, factor, observation = asked.left(x0), expand(asked.covariance_factor(t), x), asked.observation
        noise2 = observation.sigma_y**2
        if (self.twist or ("mmps" if asked.network is None else "pigdm")) == "pigdm":
            s2, sd2 = asked.noise_ratio(t), asked.sigma_data**2
            u = observation.solve(left.double(), s2 * sd2 / (s2 + sd2), noise2)
            step = factor * product(observation.adjoint(u.to(x))[None])[0]
            step = step if asked.network is None else damped(asked, step, u, left)
            return x0, x0 + step, -0.5 * flat(left.double() * u).sum(1)
        units = torch.eye(left[0].numel()).to(left).reshape(-1, 1, *left.shape[1:]).expand(-1, *left.shape)
        gains = factor * product(torch.stack([observation.adjoint(one) for one in units]))
        matrix = torch.stack([flat(observation(one)) for one in gains], dim=2).double()
        values, axes = torch.linalg.eigh((matrix + matrix.mT) / 2)
        # a network's may be negative: their size says how far y is off, and nothing is pulled along their axes
        sizes, kept = values.abs() + noise2, values > torch.finfo(x.dtype).eps * values[:, -1:]
        along = (axes.mT @ flat(left).double()[..., None])[..., 0]
        log_h, u = -0.5 * (along**2 / sizes + sizes.log()).sum(1), torch.where(kept, along / sizes, 0.0)
        step = torch.einsum("bm,mb...->b...", (axes @ u[..., None])[..., 0].to(gains), gains)
        return x0, x0 + held(asked, t, step, torch.where(kept, values * u**2, 0.0).sum(1)), log_h


class _Given(Wrapper):
    """A model whose x0 is known already."""

    def __init__(self, model: Model, x0: Tensor) -> None:
        super().__init__(model)
        self.x0 = x0

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        return Prediction.of(x, self.sde, t, x0=self.x0)


class _Walk:
    """The populations of one batch on their way; x is (populations * particles, *event)."""

    def __init__(
        self, method: Twisted, solver: GridSolver, model: Model, times: Tensor, noise: NoiseSource, each: int
    ) -> None:
        self.method, self.solver, self.model, self.noise, self.each = method, solver, model, noise, each
        self.asked, self.times, self.i = posterior_in(model), times.tolist(), 0
        self.plans = solver.plan(model.sde, times)
        self.state: Any = None  # of the rule
        self.ess: list[Tensor] = []

    def started(self, x: Tensor) -> Tensor:
        """The particles that belong to starts (B, *event); from the prior each has its own."""
        if self.each > 1:
            at_end = self.times[0] >= self.model.sde.t_start
            own = x.unsqueeze(1).expand(len(x), self.each, *x.shape[1:]).clone()
            if at_end:
                z = self._normal("start", 0, own[:, 1:])
                own[:, 1:] = self.model.prior(z.flatten(0, 1)).reshape(z.shape)
            x = own.flatten(0, 1)
        self.log_z = torch.zeros(len(x) // self.method.particles, dtype=torch.float64, device=x.device)
        y = self.asked.rows(x)
        same = y.reshape(len(self.log_z), -1, *y.shape[1:])
        refuse(bool((same != same[:, :1]).any()), "draws: samples of a population share one y; give draws=1")
        self.x0, self.x0_y, log_h = self.method.guided(self.asked, x, self.times[0])
        self.log_w = self._in_populations(log_h)
        self.log_h = log_h
        return x

    def step(self, x: Tensor, t: float) -> Tensor:
        """The particles at t from those before; after the last time samples drawn by their weights."""
        x = self._resampled(x, self._ess() < self.method.share * self.method.particles)
        plan, i = self.plans[self.i], self.i
        with uncounted():
            mean, after = self._moved(self.x0, x, plan, self.state, torch.zeros_like)
            zero, state = x[:1] * 0, tree_map_only(Tensor, lambda v: v[:1] * 0, self.state)
            c = float(self._moved(zero, zero, plan, state, torch.ones_like)[0].flatten()[0])
        (alpha, sigma, _), (alpha_s, _, _) = (self.model.levels(time) for time in self.times[i : i + 2])
        shift = flat(self.x0_y - self.x0) * (c / sigma) ** 2 * (alpha**2 / alpha_s)  # c^2 grad log h
        own = x.reshape(-1, self.each, *x.shape[1:])
        z = self._normal("particles", i, own) if self.each > 1 else self._normal("solver", i, x)
        kick = c * z.reshape(x.shape)
        # log p - log q of mean + shift + kick, where |kick| is the same for both
        ratio = -(shift.double() * (shift.double() / 2 + flat(kick).double())).sum(1) / c**2
        x, self.state, self.i = mean + shift.reshape(x.shape) + kick, after, i + 1
        before = self.log_h
        if self.i < len(self.plans):
            self.x0, self.x0_y, self.log_h = self.method.guided(self.asked, x, t)
        else:
            left = flat(self.asked.left(self.asked.plain(x, t))).double()
            self.log_h = -0.5 * (left / self.asked.observation.sigma_y).square().sum(1)
        self.log_w = self.log_w + self._in_populations(ratio + self.log_h - before)
        return x if self.i < len(self.plans) else self._ended(x)

    def _moved(self, x0: Tensor, x: Tensor, plan: Any, state: Any, z: Any) -> Any:
        return self.solver.step(_Given(self.model, x0), x, plan, state, lambda k=0: z(x))

    def _normal(self, purpose: str, step: int, like: Tensor) -> Tensor:
        return self.noise.normal(purpose, step, like.shape, like.device, like.dtype)

    def _in_populations(self, values: Tensor) -> Tensor:
        return values.reshape(-1, self.method.particles)

    def _ess(self) -> Tensor:
        """Effective sample sizes (populations,), noted."""
        self.ess.append(1 / torch.softmax(self.log_w, 1).square().sum(1))
        return self.ess[-1]

    def _resampled(self, x: Tensor, which: Tensor) -> Tensor:
        """The particles with those of some populations drawn again by their weights."""
        if not which.any():
            return x
        kept = torch.arange(self.method.particles, device=x.device).expand_as(self.log_w)
        chosen = self._rows(torch.where(which[:, None], self._drawn(self.method.particles), kept))
        self.log_z = torch.where(which, self.log_z + self._mean(), self.log_z)
        self.log_w = torch.where(which[:, None], 0.0, self.log_w)
        self.x0, self.x0_y, self.log_h = self.x0[chosen], self.x0_y[chosen], self.log_h[chosen]
        self.state = tree_map_only(Tensor, lambda v: v[chosen], self.state)
        return x[chosen]

    def _drawn(self, count: int) -> Tensor:
        """Systematic draws by the weights: the numbers of `count` particles of each population."""
        first = torch.empty(len(self.log_w) * self.method.draws, 1)
        u = self.noise.normal("resample", self.i, first.shape, self.log_w.device, torch.float64)
        u = torch.special.ndtr(u.reshape(-1, self.method.draws)[:, :1])
        edges = torch.softmax(self.log_w, 1).cumsum(1)[:, :-1].contiguous()
        return torch.searchsorted(edges, (u + torch.arange(count, device=u.device)) / count, right=True)

    def _rows(self, chosen: Tensor) -> Tensor:
        first = torch.arange(len(chosen), device=chosen.device)[:, None] * self.method.particles
        return (first + chosen).flatten()

    def _mean(self) -> Tensor:
        return torch.logsumexp(self.log_w, 1) - math.log(self.method.particles)

    def _ended(self, x: Tensor) -> Tensor:
        self._ess()
        ess, y = torch.stack(self.ess), self.asked.y[0].numel()
        constant = y / 2 * math.log(2 * math.pi * self.asked.observation.sigma_y**2)
        if (seen := _WATCHED.get()) is not None:
            seen.append(Populations(self.times, ess, self.log_z + self._mean() - constant))
        if bool((ess < _COLLAPSED).any()):
            at = divmod(int(ess.argmin()), ess.shape[1])[0]
            note(
                f"warning: twisted: a population of {self.method.particles} particles collapsed to an effective "
                f"{float(ess.min()):.2g} at t = {self.times[at]:.3g}, so its samples are nearly one; raise "
                "posterior.particles or take more steps"
            )
        drawn = self._rows(self._drawn(self.method.draws))
        # carry shows the first of each sample's particles
        return x[drawn].repeat_interleave(self.each, 0)
