"""Churn and restart: what they are in a case that was published, and what they refuse. Their law: test_limit_law."""

import math

import pytest
import torch
from support import exact_model, sde_named

from scoresde import InputError, Sampler, count_evaluations
from scoresde.noise import Noise
from scoresde.sampling import Churn, DPMSolverPP2M, ExponentialRungeKutta, Heun, Karras, Restart


def test_churn_with_heun_is_the_published_algorithm():
    """Karras et al. 2022 (arXiv 2206.00364), algorithm 2, written from the paper for sigma(t) = t."""
    model, steps = exact_model(sde_named("edm")), 10
    times = Karras()(model.sde, steps)
    noise, low, high, churn, s_noise = Noise(4), 0.05, 20.0, 3.0, 1.007
    x = actual = 80 * torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for i, (t, s) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        gamma = min(churn / (steps - 1), math.sqrt(2) - 1) if low <= t <= high else 0.0
        hat = t + gamma * t
        if gamma:
            x = x + math.sqrt(hat**2 - t**2) * s_noise * noise.normal("solver", i, x.shape, "cpu", x.dtype)
        d = (x - model(x, hat).x0) / hat
        ahead = x + (s - hat) * d
        x = x + (s - hat) * (d + (ahead - model(ahead, s).x0) / s) / 2
    solver = Churn(Heun(), churn=churn, lowest=low, highest=high, noise=s_noise)
    *_, (_, actual) = solver.integrate(model, times, actual, noise)
    torch.testing.assert_close(actual, x, rtol=1e-9, atol=1e-9)


def test_restart_takes_part_of_the_way_again():
    """Evaluations: Heun's on the grid, twice the steps of each repetition, and the last one; levels as asked."""
    model = exact_model(sde_named("vp"))
    sampler = Sampler(Restart(Heun(), lowest=0.1, highest=0.5, times=3, steps=4), steps=20)
    x = torch.randn(2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with count_evaluations() as spent:
        ratios = [math.exp(-float(model.sde.lam(t))) for t, _ in sampler.path(model, x, Noise(0)) if t > 0]
    assert spent.samples / 2 == 2 * 19 + 3 * 2 * 4 + 1
    lowest = [i for i in range(len(ratios)) if ratios[i] == pytest.approx(0.1, rel=0.3)]
    assert len(lowest) >= 4  # arrived there once, and once more after each repetition


def test_without_an_interval_on_the_way_restart_is_its_solver():
    model = exact_model(sde_named("vp"))
    far = Sampler(Restart(Heun(), lowest=1e5, highest=1e6), steps=10).sample(model, (2,), 4).x
    assert torch.equal(far, Sampler(Heun(), steps=10).sample(model, (2,), 4).x)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Churn(DPMSolverPP2M()), "churn needs a one-step rule, .*DPMSolverPP2M"),
        (lambda: Churn(churn=-1.0), "churn: -1.0"),
        (lambda: Churn(lowest=3.0, highest=1.0), "lowest: 3.0"),
        (lambda: Churn(ExponentialRungeKutta(), noise=0.0), "noise: 0.0"),
        (lambda: Restart(lowest=0.5, highest=0.1), "highest: 0.1"),
        (lambda: Restart(times=0), "times: 0"),
        (lambda: Restart(DPMSolverPP2M(), steps=1), "steps: 1"),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError, match=text):
        make()
