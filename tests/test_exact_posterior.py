"""Posteriors in closed form against Bayes' rule, quadrature, scipy, and one another."""

import itertools

import pytest
import torch
from scipy import stats
from support import PATHS, gaussian, mixture, sde_named

from scoresde import ExactModel, GaussianMixture, InputError
from scoresde.analytic import FiniteData
from scoresde.comparison.problems import Mixture

A, Y, SIGMA = torch.tensor([[0.8, -0.6]]).double(), torch.tensor([0.4]).double(), 0.3


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def log_likelihood(x, matrix, y, sigma_y):
    return torch.from_numpy(stats.norm.logpdf(y.numpy(), (x @ matrix.T).numpy(), sigma_y).sum(-1))


@pytest.mark.parametrize(("dimension", "seen"), [(1, 1), (2, 1), (2, 3), (8, 3)])
def test_a_posterior_is_prior_times_likelihood_over_evidence(dimension, seen):
    prior = Mixture(dimension, 4).distribution
    matrix, y, x = drawn(seen, dimension, seed=1), drawn(seen, seed=2), 0.5 * drawn(40, dimension)
    found = prior.posterior(matrix, y, 0.4)
    bayes = prior.log_prob(x) + log_likelihood(x, matrix, y, 0.4) - prior.observed(matrix, 0.4).log_prob(y[None])
    torch.testing.assert_close(found.log_prob(x), bayes, rtol=1e-9, atol=1e-8)


def test_evidence_mean_and_covariance_are_those_of_quadrature():
    prior, side = mixture(), torch.linspace(-6, 6, 601, dtype=torch.float64)
    x = torch.cartesian_prod(side, side)
    joint = (prior.log_prob(x) + log_likelihood(x, A, Y, SIGMA)).exp()
    cell = float(side[1] - side[0]) ** 2  # the trapezoidal rule has no error for what vanishes at the ends
    evidence, found = joint.sum() * cell, prior.posterior(A, Y, SIGMA)
    torch.testing.assert_close(prior.observed(A, SIGMA).log_prob(Y[None]).exp(), evidence[None], rtol=1e-9, atol=0)
    mean = found.weights @ found.means
    torch.testing.assert_close(mean, joint @ x / joint.sum(), rtol=1e-9, atol=1e-12)
    draws, weights = found.sample(200_000), joint / joint.sum()
    covariance = (x - mean).T @ (weights[:, None] * (x - mean))
    error = 7 * float(covariance.amax()) / len(draws) ** 0.5
    torch.testing.assert_close(torch.cov(draws.T), covariance, rtol=0, atol=error)


@pytest.mark.parametrize("path", PATHS)
def test_the_conditional_denoiser_adds_the_gradient_of_the_log_likelihood(path):
    """D_y = D + s^2 grad log p(y | x_s): with p(y | x_t) from the mixture of x_0 given x_t."""
    sde, prior = sde_named(path), mixture()
    t = float(sde.t_of_lam(0.3))
    level, x = sde.at(t), drawn(3, 2)
    alpha, sigma = float(level.alpha), float(level.sigma)
    h, slopes = 1e-5, torch.zeros_like(x)
    for k, d, side in itertools.product(range(len(x)), range(2), (1, -1)):
        clean = prior.posterior(alpha * torch.eye(2), x[k] + side * h * torch.eye(2)[d], sigma)
        slopes[k, d] += side * clean.observed(A, SIGMA).log_prob(Y[None])[0] / (2 * h)
    plain = ExactModel(prior, sde)(x, t)
    found = ExactModel(prior.posterior(A, Y, SIGMA), sde)(x, t)
    torch.testing.assert_close(found.x0, plain.x0 + sigma**2 / alpha * slopes, rtol=1e-7, atol=1e-7)


