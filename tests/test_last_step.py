"""The last step to clean data: its order, its limits, and which solvers take it."""

import numpy as np
import pytest
import torch
from support import SOLVERS, exact_model, gaussian, mixture, sde_named, solver_named

from scoresde import ExactModel, Sampler
from scoresde.comparison.reference import endpoints
from scoresde.noise import Noise
from scoresde.sampling import DDIM, ExponentialMultistep, LambdaUniform, NoiseShareUniform, RungeKutta
from scoresde.sampling.last_step import clean

EXTRAPOLATING = [name for name in SOLVERS if solver_named(name).extrapolates]


def start(n=4):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def gaussian_flow(model, y, r):
    """x at sigma / alpha = r of the solution that ends in y: each principal axis is scaled by sqrt(1 + r^2 / s^2)."""
    data = model.data
    axes, mean = data.axes[0], data.means[0]
    scale = torch.sqrt(1 + r**2 / data.variances[0])
    return ((y - mean) @ axes * scale) @ axes.T + mean


@pytest.mark.parametrize("sde", ["vp", "ve", "rectified"])
def test_two_orders_more_than_the_plain_prediction(sde):
    model, y = exact_model(sde_named(sde), gaussian()), start()
    errors = []
    for r in (0.08, 0.04):
        times = model.sde.t_of_lam(-torch.log(torch.tensor([2 * r, r], dtype=torch.float64)))
        at = [model.sde.alpha(t) * gaussian_flow(model, y, q) for t, q in zip(times, (2 * r, r), strict=True)]
        before = model(at[0], float(times[0])).x0
        t = float(times[1])
        errors.append([float((clean(model, at[1], t, b, times) - y).norm()) for b in (None, before)])
    plain, extrapolated = np.log2(np.array(errors[0]) / errors[1])
    assert plain == pytest.approx(2, abs=0.1)
    assert extrapolated == pytest.approx(4, abs=0.1)


def test_it_is_exact_where_the_prediction_is_constant():
    """Near a data point with no other near, all noise has to go, and goes."""
    points = torch.tensor([[1.0, 0.0], [-1.0, 0.5]], dtype=torch.float64)
    model = ExactModel(points, sde_named("edm"))
    times = torch.tensor([0.02, 0.01], dtype=torch.float64)
    x = points + 0.01 * torch.tensor([[0.6, -0.8]], dtype=torch.float64)
    before = model(points + 0.02 * torch.tensor([[0.6, -0.8]], dtype=torch.float64), 0.02).x0
    torch.testing.assert_close(clean(model, x, 0.01, before, times), points, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def exact():
    """On VP: starts, where the ODE carries them at noise zero, and how far from there x0_hat at t_min is."""
    sde, z = sde_named("vp"), start(16)
    level, model = sde.at(sde.T), exact_model(sde)
    end = endpoints(mixture(), z / level.alpha, level.sigma / level.alpha, 1e-10)
    floors = []
    for steps in (100, 200):
        *_, (t, x) = Sampler(RungeKutta("rk4", "noise_share"), NoiseShareUniform(), steps, denoise=False).path(
            model, z, Noise(0)
        )
        floors.append(float((model(x, t).x0 - end).norm(dim=1).median()))
    assert floors[0] == pytest.approx(floors[1], rel=0.01)
    return z, end, floors[1]


def test_the_solvers_that_extrapolate():
    plain = {n for n in SOLVERS if n not in EXTRAPOLATING}
    assert {"ddim", "euler", "heun", "ancestral", "sde_dpmpp_2m", "seeds_3", "heun_churn", "restart"} <= plain
    assert {"auto", "dpmpp_2m", "unipc_3", "velocity_3", "rk4", "dpm_solver_2"} <= set(EXTRAPOLATING)
    assert not ExponentialMultistep(predictor=3, eta=0.5).extrapolates
    assert not ExponentialMultistep(predictor=3, ramp_down=True).extrapolates


@pytest.mark.parametrize("name", EXTRAPOLATING)
def test_samplers_go_below_the_error_of_the_plain_prediction(name, exact):
    z, end, floor = exact
    sampler = Sampler(solver_named(name), LambdaUniform(), 400)
    *_, (_, x) = sampler.path(exact_model(sde_named("vp")), z, Noise(0))
    assert float((x - end).norm(dim=1).median()) < 0.5 * floor


def test_a_denoiser_alone_is_the_last_step_of_order_one():
    """DDIM and Euler's rule stay the published ones: x0_hat at t_min is what they give."""
    model, z = exact_model(sde_named("vp")), start()
    for solver in (DDIM(), RungeKutta("euler")):
        *_, (t, x), (_, end) = Sampler(solver, steps=9).path(model, z, Noise(0))
        assert torch.equal(end, model(x, t).x0)
