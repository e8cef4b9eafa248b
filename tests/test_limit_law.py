"""The law of every stochastic rule on Gaussian data, exactly.

With an exact Gaussian score every rule here is affine in its starting point and its noise. So one run in which each
random number in turn is one and all others are zero gives the mean and covariance of the result without sampling.
"""

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov
from support import PATHS, SOLVERS, exact_model, gaussian, sde_named, solver_named

from scoresde import InputError, Sampler
from scoresde.sampling import DDIM, Ancestral, GridSolver, LambdaUniform, Langevin, TimeUniform

D = 2
STOCHASTIC = {name: {} for name in SOLVERS if getattr(solver_named(name), "eta", 0) > 0}
CASES = {
    **STOCHASTIC,
    "euler_maruyama eta=0.5": {"eta": 0.5},
    "reverse_diffusion eta=0.5": {"eta": 0.5},
    "ancestral eta=2": {"eta": 2.0},
    "ddim eta=0.6": {"eta": 0.6},
    "ddim eta=1": {"eta": 1.0},
    "dpmpp_2m eta=1": {"eta": 1.0},
    "dpmpp_2m eta=0.5": {"eta": 0.5},
}


class UnitNoise:
    """In row r of the batch the r-th random number ever asked for is one, all others are zero; row 0 has none."""

    def __init__(self):
        self.asked = {}

    def normal(self, purpose, step, shape, device="cpu", dtype=torch.float64):
        first = self.asked.setdefault((purpose, step), 1 + D * len(self.asked))
        z = torch.zeros(shape, dtype=torch.float64)
        if first + D <= shape[0]:
            z[range(first, first + D), range(D)] = 1.0
        return z


def exact_law(model, t):
    level, data = model.sde.at(t), model.data
    covariance = data.axes[0] @ torch.diag(data.variances[0]) @ data.axes[0].T
    return level.alpha * data.means[0], level.alpha**2 * covariance + level.sigma**2 * torch.eye(D)


def law(model, sampler, from_exact=True):
    """Mean and covariance of what the sampler returns when it starts from the exact law of x_T."""
    mean, covariance = exact_law(model, model.sde.T)

    def run(rows):
        noise = UnitNoise()
        x = mean + noise.normal("prior", 0, (rows, D)) @ torch.linalg.cholesky(covariance).T
        with torch.no_grad():
            *_, (_, x) = sampler.path(model, x, noise)
        return x, 1 + D * len(noise.asked)

    rows = run(1)[1]
    x, _ = run(rows)
    jacobian = x[1:] - x[0]
    return x[0], jacobian.T @ jacobian


def distance(model, sampler, t):
    """Largest relative error of mean and covariance, with the sign kept so that errors can be extrapolated."""
    mean, covariance = law(model, sampler)
    exact_mean, exact_covariance = exact_law(model, t)
    scale = torch.linalg.cholesky(exact_covariance)
    white = torch.linalg.solve_triangular(scale, (mean - exact_mean)[:, None], upper=False)
    inverse = torch.linalg.inv(scale)
    return torch.cat((white.ravel(), (inverse @ covariance @ inverse.T - torch.eye(D)).ravel()))


@pytest.mark.parametrize("sde", PATHS)
@pytest.mark.parametrize("case", CASES)
def test_law_converges_to_that_of_the_data(case, sde):
    model = exact_model(sde_named(sde), gaussian())
    solver = solver_named(case.split()[0], **CASES[case])
    coarse, fine = (
        distance(model, Sampler(solver, LambdaUniform(), steps=n, denoise=False), model.sde.t_min) for n in (400, 800)
    )
    assert fine.abs().max() < 0.6 * coarse.abs().max() + 1e-12
    # the leading error, of order 1/N, removed: what is left is of order 1/N^2; a coefficient wrong by 1 % leaves 0.01
    assert (2 * fine - coarse).abs().max() < 4e-3


@pytest.mark.parametrize("sde", PATHS)
@pytest.mark.parametrize("name", STOCHASTIC)
def test_law_on_a_grid_uniform_in_time(name, sde):
    """The law does not depend on the grid. EDM's time is sigma: uniform steps there are useless for any rule."""
    if sde == "edm":
        return
    model = exact_model(sde_named(sde), gaussian())
    coarse, fine = (
        distance(model, Sampler(solver_named(name), TimeUniform(), steps=n, denoise=False), model.sde.t_min)
        for n in (500, 1000)
    )
    assert (2 * fine - coarse).abs().max() < 2e-2
    assert fine.abs().max() < coarse.abs().max()


@pytest.mark.parametrize("sde", PATHS)
def test_second_order_beats_first_order_at_eta_1(sde):
    """SDE-DPM-Solver++(2M) has the smaller constant: the drift is of order 2, the noise is exact."""
    model = exact_model(sde_named(sde), gaussian())

    def size(name):
        sampler = Sampler(solver_named(name, eta=1.0), LambdaUniform(), steps=100, denoise=False)
        return distance(model, sampler, model.sde.t_min).abs().max()

    assert size("dpmpp_2m") < 0.25 * size("ancestral")


