"""What is known of a sampler before a network is asked: the variance of Gaussian data, and what is said of it."""

import math
import re

import pytest
import torch
from support import SOLVERS, exact_model, sde_named, solver_named
from test_infinite_noise import Exploding

from scoresde import EDMSDE, VESDE, VPSDE, GaussianMixture, Sampler, count_evaluations
from scoresde.sampling import (
    DDIM,
    Ancestral,
    DPMSolverPP2M,
    EulerMaruyama,
    ExponentialMultistep,
    Heun,
    LambdaUniform,
    Restart,
    TimeUniform,
)
from scoresde.sampling.foresight import caution, variance


@pytest.mark.parametrize("std", [1.0, 0.3])
def test_variance_after_one_step_of_ddim_by_hand(std):
    """x_0 = a x_t + b x_T, two linear maps; and the prediction at t_min."""
    sde, gains = VPSDE(), []
    for t in (sde.T, sde.t_min):
        alpha, sigma, _ = sde.at(t)
        gains.append((alpha * std**2 / (alpha**2 * std**2 + sigma**2), alpha, sigma))
    (first, alpha, sigma), (last, alpha_s, sigma_s) = gains
    moved = alpha_s * first + sigma_s * (1 - alpha * first) / sigma
    expected = (last * moved * sde.prior_std / std) ** 2
    assert variance(Sampler(DDIM(), LambdaUniform(), 2), sde, std) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sampler", [Sampler(Ancestral(), steps=5), Sampler(Restart(steps=2), steps=8)], ids=repr)
def test_variance_is_that_of_samples(sampler):
    n = 40_000
    model = exact_model(sde_named("vp"), GaussianMixture([1.0], [[0.0]], [[[1.0]]]))
    x = sampler.sample(model, n=n, batch_size=n, dtype=torch.float64).x
    assert float(x.var()) == pytest.approx(variance(sampler, model.sde), rel=5 * math.sqrt(2 / n))


def test_every_rule_on_a_fixed_grid_is_seen_through():
    for name in SOLVERS:
        solver = solver_named(name)
        if not solver.adaptive:
            near = 0.2 if name == "annealed_langevin" else 0.12  # whose steps are large, as published
            assert variance(Sampler(solver, steps=100), VPSDE()) == pytest.approx(1, abs=near), name
            assert caution(Sampler(solver, steps=100), VPSDE()) == ""


@pytest.mark.parametrize(
    ("sampler", "sde", "words"),
    [
        (Sampler(EulerMaruyama(), TimeUniform(), 50), Exploding(), "EulerMaruyama on TimeUniform .* use grid=lambda"),
        (Sampler(DPMSolverPP2M(), TimeUniform(), 50), EDMSDE(), r"2M on TimeUniform .* 0\.27 times .* use grid=noise_"),
        (Sampler(Heun(), steps=3), VESDE(), "3 steps of Heun"),
        (Sampler(Restart(), steps=2), VPSDE(), "2 steps of Restart .* more steps"),
    ],
)
def test_steps_that_cannot_work_are_said_once_with_a_grid_that_can(sampler, sde, words, capsys):
    with count_evaluations() as spent:
        for own in (sampler, Sampler(sampler.solver, sampler.grid, sampler.steps)):  # which is equal
            drawn = own.sample(exact_model(sde), n=4)
    assert spent.samples == 8 * drawn.nfe  # what foresees is not counted
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("warning: ")
    assert re.search(words, said)


@pytest.mark.parametrize(("weights", "k"), [("exact", 2 / 3), ("dpmpp", 1.0)])
def test_the_variance_of_second_order_with_noise_is_too_large_by_its_weights(weights, k):
    """By (4/3 - k) h^2 for a weight h - k h^2 of the slope: docs/howto/choosing-a-sampler.md."""
    sde, rule, n = VPSDE(), ExponentialMultistep(eta=1.0, weights=weights), 200
    found = variance(Sampler(rule, LambdaUniform(), n, denoise=False), sde) - 1
    assert found / (float(sde.lam(sde.t_min) - sde.lam(sde.T)) / n) ** 2 == pytest.approx(4 / 3 - k, rel=0.05)
