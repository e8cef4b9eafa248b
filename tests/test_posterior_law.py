"""Methods that are exact on Gaussian data have the exact posterior there: mean and covariance propagated, not sampled.

A step is affine in x and in its noise, so a start for each axis and a unit number for each noise say all of a chain.
"""

import itertools
import math
from typing import Any

import pytest
import torch
from support import mixture, sde_named, solver_named
from torch import Tensor

from scoresde import EDMSDE, ExactModel, GaussianMixture, Model, Sampler
from scoresde.noise import Noise
from scoresde.observation import Projection
from scoresde.posterior import MMPS, PiGDM, Posterior, Twisted
from scoresde.posterior.twisted import _Walk
from scoresde.sampling import Ancestral, EulerMaruyama, LambdaUniform
from scoresde.sampling.solver import GridSolver

D, SIGMA, SD = 3, 0.3, 0.8
EYE = torch.eye(D, dtype=torch.float64)
Law = tuple[Tensor, Tensor]  # mean (D,) and covariance (D, D)


def normal(name: str, *shape: int) -> Tensor:
    return Noise(5).normal(name, 0, shape, dtype=torch.float64)


ROOT, MEAN, A, Y = normal("root", D, D), normal("mean", D), normal("A", 2, D), normal("y", 2)
COVARIANCE, ISOTROPIC = ROOT @ ROOT.T / D + 0.2 * EYE, SD**2 * EYE


def gaussian(mean: Tensor, covariance: Tensor) -> GaussianMixture:
    return GaussianMixture([1.0], mean[None], covariance[None])


def given_y(mean: Tensor, covariance: Tensor) -> Law:
    """Of a Gaussian, by the formula of two jointly Gaussian vectors."""
    seen = A @ covariance @ A.T + SIGMA**2 * torch.eye(2, dtype=torch.float64)
    gain = torch.linalg.solve(seen, A @ covariance).T
    return mean + gain @ (Y - A @ mean), covariance - gain @ A @ covariance


def asked(path: str, covariance: Tensor, method: MMPS | PiGDM | Twisted) -> Posterior:
    model = ExactModel(gaussian(MEAN, covariance), sde_named(path))
    return Posterior(model, Projection((D,), matrix=A, sigma_y=SIGMA), Y, method)


def apart(one: Law, other: Law) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("method", "path", "covariance"),
    [
        (MMPS(), "rectified", COVARIANCE),
        (MMPS(dense=0, tolerance=1e-12), "vp", COVARIANCE),
        (PiGDM(sigma_data=SD), "edm", ISOTROPIC),
    ],
    ids=["mmps", "mmps, iterated", "pigdm"],
)
def test_the_ode_carries_the_prior_to_the_posterior(method: Any, path: str, covariance: Tensor) -> None:
    model, wanted = asked(path, covariance, method), given_y(MEAN, covariance)
    level = model.sde.at(model.sde.t_start)
    root = torch.linalg.cholesky(level.alpha**2 * wanted[1] + level.sigma**2 * EYE)
    start = level.alpha * wanted[0] + torch.cat([0 * EYE[:1], root.T])
    ends = Sampler(solver_named("dopri5"), steps=50).sample(model, start=start).x
    moved = ends[1:] - ends[0]
    assert apart((ends[0], moved.T @ moved), wanted) < 1e-6


def chain(solver: GridSolver, model: Model, times: Tensor) -> Law:
    """Of the samples that a solver draws, the last step to clean data included."""
    points, law = torch.cat((0 * EYE[:1], EYE)), (0 * EYE[0], model.sde.prior_std**2 * EYE)

    def carried(ends: Tensor, std: float) -> Law:
        slope = (ends[1:] - ends[0]).T
        return slope @ law[0] + ends[0], slope @ law[1] @ slope.T + std**2 * EYE

    for plan in solver.plan(model.sde, times):
        still = solver.step(model, points, plan, None, lambda k=0: torch.zeros_like(points)).x
        moved = solver.step(model, points, plan, None, lambda k=0: torch.ones_like(points)).x
        law = carried(still, float((moved - still)[0, 0]))
    return carried(model(points, float(times[-1])).x0, 0.0)


