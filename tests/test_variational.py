"""The variational bound of the reverse SDE: that of an exact model is the density, and a worse one is below it."""

import math

import pytest
import torch
from support import mixture, sde_named

from scoresde import DiscreteVPSDE, ExactModel, GaussianMixture, Prediction
from scoresde.control import Wrapper
from scoresde.likelihood.variational import chain_bound, decoded, diffusion, level_costs, prior_mismatch
from scoresde.loss.bound import Levels
from scoresde.noise import Noise


class TooLittleNoise(Wrapper):
    """The inner model with 0.8 of its noise."""

    def forward(self, x, t, cond=None):
        return Prediction.of(x, self.sde, t, eps=0.8 * self.model(x, t, cond).eps)


_COPIES = 60  # of an item


def averaged(terms):
    """Means and errors (n,) of the draws (n copies, K) of each item."""
    means = terms.mean(1).reshape(-1, _COPIES)  # the draws of an item are stratified
    return means.mean(1), means.std(1) / _COPIES**0.5


def total(model, x0):
    """The bound of items of continuous data, and its error."""
    many = x0.repeat_interleave(_COPIES, 0)
    both = (term(model, many, Noise(0), 8, model.sde.t_train) for term in (diffusion, decoded))
    bound, error = averaged(sum(both))
    return bound + prior_mismatch(model, x0), error


@pytest.mark.parametrize("name", ["vp", "ve", "rectified"])
def test_the_bound_of_an_exact_model_is_its_density_and_that_of_another_is_worse(name):
    data = mixture()
    x0, model = data.sample(6, seed=1), ExactModel(data, sde_named(name))
    bound, error = total(model, x0)
    exact = -data.log_prob(x0)
    mismatch = 0.02 + 4 * error  # what is left of the data at T
    assert ((bound - exact).abs() < mismatch).all()
    assert abs(float((bound - exact).mean())) < 0.02 + 3 * float(error.square().sum().sqrt()) / 6
    assert float(total(TooLittleNoise(model), x0)[0].mean() - exact.mean()) > 0.1


def test_of_gaussian_data_only_the_times_are_random():
    data = GaussianMixture([1.0], torch.zeros(1, 3), 0.16 * torch.eye(3)[None])
    x0, model = data.sample(4, seed=1), ExactModel(data, sde_named("vp"))
    model.sigma_data = 0.4  # so that the control variate is the error itself
    at, noise = model.sde.t_train, Noise(0)
    bound = (
        prior_mismatch(model, x0)
        + diffusion(model, x0, noise, 500, at).mean(1)
        + decoded(model, x0, noise, 1, at)[:, 0]
    )
    torch.testing.assert_close(bound, -data.log_prob(x0), rtol=0, atol=5e-3)


def test_the_mismatch_of_the_prior_is_that_of_two_gaussians():
    model, x0 = ExactModel(mixture(), sde_named("ve")), torch.tensor([[0.0, 0.0], [30.0, -40.0]]).double()
    normal = torch.distributions.Normal
    level = model.sde.at(model.sde.T)
    apart = torch.distributions.kl_divergence(normal(level.alpha * x0, level.sigma), normal(0.0, model.sde.prior_std))
    torch.testing.assert_close(prior_mismatch(model, x0), apart.sum(1))
    assert float(prior_mismatch(model, x0)[1]) > 0.1


@pytest.mark.parametrize("tau", [0.2, 1.0, 3.0])
def test_the_costs_of_levels_are_their_entropy_given_what_is_seen(tau):
    """H(level | x) = H(level) + H(noise) - H(x) of equally likely levels."""
    levels = torch.arange(7, dtype=torch.float64)[:, None] * 2 * tau
    data = GaussianMixture(torch.ones(7), levels, torch.zeros(7, 1, 1))
    x = torch.linspace(-12, 12 + float(levels[-1]), 20_000, dtype=torch.float64)[:, None]
    density = data.log_prob(x, 1.0, 1.0)
    entropy = -float(torch.trapezoid(density.exp() * density, x[:, 0]))
    assert float(level_costs(7, tau).mean()) == pytest.approx(
        math.log(7) + 0.5 * math.log(2 * math.pi * math.e) - entropy, abs=1e-8
    )


def test_the_bound_of_an_exact_chain_is_near_its_density_and_that_of_levels_a_probability():
    sde = DiscreteVPSDE(levels=20, first=2e-3, last=0.4)
    data = GaussianMixture([1.0], [[0.5, -1.0]], [[[0.3, 0.0], [0.0, 2.0]]])
    model, x0 = ExactModel(data, sde, variance=True), torch.tensor([[0.5, -1.0], [0.25, 0.0]]).double()
    many = x0.repeat_interleave(_COPIES, 0)
    (bound, error), (fine, _) = (
        averaged(chain_bound(model, many, Noise(0), 20, levels)) for levels in (None, Levels(1e-4, -50.0, 50.0))
    )
    assert ((bound + data.log_prob(x0)).abs() < 0.05 + 4 * error).all()
    assert ((fine - bound + 2 * math.log(2e-4)).abs() < 1e-3).all()
