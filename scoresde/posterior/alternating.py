"""Methods that alternate between the prior and the observation, from level to level."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.constraints import Count, NonNegativeInt, ProperFraction
from scoresde.errors import InputError
from scoresde.model import Model
from scoresde.named import name_of
from scoresde.posterior.base import Posterior, posterior_in
from scoresde.posterior.steps import Loop
from scoresde.posterior.tangent import Tangent
from scoresde.sampling import Corrector, Grid, LambdaUniform, Solver
from scoresde.sampling.last_step import clean
from scoresde.sampling.solver import NoiseSource, Path
from scoresde.sampling.wrappers import Renamed

Normal = Callable[[str, Tensor], Tensor]  # a purpose, and a tensor of the shape that is wanted


class _Alternating(Loop):
    """Base: x0 of x at a level, by a few steps of the solver; then x at the next level from x0 and y.

    Attributes:
        inner: evaluations from a level to clean data, of a solver that takes one in each step.
        sweeps: how often a level is visited.
    """

    inner: int
    sweeps: int = 1

    @abstractmethod
    def noised(self, asked: Posterior, x0: Tensor, s: float, normal: Normal) -> Tensor:
        """x / alpha at the noise s = sigma / alpha, from x0 (B, *event) and y."""

    def carry(
        self, solver: Solver, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, then: Corrector | None
    ) -> Path:
        asked, now = posterior_in(model), float(times[0])
        for i, t in enumerate(times.tolist()[1:]):
            level = model.sde.at(t)
            for k in range(self.sweeps):
                own = Renamed(noise, f"level {i} {k} ")
                x0 = cleaned(solver, model, x, now, own, then, self.inner)
                x, now = level.alpha * self.noised(asked, x0, level.sigma / level.alpha, normals(own)), t
            yield t, x


def normals(noise: NoiseSource) -> Normal:
    """Normal numbers by their purpose."""
    return lambda purpose, like: noise.normal(purpose, 0, like.shape, like.device, like.dtype)


def cleaned(
    solver: Solver,
    model: Model,
    x: Tensor,
    t: float,
    noise: NoiseSource,
    then: Corrector | None,
    evaluations: int,
    grid: Grid | None = None,
) -> Tensor:
    """x0 of x at t, by a solver that takes one evaluation in each step; equal in lambda without a grid."""
    down = evaluations > 1 and t > model.sde.t_min
    times = (grid or LambdaUniform())(model.sde, evaluations, t) if down else torch.tensor([t], dtype=torch.float64)
    for _, x in solver.integrate(model, times, x, noise, then):  # noqa: B007, B020 - the last one is wanted
        pass
    return clean(model, x, float(times[-1]), None, times)


@dataclass(frozen=True, repr=False)
class DAPS(_Alternating):
    """Decoupled annealing: x0_hat by the solver, Langevin steps to what y says, and noise of the next level.

        x0 <- x0 - h grad [|x0 - x0_hat|^2 / (2 s^2) + |y - A(x0)|^2 / (2 sigma_y^2)] + sqrt(2 h) z,   `langevin` times
        x / alpha <- x0 + s' z,   s = sigma / alpha

    with h = step / (1 / s^2 + |A|^2 / sigma_y^2), a share of the largest that is stable, in place of the published
    step, which is in the units of its data. x0 given x_t is taken as N(x0_hat, s^2 I), so samples are biased however
    many steps there are; `Gibbs` is not. Langevin steps evaluate no network. They move little where A is badly
    conditioned: what y hardly determines needs about (|A| / sigma_y)^2 s^2 / step of them.

    Samples are 41 (22 to 79) floors away at sigma_y = 0.05 and 34 (18 to 62) at 0.3 from the exact posterior of 8-D
    mixtures (benchmarks/posterior.py, 5 problems, n = 2,000, 95 %).

    Args:
        inner: evaluations for x0_hat.
        langevin: steps at each level.
        step: see above.

    Zhang et al. 2024 (arXiv 2407.01521), algorithm 1 and eq. 9; 5 and 100 were published.
    """

    inner: Count = 5
    langevin: NonNegativeInt = 100
    step: ProperFraction = 0.1

    linear, divides = False, True

    def noised(self, asked: Posterior, x0: Tensor, s: float, normal: Normal) -> Tensor:
        mean, noise2 = x0, asked.observation.sigma_y**2
        h = self.step / (1 / s**2 + largest(asked, x0) / noise2)
        for k in range(self.langevin):
            pull = Tangent(asked.observation, x0).adjoint(asked.left(x0)) / noise2 - (x0 - mean) / s**2
            x0 = x0 + h * pull + (2 * h) ** 0.5 * normal(f"langevin {k}", x0)
        return x0 + s * normal("noise", x0)


@dataclass(frozen=True, repr=False)
class Gibbs(_Alternating):
    """Split Gibbs sampling: x0 given z by the reverse SDE from the level s of z, and z given x0 and y exactly.

        p(x0, z | y) ~ p(x0) N(z; x0, s^2 I) N(y; A z, sigma_y^2 I),   s = sigma / alpha
        z = w + s^2 A^T (s^2 A A^T + sigma_y^2 I)^-1 (y - A w - sigma_y n),   w = x0 + s e,   e, n ~ N(0, I)

    At each level x0 has the distribution p(x0) N(y; A x0, sigma_y^2 I + s^2 A A^T), which tends to the posterior as s
    falls. It is exact in the limit of many steps, sweeps and inner evaluations. Between modes that are further apart
    than s it does not move, so their weights are those of the levels where it does.

    It needs a solver with noise: eta = 1 is taken where it is 0.

    Samples are 35 (16 to 75) floors away at sigma_y = 0.05 and 27 (11 to 62) at 0.3 from the exact posterior of 8-D
    mixtures (benchmarks/posterior.py, 5 problems, n = 2,000, 95 %); `Population` corrects that.

    Args:
        inner: evaluations from a level to clean data.
        sweeps: how often each level is visited.

    Wu et al. 2024 (arXiv 2405.18782), algorithm 1 and eq. 6.
    """

    inner: Count = 5
    sweeps: Count = 1

    def solver(self, solver: Solver) -> Solver:
        return with_noise(self, solver)

    def noised(self, asked: Posterior, x0: Tensor, s: float, normal: Normal) -> Tensor:
        return asked.pulled(x0, s**2) + spread(asked, x0, s, normal)


def with_noise(method: Loop, solver: Solver) -> Solver:
    """The solver, with eta = 1 where it is 0.

    Raises:
        InputError: it solves the probability-flow ODE only.
    """
    if solver.eta != 0:
        return solver
    try:
        return solver.with_eta(1.0)
    except InputError:
        own, wanted = name_of("posterior", method), "use auto, ancestral or sde_dpmpp_2m"
        why = f"{own} needs a solver of the reverse SDE, which {solver.called} is not"
        raise InputError(f"solver: {why}; {wanted}") from None


def spread(asked: Posterior, like: Tensor, s: float, normal: Normal) -> Tensor:
    """Draws from N(0, P), P = (A^T A / sigma_y^2 + I / s^2)^-1: a draw of N(0, s^2 I) given that A of it has noise."""
    observation = asked.observation
    w = s * normal("noise", like)
    left = observation(w)
    left = left + observation.sigma_y * normal("observation", left)
    return w - s**2 * observation.adjoint(observation.solve(left, s**2, observation.sigma_y**2))


def largest(asked: Posterior, x0: Tensor, steps: int = 20) -> float:
    """About the largest eigenvalue of A^T A: by the power method, at zero."""
    tangent = Tangent(asked.observation, torch.zeros_like(x0[:1]))
    v = torch.linspace(1.0, 2.0, x0[0].numel()).to(x0).reshape(x0[:1].shape)
    for _ in range(steps):
        v = tangent.adjoint(tangent(v / v.norm().clamp(min=1e-30)))
    return float(v.norm())
