"""The contract of solvers, the one loop over fixed grids, and the rules that discretise the reverse SDE."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from scoresde.constraints import signature
from scoresde.described import Rebuildable
from scoresde.dynamics import Eta, eta_at, reverse_drift
from scoresde.errors import InputError, require
from scoresde.model import Model, States
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.grid import Grid, LambdaUniform, Terminal, falling
from scoresde.sde import SDE

Path = Iterator[tuple[float, Tensor]]
Draw = Callable[..., Tensor]  # draw(k=0): the k-th standard normal tensor of a step, of the shape of x


class NoiseSource(Protocol):
    """What a solver sees of randomness: see `scoresde.noise.Noise`."""

    def normal(
        self, purpose: str, step: int, shape: Sequence[int], device: torch.device | str, dtype: torch.dtype
    ) -> Tensor:
        """Standard normal numbers as a function of (purpose, step)."""


class Step(NamedTuple):
    """The result of one step: the new x, and the state that the rule needs at the next one."""

    x: Tensor
    state: Any = None


def add(x: Tensor, c: Any, y: Tensor) -> Tensor:
    """x + c y, written into x if c is a number; a tensor c lets gradients through."""
    return x + c * y if isinstance(c, Tensor) else x.add_(y, alpha=c)


MOST_STEPS = 20_000  # of a solver that chooses its own


def check_tolerances(rtol: float, atol: float, x: Tensor) -> None:
    """Refuse tolerances so far below the rounding of x (B, *event) that steps would have to be as small."""
    least, wanted = torch.finfo(x.dtype).eps / 1000, rtol + atol / max(float(x.abs().max()), 1e-300)
    if wanted < least:
        raise InputError(
            f"rtol: {rtol:g} with atol={atol:g} is not allowed; {x.dtype} cannot hold it: give at least {least:.0e}, "
            "or dtype=torch.float64"
        )


def accumulate(x: Tensor, weights: Sequence[Any], values: Sequence[Tensor]) -> Tensor:
    """x + sum of weights times values, written into x; weights of zero may have no value yet."""
    for c, y in zip(weights, values, strict=False):
        x = add(x, c, y) if c else x
    return x


class Solver(Rebuildable, ABC):
    """Carries x from times[0] to times[-1], from noise to data or from data to noise.

    A solver that adds noise has a field `eta`, see `scoresde.dynamics`; the others solve the probability-flow ODE.

    Attributes:
        takes_corrector: whether a corrector may act after each step; there is no place for it where the solver chooses
            its own steps.
        states: of the models that it takes, see `scoresde.Model`.
    """

    eta: Eta = 0.0
    takes_corrector: ClassVar[bool] = True
    states: ClassVar[States] = "gaussian"

    @property
    def called(self) -> str:
        """Its name in messages."""
        return type(self).__name__

    @property
    def order(self) -> int | None:
        """Order of the global error on the probability-flow ODE, from exact history; None where none is claimed.

        With noise it is that of the drift alone.
        """
        return None

    @property
    def evaluations(self) -> int:
        """Evaluations of the model in one step, for planning only: what is spent is counted at the model."""
        return 1

    @property
    def least_steps(self) -> int:
        """Smallest number of steps of a sampler with which the solver reaches its order."""
        return 1

    @property
    def adaptive(self) -> bool:
        """Whether the solver chooses its own steps, whatever the grid."""
        return False

    @property
    def bidirectional(self) -> bool:
        """Whether times may rise: true of the ODE, while a reverse SDE runs from noise to data only."""
        return self.eta == 0

    @property
    def extrapolates(self) -> bool:
        """Whether x0_hat may be extrapolated from the last two times: the path is smooth and the order above 1.

        The first evaluation of a step is then the one at the time where it begins.
        """
        return False

    @property
    def renoises(self) -> bool:
        """Whether a step takes x from a prediction alone, whose eps may then be that of another model than its x0."""
        return False

    @property
    def reaches_zero(self) -> bool:
        """Whether a rule that extrapolates does it itself, by a last step to time 0, which stands for noise zero."""
        return False

    def integrate(
        self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None = None
    ) -> Path:
        """Yield (t, x) after each step, at times[1], times[2], ...; times (N + 1,) float64, x (B, *event).

        Raises:
            InputError: times neither fall nor rise, or rise although the solver is not bidirectional.
        """
        if not falling(times) and not self.bidirectional:
            raise InputError(
                f"times: {self.called} runs from noise to data only, and these times rise; "
                "use a solver of the probability-flow ODE, such as heun, or eta=0"
            )
        return self.carry(model, times, x, noise, corrector) if len(times) > 1 else iter(())

    @abstractmethod
    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        """`integrate` for at least two times that the solver can follow."""

    def suited(self, model: Model) -> "Solver":
        """The solver for a model: itself.

        Raises:
            InputError: it is made for another kind of states.
        """
        model.check_part("solver", self)
        return self

    @property
    def default_grid(self) -> Grid:
        """The grid of a sampler that is given none."""
        return LambdaUniform()

    def check(self, corrector: Corrector | None) -> None:
        """Refuse a combination that cannot work, with the reason; called when a sampler is made."""
        if corrector is not None and not self.takes_corrector:
            takes = "takes its own steps and allows no corrector; use corrector=none"
            raise InputError(f"corrector: {self.called} {takes}")

    def check_levels(self, sde: SDE, times: Tensor, event_shape: Sequence[int] | None) -> None:
        """Refuse times (N,) between which the rule cannot step; called when a sampler places them."""

    def check_steps(self, steps: int) -> None:
        """Refuse a number of steps of a sampler below `least_steps`."""
        least, order = self.least_steps, f" of order {self.least_steps}" if self.order else ""
        require(steps >= least, "steps", steps, f"{self.called}{order} needs an integer >= {least}")

    def with_eta(self, eta: float) -> "Solver":
        """The same solver at another noise level; a solver of the ODE refuses eta > 0."""
        if "eta" in vars(self):
            fields = {name: getattr(self, name) for name in signature(type(self)).parameters}
            return type(self)(**{**fields, "eta": eta})
        if eta != 0:
            raise InputError(
                f"eta: {eta} is not possible with {self.called}, which solves the probability-flow ODE; "
                "use eta=0 or a stochastic solver"
            )
        return self


class GridSolver(Solver):
    """A rule for one step on a fixed grid: write `plan` and `step`, the loop is here.

    `plan` computes what depends on the times alone, before the loop, in float64 on the host; `step` applies it. A rule
    may call the model; it holds no state, prints nothing and takes its noise from `noise()`.
    """

    @abstractmethod
    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        """The coefficients of each of the N steps of times (N + 1,)."""

    @abstractmethod
    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Draw) -> Step:
        """One step; `state` is None at the first one, then what the step before returned."""

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        normal = partial(noise.normal, shape=x.shape, device=x.device, dtype=x.dtype)
        model.sde.remember(times)
        state = None
        fresh = (normal("corrector", k) for k in count()).__next__

        def draw(i: int, k: int = 0) -> Tensor:
            return normal(f"solver {k}" if k else "solver", i)

        for i, (t, plan) in enumerate(zip(times.tolist()[1:], self.plan(model.sde, times), strict=True)):
            x, state = self.step(model, x, plan, state, partial(draw, i))
            if corrector is not None:
                x = corrector.correct(model, x, t, fresh)
            yield t, x


@dataclass(frozen=True, repr=False)
class _StochasticRule(GridSolver):
    """A rule of order 1 with the noise level eta of `scoresde.dynamics` (1: reverse SDE, 0: no noise)."""

    eta: Eta = 1.0

    order = 1
    renoises = True
    default_grid = Terminal(low=0.1)  # see docs/howto/choosing-a-sampler.md

    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Draw) -> Step:
        """x <- a x + b eps_hat(x, t) + c z, with (t, a, b, c) from the plan."""
        t, a, b, c = plan
        x = model(x, t).combine(x=a, eps=b)
        return Step(x.add_(noise(), alpha=c) if c else x)


class EulerMaruyama(_StochasticRule):
    """Euler-Maruyama on dx = [f x - (1 + eta^2)/2 g^2 score] dt + eta g dw, backward in time.

    Strong order 1 here, since the noise is additive; with eta = 0 it is Euler's rule on the probability-flow ODE, in
    either direction. Song et al. 2021 (arXiv 2011.13456), section 4.1 and appendix D.

    Args:
        eta: noise level, 1 for the reverse SDE.
    """

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        t, dt = times[:-1], times.diff()
        a, b, c = reverse_drift(sde, t, self.eta)
        return torch.stack((t, 1 + a * dt, b * dt, c * (-dt).clamp(min=0).sqrt()), dim=1).tolist()


class ReverseDiffusion(_StochasticRule):
    """The reverse-diffusion sampler: the forward transition between two levels, run backward with the score.

        x_s = (2 - r) x_t + (1 + eta^2)/2 G^2 score + eta G z,   r = alpha_t / alpha_s,  G^2 = sigma_t^2 - r^2 sigma_s^2

    Song et al. 2021 (arXiv 2011.13456), eq. 46, stated for the transition x_t = r x_s + G z between any two levels
    s < t, so that it needs no table of betas and fits every SDE and grid. There is no such transition for s > t.

    Args:
        eta: noise level, 1 for the reverse SDE.
    """

    bidirectional = False

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        alpha, sigma = sde.alpha(times), sde.sigma(times)
        ratio = alpha[:-1] / alpha[1:]
        g2 = sigma[:-1] ** 2 - (ratio * sigma[1:]) ** 2
        eta = eta_at(self.eta, sde.lam(times[:-1]))
        b = -(1 + eta**2) / 2 * g2 / sigma[:-1]
        return torch.stack((times[:-1], 2 - ratio, b, eta * g2.sqrt()), dim=1).tolist()