@pytest.mark.parametrize("sde", PATHS)
@pytest.mark.parametrize("solver", STOCHASTIC)
def test_predictor_corrector_law(solver, sde):
    """With steps growing and snr shrinking together the corrector leaves the law where it is."""
    model, errors = exact_model(sde_named(sde), gaussian()), []
    for n, snr in ((150, 0.1), (300, 0.1 / 2**0.5)):
        corrector = Langevin(snr=snr, steps=2)
        sampler = Sampler(solver_named(solver), LambdaUniform(), n, corrector=corrector, denoise=False)
        errors.append(distance(model, sampler, model.sde.t_min))
    assert (2 * errors[1] - errors[0]).abs().max() < 5e-3
    assert errors[1].abs().max() < 0.6 * errors[0].abs().max()


@pytest.mark.parametrize("sde", PATHS)
@pytest.mark.parametrize("lam", [-1.0, 0.5, 3.0])
def test_stationary_law_of_langevin(sde, lam):
    """One step is x -> A x + b + C z; its fixed point tends to p_t as snr^2 -> 0."""
    model, errors = exact_model(sde_named(sde), gaussian()), []
    t = float(model.sde.t_of_lam(lam))
    exact_mean, exact_covariance = (a.numpy() for a in exact_law(model, t))
    for snr in (0.1, 0.1 / 2**0.5):
        step, zero = Langevin(snr=snr).step, torch.zeros(3, D, dtype=torch.float64)
        x = zero.clone()
        x[1:] = torch.eye(D)
        with torch.no_grad():
            b = step(model, zero, t, zero).numpy()[0]
            a = (step(model, x, t, zero).numpy()[1:] - b).T
            c = (step(model, zero, t, x).numpy()[1:] - b).T
        mean = np.linalg.solve(np.eye(D) - a, b)
        covariance = solve_discrete_lyapunov(a, c @ c.T)
        np.testing.assert_allclose(mean, exact_mean, rtol=1e-6, atol=1e-8)
        errors.append(np.abs(covariance - exact_covariance).max() / exact_covariance.max())
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.05)
    assert abs(2 * errors[1] - errors[0]) < 2e-4


def test_norm_rule_has_no_limit_in_few_dimensions_and_is_refused():
    model = exact_model(sde_named("vp"), gaussian())
    with pytest.raises(InputError, match="at least 64"):
        Langevin(rule="norm").step(model, torch.ones(3, 2), 0.5, torch.ones(3, 2))


def test_norm_rule_steps_as_published():
    """The step is e score + sqrt(2 e) z with sqrt(e/2) = snr |z| / |score|, sample by sample."""
    d, snr = 64, 0.16
    model = exact_model(sde_named("vp"), type(gaussian())([1.0], torch.zeros(1, d), torch.eye(d)[None]))
    x, z = (torch.randn(5, d, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (0, 1))
    step = Langevin(snr=snr, rule="norm").step
    drift = step(model, x, 0.5, 1e-300 * z) - x  # vanishing noise makes a vanishing step
    assert drift.norm() == 0
    score = model(x, 0.5).score
    moved = step(model, x, 0.5, z) - x
    # the part along neither z nor score is zero; solve for the two factors of each sample
    for k in range(5):
        basis = torch.stack((score[k], z[k]), dim=1)
        (e, noise), *_ = torch.linalg.lstsq(basis, moved[k, :, None])[0].T.tolist()
        assert noise == pytest.approx((2 * e) ** 0.5, rel=1e-9)
        assert (e / 2) ** 0.5 == pytest.approx(snr * float(z[k].norm() / score[k].norm()), rel=1e-9)


@pytest.mark.parametrize("sde", PATHS)
def test_ancestral_step_is_the_posterior_of_two_levels(sde):
    """By conditioning the joint Gaussian of (x_s, x_t) given x_0 with plain linear algebra."""
    path = sde_named(sde)
    t, s = float(path.t_of_lam(-0.5)), float(path.t_of_lam(0.3))
    a, b = path.at(t), path.at(s)
    x0, x = 0.9, 0.4
    # x_t = (alpha_t/alpha_s) x_s + noise, so cov(x_s, x_t) = (alpha_t/alpha_s) sigma_s^2 given x_0
    cross = a.alpha / b.alpha * b.sigma**2
    mean = b.alpha * x0 + cross / a.sigma**2 * (x - a.alpha * x0)
    variance = b.sigma**2 - cross**2 / a.sigma**2
    from scoresde import Prediction

    def model(y, t):
        return Prediction(y, torch.full_like(y, x0), a.alpha, a.sigma, 0.0, 1.0)

    times = torch.tensor([t, s], dtype=torch.float64)
    for solver in (Ancestral(), DDIM(eta=1.0)):
        plan = solver.plan(path, times)[0]
        y = torch.full((1, 1), x, dtype=torch.float64)
        still = solver.step(model, y, plan, None, lambda: torch.zeros(1, 1)).x.item()
        kicked = solver.step(model, y, plan, None, lambda: torch.ones(1, 1)).x.item()
        assert still == pytest.approx(mean, rel=1e-9)
        assert (kicked - still) ** 2 == pytest.approx(variance, rel=1e-9)


def test_every_stochastic_solver_is_covered():
    grid = {n for n in SOLVERS if isinstance(solver_named(n), GridSolver)}
    with_eta = {n for n in grid if hasattr(solver_named(n), "eta")}
    assert {case.split()[0] for case in CASES} == with_eta
