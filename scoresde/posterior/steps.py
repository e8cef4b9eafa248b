"""Methods that act between the steps of a solver, and the loop that lets them."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import ClassVar, cast

import torch
from torch import Tensor

from scoresde.constraints import Count, Positive
from scoresde.control import Wrapper
from scoresde.divergence.products import with_products
from scoresde.model import Model, S
from scoresde.nets.condition import Cond
from scoresde.posterior.base import Method, Posterior, posterior_in
from scoresde.prediction import Prediction
from scoresde.sampling import Corrector, Sampler, Solver
from scoresde.sampling.solver import NoiseSource, Path
from scoresde.sampling.wrappers import Around, Renamed

Then = Callable[[Tensor, float, Callable[[], Tensor]], Tensor]  # x at t, and normals, to x


class Loop(Method):
    """Base of methods that act between the steps of the solver: write `carry`, which runs them.

    Attributes:
        reaches_zero: whether it goes to time 0 itself, which stands for clean data, if there is no corrector.
    """

    reaches_zero: ClassVar[bool] = False

    @abstractmethod
    def carry(
        self, solver: Solver, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, then: Corrector | None
    ) -> Path:
        """Yield (t, x) at times[1], times[2], ...

        Args:
            solver: of the sampler.
            model: what it samples; `posterior_in` finds the observation.
            times: (N + 1,), float64, falling.
            x: (B, *event) at times[0].
            noise: random numbers of these samples.
            then: the corrector of the sampler.
        """

    def denoised(self, asked: Posterior, x: Tensor, t: float | Tensor, cond: Cond) -> Tensor:
        return asked.plain(x, t, cond)

    def solver(self, solver: Solver) -> Solver:
        """The solver of a sampler, as the method needs it."""
        return solver

    def suits(self, sampler: S) -> S:
        own = cast(Sampler, sampler)
        if isinstance(own.solver, Interleaved) and own.solver.method is self:
            return sampler
        other = copy.copy(own)
        other.solver = Interleaved(self.solver(own.solver), self)
        return cast(S, other)


@dataclass(frozen=True, repr=False)
class Interleaved(Around):
    """The steps of a solver with those of a method between them; they run from noise to data.

    Args:
        solver: whose steps they are.
        method: what acts between them.
    """

    solver: Solver
    method: Loop

    inner = property(attrgetter("solver"))
    extrapolates = reaches_zero = property(attrgetter("method.reaches_zero"))

    @property
    def called(self) -> str:
        return f"{self.inner.called} with {type(self.method).__name__}"

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        return self.method.carry(self.inner, model, times, x, noise, corrector)


class _Then(Corrector):
    """A corrector, and then something else."""

    def __init__(self, corrector: Corrector | None, then: Then) -> None:
        self._corrector, self._then, self.steps = corrector, then, 1

    def correct(self, model: Model, x: Tensor, t: float, noise: Callable[[], Tensor]) -> Tensor:
        x = x if self._corrector is None else self._corrector.correct(model, x, t, noise)
        return self._then(x, t, noise)


def after_each(
    solver: Solver, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None, then: Then
) -> Path:
    """Yield (t, x) of a solver, with `then` after each of its steps; one that takes its own stops at each time."""
    if solver.takes_corrector:
        return (yield from solver.integrate(model, times, x, noise, _Then(corrector, then)))
    for i in range(len(times) - 1):
        own = Renamed(noise, f"interval {i} ")
        normal = partial(own.normal, "then", 0, x.shape, x.device, x.dtype)
        for _, x in solver.integrate(model, times[i : i + 2], x, own):  # noqa: B007, B020 - where it ended
            pass
        t = float(times[i + 1])
        x = then(x, t, normal)
        yield t, x


@dataclass(frozen=True, repr=False)
class Replace(Loop):
    """Replacement: after each step what is seen of x is what was observed, at the noise of that step.

        x <- x + A^+ (alpha y + sigma A z - A x),   A^+ = A^T (A A^T)^-1,   z ~ N(0, I)

    The last step leaves y itself, and no noise in the rest. sigma_y is ignored. What is not seen hears of y too late,
    so samples are biased: for speed, not for posteriors.

    Samples are 38 (19 to 76) floors away at sigma_y = 0.05 and 25 (12 to 53) at 0.3 from the exact posterior of 8-D
    mixtures (benchmarks/posterior.py, 5 problems, n = 2,000, 95 %).

    Song et al. 2021 (arXiv 2011.13456), appendix I.2, for any A of full row rank.
    """

    def carry(
        self, solver: Solver, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, then: Corrector | None
    ) -> Path:
        return after_each(solver, model, times, x, noise, then, self.replaced(model))

    def denoised(self, asked: Posterior, x: Tensor, t: float | Tensor, cond: Cond) -> Tensor:
        x0 = asked.plain(x, t, cond)
        return x0 + inverted(asked, asked.left(x0))

    def replaced(self, model: Model) -> Then:
        """The step after each of the solver's."""
        asked = posterior_in(model)

        def then(x: Tensor, t: float, noise: Callable[[], Tensor]) -> Tensor:
            alpha, sigma, _ = asked.sde.at(t)
            wanted = alpha * asked.rows(x) + sigma * asked.observation(noise())
            return x + inverted(asked, wanted - asked.observation(x))

        return then


