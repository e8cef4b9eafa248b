"""Dequantisation: expectations over the draws by quadrature, against the probability of a cell by quadrature."""

import math

import pytest
import torch
from support import sde_named
from torch import Tensor

from scoresde import GaussianMixture
from scoresde.likelihood.dequantise import KINDS, Bounds, Cells, Kind, bounds

kinds = pytest.mark.parametrize("kind", KINDS)
F64 = torch.float64


def nodes(dimensions: int, order: int) -> tuple[Tensor, Tensor]:
    """Nodes (N, D) and weights (N,) of a product rule on the unit cube."""
    import numpy as np

    x, w = (torch.from_numpy(a) / 2 for a in np.polynomial.legendre.leggauss(order))
    return torch.cartesian_prod(*[x + 0.5] * dimensions).reshape(-1, dimensions), torch.stack(
        [a.flatten() for a in torch.meshgrid(*[w] * dimensions, indexing="ij")]
    ).prod(0)


def smooth(dimensions: int) -> GaussianMixture:
    """Two correlated Gaussians that are wider than a cell."""
    covariance = 0.1 * torch.eye(dimensions, dtype=F64) + 0.05
    means = torch.stack([torch.full((dimensions,), m, dtype=F64) for m in (-0.3, 0.5)])
    return GaussianMixture([0.4, 0.6], means, [covariance, 0.5 * covariance])


def of_levels(dimensions: int, width: float) -> tuple[GaussianMixture, Tensor]:
    """A distribution over some levels alone, as data have it, and these (N, D)."""
    points = width * torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=F64)] * dimensions)
    points = points.reshape(-1, dimensions)
    weights = torch.arange(1, len(points) + 1, dtype=F64)
    return GaussianMixture(weights, points, torch.zeros(len(points), dimensions, dimensions, dtype=F64)), points


def cells(t: float, width: float) -> Cells:
    alpha, sigma, _ = sde_named("vp").at(t)
    return Cells(width, alpha, sigma)


def probability(data: GaussianMixture, own: Cells, x0: Tensor, order: int = 40) -> Tensor:
    """P(x_0) of eq. (1), log, (B,)."""
    u, w = nodes(x0.shape[1], order)
    corners = own.alpha * (x0 - own.width / 2)
    volume = (own.alpha * own.width) ** x0.shape[1]
    inside = [data.log_prob(corner + own.alpha * own.width * u, own.alpha, own.sigma).exp() @ w for corner in corners]
    return (torch.stack(inside) * volume).log()


def weights_of(kind: Kind, data: GaussianMixture, own: Cells, item: Tensor, u: Tensor) -> Tensor:
    """The log weights of one item at each u (N,)."""
    x, log_q = own.draw(kind, item.expand_as(u), u)
    return data.log_prob(x, own.alpha, own.sigma) - log_q


@kinds
@pytest.mark.parametrize(("dimensions", "width", "t"), [(1, 0.25, 0.03), (2, 0.3, 0.03), (3, 0.4, 0.06)])
def test_the_mean_weight_is_the_probability_and_the_mean_log_weight_is_below_it(kind, dimensions, width, t):
    data, own = smooth(dimensions), cells(t, width)
    x0 = torch.tensor([[0.25, -0.5, 0.0], [0.0, 0.0, 0.5]], dtype=F64)[:, :dimensions]
    u, w = nodes(dimensions, 40)
    for item, exact in zip(x0, probability(data, own, x0), strict=True):
        found = weights_of(kind, data, own, item, u)
        assert float((found - exact).exp() @ w) == pytest.approx(1, abs=1e-5)
        assert float(found @ w) < float(exact)


@pytest.mark.parametrize("width", [1e-4, 0.02, 0.1, 0.5])
def test_the_entropy_of_truncated_noise_is_closed(width):
    own = cells(0.01, width)  # tau from 0.001 to 7
    u, w = nodes(1, 200)
    entropy = -float(own.draw("truncated_normal", torch.zeros_like(u), u)[1] @ w)
    noise = 0.5 * math.log(2 * math.pi * math.e * own.sigma**2)
    assert noise - own.reconstruction == pytest.approx(entropy, abs=1e-3)


def test_truncated_noise_is_tighter_for_a_model_of_levels_and_uniform_noise_for_a_smooth_one():
    own = cells(0.002, 0.1)
    (data, points), (u, w) = of_levels(2, 0.1), nodes(2, 40)
    exact = probability(data, own, points)
    gap = {kind: [float(e - weights_of(kind, data, own, p, u) @ w) for p, e in zip(points, exact, strict=True)]
           for kind in KINDS}  # fmt: skip
    assert all(0 <= near < 0.1 * far for near, far in zip(gap["truncated_normal"], gap["uniform"], strict=True))
    item, data = torch.zeros(2, dtype=F64), smooth(2)
    close, wide = (float(weights_of(kind, data, own, item, u) @ w) for kind in KINDS)
    assert wide < close < float(probability(data, own, item[None])) < close + 0.01


@kinds
def test_the_weighted_bound_grows_with_the_draws_and_ends_at_the_probability(kind):
    """Expectations over K draws in one dimension, by a product rule."""
    data, own, item = smooth(1), cells(0.05, 0.5), torch.tensor([0.25], dtype=F64)
    exact, means = float(probability(data, own, item[None])), []
    for k, order in ((1, 40), (2, 40), (3, 30), (4, 16)):
        u, w = nodes(k, order)
        log_weights = weights_of(kind, data, own, item, u.reshape(-1, 1)).reshape(u.shape)
        found = bounds(log_weights)
        assert float(found.mean @ w) == pytest.approx(float(bounds(log_weights[:, :1]).mean @ w), abs=1e-6)
        means.append(float(found.weighted @ w))
    assert means == sorted(means)
    assert means[-1] < exact
    u = torch.rand(1, 50_000, 1, dtype=F64, generator=torch.Generator().manual_seed(0))
    many = bounds(weights_of(kind, data, own, item, u[0])[None])
    assert abs(float(many.weighted) - exact) < 4 * float(many.weighted_error)
    assert float(many.weighted_error) < 0.01


def test_errors_are_those_of_independent_draws():
    """The mean of squared errors is the variance between repetitions."""
    log_weights = 0.3 * torch.randn(20_000, 8, dtype=F64, generator=torch.Generator().manual_seed(0))
    found = bounds(log_weights)
    for value, error in ((found.mean, found.mean_error), (found.weighted, found.weighted_error)):
        assert float((error**2).mean()) == pytest.approx(float(value.var()), rel=0.05)
    assert torch.allclose(found.shares.sum(1), torch.ones(20_000, dtype=F64))
    assert (found.weighted >= found.mean).all()


def test_one_draw_has_no_error_and_one_bound():
    found: Bounds = bounds(torch.tensor([[-3.0], [2.0]], dtype=F64))
    assert found.mean.tolist() == found.weighted.tolist() == [-3.0, 2.0]
    assert found.mean_error.isnan().all()
    assert found.weighted_error.isnan().all()
