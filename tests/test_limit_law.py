"""The law of every stochastic rule on Gaussian data, exactly.

With an exact Gaussian score every rule here is affine in its starting point and its noise. So one run in which each
random number in turn is one and all others are zero gives the mean and covariance of the result without sampling.
"""

import dataclasses

import pytest
import torch
from support import (
    CORRECTORS,
    PATHS,
    SOLVERS,
    built,
    exact_model,
    gaussian,
    gaussian_law,
    sde_named,
    solver_named,
    with_paths,
)

from scoresde import Sampler
from scoresde.sampling import (
    DDIM,
    Ancestral,
    Churn,
    EulerMaruyama,
    ExponentialRungeKutta,
    GridSolver,
    LambdaUniform,
    Restart,
    TimeUniform,
)

D = 2
GRID = {name: solver_named(name) for name in SOLVERS if isinstance(solver_named(name), GridSolver)}
STOCHASTIC = {name: {} for name, solver in GRID.items() if getattr(solver, "eta", 0) > 0}
CASES = {
    **STOCHASTIC,
    "euler_maruyama eta=0.5": {"eta": 0.5},
    "reverse_diffusion eta=0.5": {"eta": 0.5},
    "ancestral eta=2": {"eta": 2.0},
    "ddim eta=0.6": {"eta": 0.6},
    "ddim eta=1": {"eta": 1.0},
    "dpmpp_2m eta=1": {"eta": 1.0},
    "dpmpp_2m eta=0.5": {"eta": 0.5},
    "dpmpp_3m eta=1": {"eta": 1.0},
    "unipc_2 eta=1": {"eta": 1.0},
    "unipc_3 eta=0.5": {"eta": 0.5},
    "deis eta=1": {"eta": 1.0},
    "deis_log eta=0.5": {"eta": 0.5},
    "lms eta=1": {"eta": 1.0},
    "ipndm eta=1": {"eta": 1.0},
    "velocity_2 eta=1": {"eta": 1.0},
    "velocity_3 eta=0.5": {"eta": 0.5},
    "velocity_4 eta=1": {"eta": 1.0},
    "heun_churn": {},
    "dpm_solver_2 eta=1": {"eta": 1.0},
    "dpm_solver_3 eta=0.5": {"eta": 0.5},
    "dpmpp_2s eta=0.5": {"eta": 0.5},
    "dpmpp_3s eta=2": {"eta": 2.0},
    "etd4rk eta=1": {"eta": 1.0},
    "sde_dpmpp_3m v": {"predict": "v"},
    "sa_solver window": {"eta": {"_target_": "scoresde.dynamics.EtaWindow", "eta": 1.0, "lowest": 0.05, "highest": 1}},
}


# all others are rules in lam, the same map on every path (see test_order)
OF_TIME = [case for case in CASES if case.split()[0] in ("euler_maruyama", "reverse_diffusion")]


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


def law(model, sampler, from_exact=True):
    """Mean and covariance of what the sampler returns when it starts from the exact law of x_T."""
    mean, covariance = gaussian_law(model, model.sde.T)

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
    exact_mean, exact_covariance = gaussian_law(model, t)
    scale = torch.linalg.cholesky(exact_covariance)
    white = torch.linalg.solve_triangular(scale, (mean - exact_mean)[:, None], upper=False)
    inverse = torch.linalg.inv(scale)
    return torch.cat((white.ravel(), (inverse @ covariance @ inverse.T - torch.eye(D)).ravel()))


@pytest.mark.parametrize(("case", "sde"), with_paths(CASES, OF_TIME))
def test_law_converges_to_that_of_the_data(case, sde):
    model = exact_model(sde_named(sde), gaussian())
    solver = solver_named(case.split()[0], **CASES[case])
    coarse, fine = (
        distance(model, Sampler(solver, LambdaUniform(), steps=n, denoise=False), model.sde.t_min) for n in (400, 800)
    )
    assert fine.abs().max() < 0.6 * coarse.abs().max() + 1e-12
    # the leading error, of order 1/N, removed: what is left is of order 1/N^2; a coefficient wrong by 1 % leaves 0.01
    assert (2 * fine - coarse).abs().max() < 4e-3


