"""A model times a Gaussian second distribution: exact on Gaussian data."""

import pytest
import torch
from support import sde_named
from torch import Tensor

from scoresde import ExactModel, GaussianMixture, InputError, Sampler
from scoresde.chains import GaussianEvidence
from scoresde.sampling import Heun

MEAN = torch.tensor([0.3, -0.5, 1.0], dtype=torch.float64)
ROOT = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.4, 0.0], [-0.5, 0.3, 0.6]], dtype=torch.float64)
COVARIANCE = ROOT @ ROOT.T
INF = float("inf")


def conditioned(y: Tensor, std: Tensor) -> GaussianMixture:
    """The posterior of the Gaussian, by its joint distribution with what was seen."""
    seen = torch.isfinite(std).nonzero()[:, 0]
    across = COVARIANCE[:, seen]
    gain = across @ torch.linalg.inv(COVARIANCE[seen][:, seen] + (std[seen] ** 2).diag())
    left = COVARIANCE - gain @ across.T
    return GaussianMixture([1.0], (MEAN + gain @ (y - MEAN)[seen])[None], ((left + left.T) / 2)[None])


@pytest.mark.parametrize("name", ["vp", "ve", "rectified"])
@pytest.mark.parametrize("std", [[0.3, INF, INF], [INF, 0.0, INF], [0.5, 0.2, 0.9], [0.0, INF, 0.1]])
def test_on_correlated_gaussian_data_it_is_the_posterior(name: str, std: list[float]) -> None:
    sde, y, s = sde_named(name), torch.tensor([1.0, 0.7, -0.4], dtype=torch.float64), torch.tensor(std)
    data = GaussianMixture([1.0], MEAN[None], COVARIANCE[None])
    model, exact = GaussianEvidence(ExactModel(data, sde), y, s), ExactModel(conditioned(y, s), sde)
    x = 2 * torch.randn(4, 3, dtype=torch.float64)
    for t in (0.1, 0.5, 0.9):
        torch.testing.assert_close(model(x, t * sde.T).x0, exact(x, t * sde.T).x0, rtol=1e-8, atol=1e-8)
    each = torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=torch.float64) * sde.T
    torch.testing.assert_close(model(x, each).x0, exact(x, each).x0, rtol=1e-8, atol=1e-8)


def test_samples_in_turn_have_evidence_of_their_own_and_bad_evidence_is_refused() -> None:
    data = GaussianMixture([1.0], MEAN[None], COVARIANCE[None])
    model, std = ExactModel(data, sde_named("vp")), torch.tensor([0.0, INF, INF])
    y = torch.tensor([[1.0, 0.0, 0.0], [-2.0, 0.0, 0.0]])
    found = Sampler(Heun(), steps=12).sample(GaussianEvidence(model, y, std), n=5, batch_size=2, dtype=torch.float64).x
    torch.testing.assert_close(found[:, 0], y[[0, 1, 0, 1, 0], 0].double(), rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match=r"std: -1.0 .*>= 0"):
        GaussianEvidence(model, y, -torch.ones(3))
    with pytest.raises(InputError, match=r"mean: .*finite"):
        GaussianEvidence(model, y * float("nan"), std)
    with pytest.raises(InputError, match=r"mean: \(2,\) for samples \(3,\)"):
        GaussianEvidence(model, y[0, :2], std[:2])(torch.zeros(1, 3), 0.5)