def test_every_step_with_noise_is_that_of_the_exact_conditional_denoiser() -> None:
    model = asked("vp", COVARIANCE, MMPS())
    exact = ExactModel(gaussian(*given_y(MEAN, COVARIANCE)), model.sde)
    times = LambdaUniform()(model.sde, 20)
    assert apart(chain(Ancestral(), model, times), chain(Ancestral(), exact, times)) < 1e-10


def extrapolated(laws: list[Law]) -> Law:
    """Of steps that are halved each time, to none: their error has an expansion in powers of their length."""
    row, k = laws, 1
    while len(row) > 1:
        pairs = itertools.pairwise(row)
        row = [tuple(b + (b - a) / (2**k - 1) for a, b in zip(*pair, strict=True)) for pair in pairs]
        k += 1
    return row[0]


@pytest.mark.parametrize("guided", [True, False], ids=["mmps", "twisted"])
def test_with_the_steps_a_chain_tends_to_the_posterior(guided: bool) -> None:
    """Of the exact conditional denoiser, or of the prior and then given y, see the tests beside this one.

    By 100, 200, 400 and 800 steps, on a path so long that both of its ends leave less.
    """
    sde, wanted = EDMSDE(sigma_min=3e-4, sigma_max=2e3), given_y(MEAN, COVARIANCE)
    model = ExactModel(gaussian(*wanted) if guided else gaussian(MEAN, COVARIANCE), sde)
    laws = [chain(Ancestral(), model, LambdaUniform()(sde, steps)) for steps in (100, 200, 400, 800)]
    assert apart(extrapolated(laws if guided else [given_y(*law) for law in laws]), wanted) < 1e-6


class Given:
    """The start, and the noise of each step."""

    def __init__(self, z: Tensor) -> None:
        self.z = z  # (n, steps, D)

    def normal(self, purpose: str, step: int, shape: Any, device: Any = "cpu", dtype: Any = torch.float64) -> Tensor:
        return self.z[:, step] if purpose == "solver" else torch.zeros(shape, dtype=dtype)


