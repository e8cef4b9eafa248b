"""Exact scores against autograd, scipy, quadrature, and one another."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from support import SDES, gaussian, mixture, sde_named

from scoresde import ExactModel, GaussianMixture, InputError
from scoresde.analytic import FiniteData


def points(n=50, d=2):
    return 2 * torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_density_is_that_of_scipy():
    x, m = points(), mixture()
    covariances = m.axes @ torch.diag_embed(m.variances) @ m.axes.mT
    parts = [
        w * stats.multivariate_normal(mean, cov).pdf(x.numpy())
        for w, mean, cov in zip(m.weights.tolist(), m.means.numpy(), covariances.numpy(), strict=True)
    ]
    np.testing.assert_allclose(m.log_prob(x).exp().numpy(), sum(parts), rtol=1e-10)


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("time", ["early", "middle", "late"])
def test_score_is_the_gradient_of_the_log_density(name, time):
    sde = sde_named(name)
    t = {"early": float(sde.t_of_lam(3.0)), "middle": float(sde.t_of_lam(0.0)), "late": sde.T}[time]
    model, level = ExactModel(mixture(), sde), sde.at(t)
    x = points().requires_grad_()
    gradient = torch.autograd.grad(model.data.log_prob(x, level.alpha, level.sigma).sum(), x)[0]
    torch.testing.assert_close(model(x.detach(), t).score, gradient, rtol=1e-7, atol=1e-9)


def test_a_time_per_sample_is_the_same_as_one_at_a_time():
    model, x = ExactModel(mixture(), sde_named("vp")), points(5)
    t = torch.tensor([0.01, 0.1, 0.3, 0.7, 1.0], dtype=torch.float64)
    together = model(x, t).x0
    alone = torch.cat([model(x[k : k + 1], float(t[k])).x0 for k in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def test_posterior_mean_is_the_conditional_expectation():
    """By quadrature in one dimension, from Bayes' rule."""
    m = GaussianMixture([0.4, 0.6], [[-1.0], [2.0]], [[[0.3]], [[0.05]]])
    alpha, sigma, x = 0.8, 0.5, 0.9

    def joint(x0):
        return m.log_prob(torch.tensor([[x0]])).exp().item() * stats.norm.pdf(x, alpha * x0, sigma)

    mass = integrate.quad(joint, -8, 8, points=[-1, 2], limit=200)[0]
    mean = integrate.quad(lambda x0: x0 * joint(x0), -8, 8, points=[-1, 2], limit=200)[0] / mass
    assert m.posterior_mean(torch.tensor([[x]]), alpha, sigma).item() == pytest.approx(mean, rel=1e-7)


def test_finite_data_is_a_mixture_of_points():
    data, x = points(20, 3), points(50, 3)
    flat = GaussianMixture(torch.ones(20), data, torch.zeros(20, 3, 3))
    sde = sde_named("vp")
    for t in (0.05, 0.3, 0.9):
        a, b = ExactModel(data, sde)(x, t), ExactModel(flat, sde)(x, t)
        torch.testing.assert_close(a.score, b.score, rtol=1e-9, atol=1e-9)


def test_the_component_of_a_point_is_the_nearest():
    data, x = FiniteData(points(20, 6).reshape(20, 3, 2)), points(200, 6).reshape(200, 3, 2)
    for alpha, level in ((1.0, {}), (0.3, {"alpha": 0.3, "sigma": 2.0})):
        apart = (x[:, None] - alpha * data.points).flatten(2).norm(dim=2)
        assert torch.equal(data.component(x, **level), apart.argmin(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_data_of_any_type_are_computed_in_float64(dtype):
    data, sde = points(10, 2).to(dtype), sde_named("vp")
    found = ExactModel(data, sde)(points(5, 2), 0.3).x0
    assert torch.equal(found, ExactModel(data.double(), sde)(points(5, 2), 0.3).x0)
    assert ExactModel(data, sde)(points(5, 2).float(), 0.3).x0.dtype == torch.float32
    alone = ExactModel(data[:1], sde)(points(5, 2), 0.3).x0
    torch.testing.assert_close(alone, data[:1].double().expand(5, 2))
    each = torch.full((5,), 0.3, dtype=torch.float32)
    together = FiniteData(data).posterior_mean(points(5, 2), each, each)
    torch.testing.assert_close(together, FiniteData(data).posterior_mean(points(5, 2), each.double(), each.double()))


def test_finite_data_of_any_event_shape():
    data, sde = points(10, 12), sde_named("ve")
    x = points(4, 12)
    image = ExactModel(data.reshape(10, 3, 2, 2), sde)(x.reshape(4, 3, 2, 2), 0.5).x0
    assert torch.equal(image.flatten(1), ExactModel(data, sde)(x, 0.5).x0)


def test_draws_have_the_law_of_the_mixture():
    m, n = mixture(), 100_000
    x = m.sample(n, seed=1)
    mean = m.weights @ m.means
    within = m.axes @ torch.diag_embed(m.variances) @ m.axes.mT
    spread = torch.einsum("k,kd,ke->de", m.weights, m.means - mean, m.means - mean)
    covariance = torch.einsum("k,kde->de", m.weights, within) + spread
    torch.testing.assert_close(x.mean(0), mean, atol=5 * float(covariance.max()) ** 0.5 / n**0.5, rtol=0)
    torch.testing.assert_close(torch.cov(x.T), covariance, atol=0.02, rtol=0)
    assert torch.equal(m.sample(10, seed=1), x[:10])
    assert not torch.equal(m.sample(10, seed=2), x[:10])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: GaussianMixture([1.0], [0.0], [[1.0]]), "shapes"),
        (lambda: GaussianMixture([-1.0], [[0.0]], [[[1.0]]]), "weights"),
        (lambda: GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "eigenvalues"),
        (lambda: GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.0, 1.0]]]), "symmetric"),
        (lambda: ExactModel(torch.zeros(0, 2), sde_named("vp")), "at least one point"),
        (lambda: ExactModel(torch.zeros(3), sde_named("vp")), r"points: \(3,\) .* at least one point"),
        (lambda: ExactModel(gaussian(), sde_named("vp"))(torch.zeros(3, 5), 0.5), "this model takes"),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError, match=text):
        make()
