"""Order of convergence of every deterministic solver on every SDE, against scipy's solution of the exact flow."""

import numpy as np
import pytest
import torch
from support import PATHS, SOLVERS, exact_flow, exact_model, sde_named, solver_named

from scoresde import InputError, Sampler
from scoresde.noise import Noise
from scoresde.sampling import DDIM, ExponentialMultistep, GridSolver, Heun, LambdaUniform, TorchDiffEq

FIRST, LAST = -2.0, 1.5  # interval of lam, inside the range of every SDE of conf/

# order with exact history; what a fresh start allows is 2 for all multistep rules, since one first step costs O(h^2)
ORDER = {
    "euler_maruyama": 1,
    "reverse_diffusion": 1,
    "ancestral": 1,
    "ddim": 1,
    "dpmpp_2m": 2,
    "heun": 2,
}


def start(n=8):
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return z


def on_ode(name):
    """The solver of the YAML file, with its noise turned off."""
    return solver_named(name).with_eta(0.0)


def error(solver, model, steps, history):
    """RMS error at LAST; with history, the step before FIRST starts from the exact flow and only its state is kept."""
    sde, h = model.sde, (LAST - FIRST) / steps
    before = FIRST - h if history else FIRST
    lams = torch.linspace(before, LAST, steps + (2 if history else 1), dtype=torch.float64)
    # the scale of the path at FIRST, whatever the SDE
    first = sde.at(float(sde.t_of_lam(before)))
    x = start() * (first.alpha**2 + first.sigma**2) ** 0.5
    exact = exact_flow(model, x, torch.stack((lams[0], lams[1], lams[-1])))
    state = None
    for i, plan in enumerate(solver.plan(sde, sde.t_of_lam(lams))):
        x, state = solver.step(model, x, plan, state, lambda: pytest.fail("an ODE rule asked for noise"))
        if history and i == 0:
            x = exact[1]
    return float((x - exact[-1]).square().mean().sqrt())


def slope(solver, model, steps, history=True):
    errors = [error(solver, model, n, history) for n in steps]
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def test_every_solver_is_listed():
    grid_solvers = {name for name in SOLVERS if isinstance(solver_named(name), GridSolver)}
    assert grid_solvers == set(ORDER)


@pytest.mark.parametrize("sde", PATHS)
@pytest.mark.parametrize("name", ORDER)
def test_order(name, sde):
    measured = -slope(on_ode(name), exact_model(sde_named(sde)), steps=(80, 160, 320))
    assert measured == pytest.approx(ORDER[name], abs=0.12)


@pytest.mark.parametrize("sde", PATHS)
@pytest.mark.parametrize("name", ORDER)
def test_order_from_a_fresh_start(name, sde):
    measured = -slope(on_ode(name), exact_model(sde_named(sde)), steps=(80, 160, 320), history=False)
    assert measured == pytest.approx(min(ORDER[name], 2), abs=0.2)


@pytest.mark.parametrize("sde", PATHS)
@pytest.mark.parametrize("name", ORDER)
def test_limit_is_the_exact_flow(name, sde):
    """Richardson's extrapolation removes the leading error, so a wrong coefficient has nowhere to hide."""
    model, solver, order = exact_model(sde_named(sde)), on_ode(name), ORDER[name]
    coarse, fine = (error(solver, model, n, history=True) for n in (320, 640))
    assert abs(2**order * fine - coarse) < 0.05 * coarse
    assert fine < 0.02


@pytest.mark.parametrize("sde", PATHS)
def test_second_order_multistep_is_exact_for_linear_predictions(sde):
    """If x0_hat is linear in lam, order 2 with exact history makes no error, at eta 0 and 1, in a single step."""
    path = sde_named(sde)

    class Line(type(exact_model(path))):
        def forward(self, x, t, cond=None):
            from scoresde import Prediction

            level = self.sde.at(t)
            return Prediction(x, torch.full_like(x, 0.3 + 0.7 * level.lam), level.alpha, level.sigma, 0.0, 1.0)

    model = Line(exact_model(path).data, path)
    lams = torch.tensor([-2.0, -0.7, 0.9], dtype=torch.float64)
    times = path.t_of_lam(lams)
    for eta in (0.0, 1.0):
        solver = ExponentialMultistep(order=2, eta=eta)
        plans = solver.plan(path, times)
        x = start()
        _, state = solver.step(model, x, plans[0], None, lambda: torch.zeros_like(x))
        coarse = solver.step(model, x, plans[1], state, lambda: torch.zeros_like(x)).x
        # the mean of the linear equation, integrated by a fine rule of order 1 over the same interval
        fine_times = path.t_of_lam(torch.linspace(-0.7, 0.9, 4_001, dtype=torch.float64))
        fine, one = x, ExponentialMultistep(order=1, eta=eta)
        for plan in one.plan(path, fine_times):
            fine = one.step(model, fine, plan, None, lambda: torch.zeros_like(x)).x
        torch.testing.assert_close(coarse, fine, rtol=5e-4, atol=5e-4)


