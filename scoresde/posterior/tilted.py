"""Exact guidance: weighted particles whose distribution at each level is the one that guidance names."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from scoresde._shapes import flat
from scoresde.constraints import Count, NonNegativeInt, ProperFraction
from scoresde.control import ClassifierFree, Guided, Wrapper
from scoresde.errors import refuse
from scoresde.model import Model, S
from scoresde.sampling import Corrector, Grid, Sampler, Solver, Terminal
from scoresde.sampling.solver import NoiseSource, Path

_ENOUGH = 0.5  # share of effective particles above which none is replaced


@dataclass(frozen=True, repr=False)
class Exact(ClassifierFree):
    """Guidance that samples p(x) p(c | x)^scale: particles follow its score at every level, and weights correct them.

        p_t(x) p_t(c | x)^w  for  w = scale:   x_s = (posterior of x_s given x_t and D) + std z,   r = sigma / alpha
        log W <- log W + w (w - 1) / 4 (|D_1 - D_0|^2 at t + |D_1 - D_0|^2 at s) (1 / r_s^2 - 1 / r_t^2)

    Each sample has particles of its own, so samples are independent and do not depend on the batch: one of its
    particles is drawn by their weights at the end. After each step, particles of which fewer than half are effective
    are resampled systematically, and each takes Langevin moves at its level (guidance as predictor and corrector is
    this without weights, which leaves the shares of separate modes wrong). It brings its own steps, on the grid of
    the sampler, in place of those of the solver; particles (1 + moves) times the evaluations of guidance. Exact as
    particles and steps grow.

    Args:
        particles: of a sample.
        moves: Langevin moves of a particle after each step.
        snr: of a move, see `scoresde.sampling.Langevin`.

    Raises:
        InputError: a corrector, an interval, or a chain of bits.

    M. Skreta et al., arXiv 2503.02819 (weights); A. Bradley and P. Nakkiran, arXiv 2408.09000 (moves).
    """

    particles: Count = 16
    moves: NonNegativeInt = 2
    snr: ProperFraction = 0.3

    of_score = False

    def check(self, model: Model, interval: object) -> None:
        model.needs_gaussian("guidance_method=exact")
        wanted = "names no distribution with guidance_method=exact; leave it out"
        refuse(interval is not None, f"guidance_interval: {interval} {wanted}")

    def suits(self, sampler: S) -> S:
        own = cast(Sampler, sampler)
        refuse(own.corrector is not None, "corrector: guidance_method=exact has moves of its own; give corrector=none")
        other = copy.copy(own)
        other.solver = own.solver if isinstance(own.solver, _Particles) else _Particles(self)
        other.grid = other.solver.default_grid if own._usual_grid else own.grid
        return cast(S, other)


@dataclass(frozen=True, repr=False)
class _Particles(Solver):
    """The steps of `Exact`, from noise to data."""

    method: Exact

    bidirectional = False

    @property
    def default_grid(self) -> Grid:
        return Terminal(low=0.1)

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        cloud = _Cloud(self.method, _guided_in(model), x, float(times[0]), noise)
        last = len(times) - 2
        for i, s in enumerate(times.tolist()[1:]):
            cloud.step(i, s)
            cloud.move(i, evaluate=i < last)
            yield s, cloud.drawn() if i == last else cloud.x.reshape(len(x), -1, *x.shape[1:])[:, 0]


class _Cloud:
    """The particles of B samples, one after the other (B P, *event), with log weights (B, P)."""

    def __init__(self, method: Exact, guided: Guided, x: Tensor, t: float, noise: NoiseSource) -> None:
        self.method, self.sde, self.noise, self.t, self.size = method, guided.sde, noise, t, len(x)
        rows = torch.arange(len(x), device=x.device).repeat_interleave(method.particles)
        self.model, self.x = guided.of_samples(rows), x[rows]
        if t >= guided.sde.t_start:
            self.x = guided.prior(self._normal("prior", 0))
        self.log_weights = torch.zeros(len(x), method.particles, dtype=torch.float64, device=x.device)
        self._evaluate()

    def _normal(self, purpose: str, i: int) -> Tensor:
        shape = (self.size, self.method.particles, *self.x.shape[1:])
        return self.noise.normal(f"particles {purpose}", i, shape, self.x.device, self.x.dtype).flatten(0, 1)

    def _uniform(self, purpose: str, i: int) -> Tensor:
        device = self.x.device
        z = self.noise.normal(f"particles {purpose}", i, (self.size, 1), device, torch.float64)
        u: Tensor = torch.special.ndtr(z)
        return u

    def _evaluate(self) -> None:
        strong, weak = self.model.pair(self.x, self.t, None)
        self.x0, apart = self.method(strong, weak, self.model.scale).x0, strong.x0 - weak.x0
        self.apart = flat(apart).double().square().sum(1).reshape(self.size, -1)

    def step(self, i: int, s: float) -> None:
        """From t to s: the posterior of two levels, then weights."""
        here, there, before = self.sde.at(self.t), self.sde.at(s), self.apart
        shrink = math.exp(2 * (here.lam - there.lam))
        std = there.sigma * math.sqrt(1 - shrink)
        mean = self.x * (there.alpha / here.alpha * shrink) + self.x0 * (there.alpha * (1 - shrink))
        self.x, self.t = mean + std * self._normal("step", i), s
        self._evaluate()
        w, grown = self.model.scale, math.exp(2 * there.lam) - math.exp(2 * here.lam)
        self.log_weights = self.log_weights + w * (w - 1) / 4 * (before + self.apart) * grown
        self._resample(i)

    def _resample(self, i: int) -> None:
        weights, n = torch.softmax(self.log_weights, 1), self.method.particles
        poor = (1 / weights.square().sum(1) < _ENOUGH * n)[:, None]
        u = self._uniform("resample", i)
        own = torch.arange(n, device=u.device)
        chosen = torch.searchsorted(weights.cumsum(1), (own + u) / n).clamp(max=n - 1)
        rows = (torch.where(poor, chosen, own) + n * torch.arange(self.size, device=u.device)[:, None]).flatten()
        self.log_weights = torch.where(poor, 0.0, self.log_weights)
        self.x, self.x0, self.apart = self.x[rows], self.x0[rows], self.apart.flatten()[rows].reshape(self.size, -1)

    def move(self, i: int, evaluate: bool) -> None:
        """The Langevin moves of a level; `evaluate` after the last one."""
        level, size = self.sde.at(self.t), 2 * self.method.snr
        for k in range(self.method.moves):
            eps = (self.x - level.alpha * self.x0) / level.sigma
            z = self._normal(f"move {k}", i)
            self.x = self.x + size * level.sigma * (z - self.method.snr * eps)
            if evaluate or k + 1 < self.method.moves:
                self._evaluate()

    def drawn(self) -> Tensor:
        """A particle of each sample, by the weights."""
        weights = torch.softmax(self.log_weights, 1)
        k = torch.searchsorted(weights.cumsum(1), self._uniform("end", 0)).clamp(max=self.method.particles - 1)[:, 0]
        return self.x[k + self.method.particles * torch.arange(self.size, device=k.device)]


def _guided_in(model: Model) -> Guided:
    """The guided model within wrappers."""
    while not isinstance(model, Guided):
        assert isinstance(model, Wrapper)
        model = model.model
    return model