def test_an_observation_of_everything_is_the_denoiser():
    prior, x = mixture(), drawn(5, 2)
    for row in x:
        found = prior.posterior(0.7 * torch.eye(2), row, 0.5)
        torch.testing.assert_close((found.weights @ found.means)[None], prior.posterior_mean(row[None], 0.7, 0.5))


def test_two_observations_in_turn_are_both_at_once():
    prior, matrix, y = Mixture(5, 3).distribution, drawn(3, 5), drawn(3)
    turn = prior.posterior(matrix[:1], y[:1], 0.2).posterior(matrix[1:], y[1:], 0.2)
    once = prior.posterior(matrix, y, 0.2)
    x = drawn(20, 5)
    torch.testing.assert_close(turn.log_prob(x), once.log_prob(x), rtol=1e-9, atol=1e-8)


def test_without_noise_the_posterior_lies_where_the_observation_holds():
    found = mixture().posterior(A, Y, 0.0)
    torch.testing.assert_close(found.sample(50) @ A.T, Y.expand(50, 1))
    near = mixture().posterior(A, Y, 1e-6)
    torch.testing.assert_close(found.weights @ found.means, near.weights @ near.means, rtol=0, atol=1e-9)


def test_a_weight_too_small_for_float64_leaves_the_others():
    prior = GaussianMixture([0.5, 0.5], [[-50.0], [50.0]], [[[0.1]], [[0.1]]])
    found = prior.posterior([[1.0]], [50.0], 0.1)
    assert found.weights[1] == 1
    alone = GaussianMixture([1.0], [[50.0]], [[[0.1]]]).posterior([[1.0]], [50.0], 0.1)
    means = [m.posterior_mean(torch.zeros(1, 1), 0.5, 10.0) for m in (found, alone)]
    torch.testing.assert_close(*means, rtol=1e-12, atol=0)


def test_points_are_weighted_as_gaussians_without_width():
    points, p = drawn(20, 3), torch.rand(20) + 0.1
    data, flat = FiniteData(points, p), GaussianMixture(p, points, torch.zeros(20, 3, 3))
    matrix, y, x = drawn(2, 3, seed=1), drawn(2, seed=2), drawn(9, 3)
    torch.testing.assert_close(data.posterior_mean(x, 0.8, 0.5), flat.posterior_mean(x, 0.8, 0.5))
    found, exact = data.posterior(matrix, y, 0.5), flat.posterior(matrix, y, 0.5)
    torch.testing.assert_close(found.weights, exact.weights)
    torch.testing.assert_close(exact.means, points)
    assert torch.equal(data.posterior(lambda x: x @ matrix.T, y, 0.5).weights, found.weights)
    assert torch.equal(found.component(x, 0.8, 0.5), exact.component(x, 0.8, 0.5))
    counts = torch.bincount(torch.cdist(found.sample(20_000), points).argmin(1), minlength=20).numpy()
    assert stats.chisquare(counts, 20_000 * found.weights.numpy()).pvalue > 1e-4


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mixture().posterior([[1.0]], Y, 0.1), r"matrix: \(1, 1\) .* give \(M, 2\)"),
        (lambda: mixture().posterior(A, [1.0, 2.0], 0.1), r"y: \(2,\) .* \(1,\)"),
        (lambda: mixture().posterior(A, Y, -0.1), "sigma_y: -0.1"),
        (lambda: gaussian().posterior([[1.0, 0.0], [2.0, 0.0]], [1.0, 2.0], 0.0), "sigma_y: 0.0 .* larger"),
        (lambda: FiniteData(torch.zeros(3, 2)).posterior(A, Y, 0.0), "sigma_y: 0.0"),
        (lambda: FiniteData(torch.zeros(3, 2)).posterior(A, [1.0, 2.0], 0.1), r"y: \(2,\)"),
        (lambda: FiniteData(torch.zeros(3, 2), [1.0, 1.0]), r"weights: \(2,\) .* 3 numbers"),
        (lambda: FiniteData(torch.zeros(2, 2), [0.0, 0.0]), "weights"),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError, match=text):
        make()