@pytest.mark.parametrize("sde", PATHS)
@pytest.mark.parametrize(("method", "order", "coarse"), [("euler", 1, 100), ("midpoint", 2, 100), ("rk4", 4, 20)])
def test_fixed_step_methods_of_torchdiffeq(sde, method, order, coarse):
    """They see our velocity field on our grid, and reach the order they have on any smooth field."""
    path = sde_named(sde)
    model, errors = exact_model(path), []
    lams = torch.tensor([FIRST, LAST], dtype=torch.float64)
    level = path.at(float(path.t_of_lam(FIRST)))
    x = start() * (level.alpha**2 + level.sigma**2) ** 0.5
    exact = exact_flow(model, x, lams)[-1]
    for steps in (coarse, 2 * coarse):
        times = path.t_of_lam(torch.linspace(FIRST, LAST, steps + 1, dtype=torch.float64))
        *_, (_, last) = TorchDiffEq(method).integrate(model, times, x, Noise(0))
        errors.append(float((last - exact).square().mean().sqrt()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("sde", PATHS)
def test_adaptive_black_box_is_as_exact_as_its_tolerance(sde):
    path = sde_named(sde)
    model, lams = exact_model(path), torch.tensor([FIRST, LAST], dtype=torch.float64)
    level = path.at(float(path.t_of_lam(FIRST)))
    x = start() * (level.alpha**2 + level.sigma**2) ** 0.5
    exact = exact_flow(model, x, lams)[-1]
    for method, tolerance in (("dopri5", 1e-5), ("dopri5", 1e-9), ("bosh3", 1e-5), ("dopri8", 1e-8)):
        solver = TorchDiffEq(method, rtol=tolerance, atol=tolerance)
        *_, (_, last) = solver.integrate(model, path.t_of_lam(lams), x, Noise(0))
        assert float((last - exact).abs().max()) < 100 * tolerance


def edm_algorithm_1(denoise, sigmas, x):
    """Karras et al. 2022 (arXiv 2206.00364), algorithm 1, written from the paper for sigma(t) = t."""
    for i in range(len(sigmas) - 1):
        d = (x - denoise(x, sigmas[i])) / sigmas[i]
        ahead = x + (sigmas[i + 1] - sigmas[i]) * d
        if sigmas[i + 1] != 0:
            d_ahead = (ahead - denoise(ahead, sigmas[i + 1])) / sigmas[i + 1]
            ahead = x + (sigmas[i + 1] - sigmas[i]) * (d + d_ahead) / 2
        x = ahead
    return x


def test_heun_on_edm_is_the_published_algorithm():
    from scoresde.sampling import Karras

    sde = sde_named("edm")
    model, sampler = exact_model(sde), Sampler(Heun(), Karras(), steps=10)
    ramp = torch.linspace(0, 1, 10, dtype=torch.float64)
    sigmas = (80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    x = 80 * start()
    expected = edm_algorithm_1(lambda x, s: model(x, float(s)).x0, [*sigmas.tolist(), 0.0], x)
    *_, (t, actual) = sampler.path(model, x, Noise(0))
    assert t == 0.0
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_ddim_is_the_same_flow_map_in_every_coordinate():
    """On VP and on VE, matched by log-SNR, DDIM draws the same samples up to the scale alpha."""
    z, results = start(), {}
    for name in PATHS:
        sde = sde_named(name)
        level = sde.at(float(sde.t_of_lam(FIRST)))
        times = sde.t_of_lam(torch.linspace(FIRST, LAST, 11, dtype=torch.float64))
        *_, (t, x) = DDIM().integrate(exact_model(sde), times, level.sigma * z, Noise(0))
        results[name] = x / sde.at(t).alpha
    for x in results.values():
        torch.testing.assert_close(x, results["vp"], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["heun", "torchdiffeq"])
def test_an_ode_rule_refuses_noise(name):
    with pytest.raises(InputError, match=r"eta: 0\.5 is not possible with"):
        Sampler(solver_named(name), LambdaUniform(), eta=0.5)