@dataclass(frozen=True, repr=False)
class RePaint(Replace):
    """Replacement with resampling: each stretch of `jump` steps is run `repeats` times, with noise added in between.

        x_t = (alpha_t / alpha_s) x_s + sqrt(sigma_t^2 - (alpha_t sigma_s / alpha_s)^2) z

    takes x back from the end s of a stretch to its beginning t, so that the rest meets what is seen again. It needs
    `repeats` times the evaluations. It is less biased than `Replace`, and not exact.

    Samples are 29 (15 to 59) floors away at sigma_y = 0.05 and 19 (7.0 to 50) at 0.3 from the exact posterior of
    8-D mixtures (benchmarks/posterior.py, 5 problems, n = 2,000, 95 %), with repeats = jump = 5.

    Args:
        repeats: r, how often each stretch is run.
        jump: j, its length in steps.

    Lugmayr et al. 2022 (arXiv 2201.09865), algorithm 1 and appendix B.
    """

    repeats: Count = 10
    jump: Count = 10

    def carry(
        self, solver: Solver, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, then: Corrector | None
    ) -> Path:
        replaced = self.replaced(model)
        for first in range(0, len(times) - 1, self.jump):
            stretch = times[first : first + self.jump + 1]
            for k in range(self.repeats):
                own = Renamed(noise, f"stretch {first} {k} ")
                if k:
                    x = _back(model, x, stretch, own.normal("back", 0, x.shape, x.device, x.dtype))
                for t, x in after_each(solver, model, stretch, x, own, then, replaced):  # noqa: B020 - see `after_each`
                    yield t, x


def inverted(asked: Posterior, v: Tensor) -> Tensor:
    """A^+ v (B, *event) of v (B, *seen)."""
    return asked.observation.adjoint(asked.observation.solve(v, 1.0, 0.0))


def _back(model: Model, x: Tensor, times: Tensor, z: Tensor) -> Tensor:
    """x at times[-1], with noise up to times[0]."""
    high, low = model.sde.at(float(times[0])), model.sde.at(float(times[-1]))
    ratio = high.alpha / low.alpha
    return torch.add(x * ratio, z, alpha=max(high.sigma**2 - (ratio * low.sigma) ** 2, 0.0) ** 0.5)


@dataclass(frozen=True, repr=False)
class DPS(Loop):
    """Diffusion posterior sampling: after each step x moves against the gradient of the distance of D to y.

        x_s <- x_s - zeta d/dx_t |y - A(D(x_t))|

    with D at the first evaluation of the step, so there is one product for each step. The norm is that of each sample.
    The move does not shrink with the steps, nor does it know sigma_y: zeta has to be chosen for the data, their scale
    and the number of steps. Where D stands still the samples keep a distance from y of about zeta.

    Samples are 36 (18 to 75) floors away at sigma_y = 0.05 and 26 (12 to 55) at 0.3 for zeta = 0.1, 19 (6.5 to 56) and
    14 (4.2 to 45) for 0.3, and 12 (6.4 to 22) and 9.4 (5.6 to 16) for 1, from the exact posterior of 8-D mixtures
    (benchmarks/posterior.py, 5 problems, n = 2,000, 95 %).

    Args:
        zeta: length of a move, in units of x.

    Chung et al. 2022 (arXiv 2209.14687), algorithm 1 with the step of its code; zeta = 0.1 to 1 on images of [-1, 1].
    """

    zeta: Positive = 1.0

    linear, differentiates = False, True

    def carry(
        self, solver: Solver, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, then: Corrector | None
    ) -> Path:
        watched = _Slopes(model)

        def move(x: Tensor, t: float, noise: Callable[[], Tensor]) -> Tensor:
            slope, watched.slope = watched.slope, None
            return x if slope is None else x - self.zeta * slope

        return after_each(solver, watched, times, x, noise, then, move)


class _Slopes(Wrapper):
    """A model that keeps d/dx |y - A(D(x))|, (B, *event), of the first evaluation since it was last taken."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.slope: Tensor | None = None

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        if self.slope is not None:
            return self.model(x, t, cond)
        asked = posterior_in(self.model)
        x0, product = with_products(lambda z: self.model(z, t, cond).x0, x, "posterior")
        self.slope = product(pull(asked, x0)[None])[0]
        return Prediction.of(x, self.sde, t, x0=x0)


def pull(asked: Posterior, x0: Tensor) -> Tensor:
    """The gradient of |y - A(x0)| of each sample (B, *event); 0 where nothing is left."""
    with torch.enable_grad():
        at = x0.clone().requires_grad_()
        lengths = asked.left(at).flatten(1).square().sum(1)
        slope = torch.autograd.grad(lengths.sum(), at)[0]
    return slope / (2 * lengths.detach().sqrt().clamp(min=1e-30)).reshape(-1, *(1,) * (x0.ndim - 1))
