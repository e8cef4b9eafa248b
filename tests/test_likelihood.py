"""Log densities against those that are known."""

import pytest
import torch
from support import sde_named

from scoresde import ExactTrace, GaussianMixture, Hutchinson, Likelihood, ScoreModel
from scoresde.noise import Noise


class Zero(torch.nn.Module):
    def forward(self, x, c):
        return torch.zeros_like(x)


def items(n, *shape, seed=0):
    return Noise(seed).normal("items", 0, (n, *shape), dtype=torch.float64)


@pytest.mark.parametrize("name", ["vp", "subvp", "ve", "edm", "rectified", "cosine"])
@pytest.mark.parametrize("divergence", [ExactTrace(), ExactTrace(at_once=4), Hutchinson(2)], ids=repr)
def test_a_zero_network_has_the_density_of_its_preconditioning(name, divergence):
    sde, std, x = sde_named(name), 0.7, items(3, 2, 3)
    gaussian = GaussianMixture([1.0], torch.zeros(1, 6), std**2 * torch.eye(6, dtype=torch.float64)[None])

    def log_prob(x, t):
        return gaussian.log_prob(x.flatten(1), *sde.at(t)[:2])

    found = Likelihood(divergence=divergence, steps=3)(
        ScoreModel(Zero(), sde, "edm", std), x, prior=lambda x: log_prob(x, sde.t_start)
    )
    torch.testing.assert_close(found.nats, log_prob(x, sde.t_train), rtol=0, atol=1e-6)
    assert found.nfe == 3
    assert found.error.max() < 1e-10