@pytest.mark.parametrize(("name", "sde"), with_paths(STOCHASTIC, OF_TIME))
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


@pytest.mark.parametrize(
    ("solver", "corrector", "sde"),
    [(solver, "langevin", sde) for solver, sde in with_paths(STOCHASTIC, OF_TIME)]
    + [("ancestral", c, sde) for c, sde in with_paths(c for c in CORRECTORS if c != "langevin")],
)
def test_predictor_corrector_law(solver, corrector, sde):
    """With steps growing and those of the corrector shrinking together it leaves the law where it is."""
    model, errors = exact_model(sde_named(sde), gaussian()), []
    for n, snr in ((150, 0.1), (300, 0.1 / 2**0.5)):
        size = {"step": (2 * snr) ** 2} if corrector == "annealed_langevin" else {"snr": snr}
        chain = built("corrector", corrector, steps=2, **size)
        sampler = Sampler(solver_named(solver), LambdaUniform(), n, corrector=chain, denoise=False)
        errors.append(distance(model, sampler, model.sde.t_min))
    assert (2 * errors[1] - errors[0]).abs().max() < 5e-3
    assert errors[1].abs().max() < 0.6 * errors[0].abs().max() + 1e-3  # errors of two signs may cancel


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
        return Prediction.of(y, path, t, x0=torch.full_like(y, x0))

    times = torch.tensor([t, s], dtype=torch.float64)
    for solver in (Ancestral(), DDIM(eta=1.0)):
        plan = solver.plan(path, times)[0]
        y = torch.full((1, 1), x, dtype=torch.float64)
        still = solver.step(model, y, plan, None, lambda: torch.zeros(1, 1)).x.item()
        kicked = solver.step(model, y, plan, None, lambda: torch.ones(1, 1)).x.item()
        assert still == pytest.approx(mean, rel=1e-9)
        assert (kicked - still) ** 2 == pytest.approx(variance, rel=1e-9)


def test_every_stochastic_solver_is_covered():
    with_noise = {name for name, solver in GRID.items() if "eta" in vars(solver) or name == "heun_churn"}
    assert {case.split()[0] for case in CASES} == with_noise


@pytest.mark.parametrize("sde", ["vp", "ve"])
def test_restart_keeps_the_law(sde):
    """As the steps of the way and of the repetitions grow together, with the order 2 of Heun's rule."""
    model, errors = exact_model(sde_named(sde), gaussian()), []
    for n in (1, 2):
        part = {"lowest": 0.05, "highest": 0.2} if sde == "ve" else {}  # whose noise has a variance below 0.04
        sampler = Sampler(Restart(steps=12 * n, **part), LambdaUniform(), 120 * n, denoise=False)
        errors.append(distance(model, sampler, model.sde.t_min))
    assert errors[1].abs().max() < 0.35 * errors[0].abs().max()
    assert (4 * errors[1] - errors[0]).abs().max() < 1e-3


@pytest.mark.parametrize(
    "solver",
    [Churn(EulerMaruyama(), churn=5.0), Churn(ExponentialRungeKutta(eta=1.0), churn=5.0), Restart(EulerMaruyama())],
    ids=repr,
)
def test_noise_around_a_stochastic_rule_keeps_the_law(solver):
    """The numbers of the wrapper and of the rule are others: the same ones twice would add up to another variance."""
    model = exact_model(sde_named("vp"), gaussian())
    errors = []
    for n in (1, 2):
        solver = dataclasses.replace(solver, steps=40 * n) if isinstance(solver, Restart) else solver
        errors.append(distance(model, Sampler(solver, LambdaUniform(), 300 * n, denoise=False), model.sde.t_min))
    assert errors[1].abs().max() < 0.6 * errors[0].abs().max()
    assert (2 * errors[1] - errors[0]).abs().max() < 4e-3