def walked(twist: Any, solver: GridSolver, model: Posterior, times: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The clean end (n, D) and the log weight (n,) of particles with the normal numbers z (n, N + 1, D)."""
    walk = _Walk(Twisted(len(z), len(z), twist, 0.0), solver, model, times, Given(z[:, 1:]), 1)
    walk._ended = lambda x: x  # type: ignore[method-assign]  # before samples are drawn
    x = walk.started(model.sde.prior_std * z[:, 0])
    for t in times.tolist()[1:]:
        x = walk.step(x, t)
    return model.model(x, float(times[-1])).x0, walk.log_w.flatten()


def weighted(twist: Any, solver: GridSolver, model: Posterior, times: Tensor) -> tuple[Law, float]:
    """The law of particles by their weights, and the log of their mean weight.

    Of normal numbers z the particle is m + M z and the log weight c + b z + z C z / 2, all read from unit numbers and
    their pairs; so by its weight z is N((I - C)^-1 b, (I - C)^-1).
    """
    size = D * len(times)
    unit = torch.eye(size, dtype=torch.float64)
    pairs = list(itertools.combinations(range(size), 2))
    z = torch.cat((0 * unit[:1], unit, -unit, torch.stack([unit[i] + unit[j] for i, j in pairs])))
    x, log_w = walked(twist, solver, model, times, z.reshape(len(z), -1, D))
    c, plus, minus, both = log_w[0], log_w[1 : size + 1], log_w[size + 1 : 2 * size + 1], log_w[2 * size + 1 :]
    b, curved = (plus - minus) / 2, torch.diag_embed(plus + minus - 2 * c)
    for (i, j), value in zip(pairs, both, strict=True):
        curved[i, j] = curved[j, i] = value - plus[i] - plus[j] + c
    covariance = torch.linalg.inv(unit - curved)
    slope, mean = (x[1 : size + 1] - x[0]).T, covariance @ b
    constant = math.log(2 * math.pi * SIGMA**2)  # of N(y; A x, sigma_y^2 I), two values
    log_z = float(c + b @ mean / 2 + torch.logdet(covariance) / 2) - constant
    return (x[0] + slope @ mean, slope @ covariance @ slope.T), log_z


@pytest.mark.parametrize("twist", ["mmps", "pigdm"])
@pytest.mark.parametrize(("solver", "path"), [(Ancestral(), "vp"), (EulerMaruyama(), "edm")])
def test_weights_of_twisted_particles_are_those_of_the_posterior_of_their_chain(
    twist: Any, solver: GridSolver, path: str
) -> None:
    """At any number of steps, whatever guides them."""
    model = asked(path, COVARIANCE, Twisted(twist=twist))
    times = LambdaUniform()(model.sde, 8)
    law, log_z = weighted(twist, solver, model, times)
    plain = chain(solver, model.model, times)
    assert apart(law, given_y(*plain)) < 1e-8
    assert abs(log_z - float(gaussian(*plain).observed(A, SIGMA).log_prob(Y[None]))) < 1e-8


@pytest.mark.parametrize(("twist", "covariance"), [("mmps", COVARIANCE), ("pigdm", ISOTROPIC)])
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_a_twist_is_the_exact_likelihood_of_a_particle(twist: Any, covariance: Tensor, t: float) -> None:
    model, x = asked("vp", covariance, Twisted(twist=twist)), normal("x", 4, D)
    model.model.sigma_data = SD
    level, exact = model.sde.at(t), ExactModel(gaussian(*given_y(MEAN, covariance)), model.sde)
    x0, x0_y, log_h = model.method.guided(model, x, t)
    assert (x0 - model.model(x, t).x0).abs().max() < 1e-12
    assert (x0_y - exact(x, t).x0).abs().max() < 1e-10
    clean = [gaussian(MEAN, covariance).posterior(level.alpha * EYE, row, level.sigma) for row in x]
    wanted = torch.cat([one.observed(A, SIGMA).log_prob(Y[None]) for one in clean])
    assert (log_h - wanted - (log_h - wanted)[0]).abs().max() < 1e-10


def test_the_twist_of_a_mixture_is_a_normal_density_with_the_variance_of_its_denoiser() -> None:
    prior, x, t = ExactModel(mixture(), sde_named("vp"), variance=True), normal("x", 5, 2), 0.4
    model = Posterior(prior, Projection((2,), matrix=[[1.0, 0.0]], sigma_y=SIGMA), Y[:1], Twisted())
    clean = prior(x, t)
    _, _, log_h = model.method.guided(model, x, t)
    wanted = torch.distributions.Normal(clean.x0[:, 0], (clean.variance[:, 0] + SIGMA**2).sqrt()).log_prob(Y[0])
    assert (log_h - wanted - (log_h - wanted)[0]).abs().max() < 1e-10


def test_a_short_step_of_an_exact_twist_is_that_of_the_exact_conditional_denoiser() -> None:
    model, x = asked("vp", COVARIANCE, Twisted()), normal("x", 4, D)
    exact = ExactModel(gaussian(*given_y(MEAN, COVARIANCE)), model.sde)
    times, zero = torch.tensor([0.4, 0.4 - 1e-5], dtype=torch.float64), torch.zeros(4, 1, D, dtype=torch.float64)
    (plan,) = Ancestral().plan(model.sde, times)
    plain, wanted = (Ancestral().step(m, x, plan, None, lambda k=0: 0 * x).x for m in (model.model, exact))
    walk = _Walk(Twisted(4, 4), Ancestral(), model, times, Given(zero), 1)
    walk._ended = lambda x: x  # type: ignore[method-assign]  # before samples are drawn
    moved = walk.step(walk.started(x), float(times[1]))
    assert ((moved - plain) - (wanted - plain)).abs().max() < 1e-3 * (wanted - plain).abs().max()
