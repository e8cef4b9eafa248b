"""Energy distance, maximum mean discrepancy and Frechet distance: closed forms, scipy, and unbiasedness."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import binom
from scipy.stats import energy_distance as energy_of_scipy
from torch import Tensor, nn

from scoresde.data import Dataset, Transform
from scoresde.metrics import (
    MMD,
    EnergyDistance,
    FrechetDistance,
    energy_distance,
    frechet_distance,
    median_distance,
    mmd2,
)
from scoresde.metrics.kernels import discrepancy
from scoresde.results import Scorer


def cloud(n: int, *event: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, *event)))


def averaged(distance, n, m, times, size=3):
    """Mean and standard error of `distance` between independent standard normal clouds."""
    values = [distance(cloud(n, size, seed=2 * i), cloud(m, size, seed=2 * i + 1)) for i in range(times)]
    return np.mean(values), np.std(values, ddof=1) / math.sqrt(times)


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 1000))
def test_energy_of_empirical_distributions_is_scipys(n: int, m: int, seed: int) -> None:
    x, y = cloud(n, seed=seed), 2 * cloud(m, seed=seed + 1) + 1
    found = energy_distance(x[:, None], y[:, None], unbiased=False)
    assert found == pytest.approx(energy_of_scipy(x.numpy(), y.numpy()) ** 2, rel=1e-9, abs=1e-12)


def test_energy_between_gaussians_on_a_line_is_the_closed_form() -> None:
    # E|N(m, s²)| = s sqrt(2/pi) exp(-m²/2s²) + m erf(m / s sqrt 2)
    def folded(m: float, s: float) -> float:
        return s * math.sqrt(2 / math.pi) * math.exp(-(m**2) / (2 * s**2)) + m * math.erf(m / (s * math.sqrt(2)))

    x, y = cloud(4000, 1), 2 * cloud(4000, 1, seed=1) + 1.5
    expected = 2 * folded(1.5, math.sqrt(5)) - folded(0, math.sqrt(2)) - folded(0, math.sqrt(8))
    assert energy_distance(x, y) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("size", [1, 3, 16])
def test_mmd_between_gaussians_is_the_closed_form(size: int) -> None:
    # E exp(-|u|²/2h²) for u ~ N(d, v I) is (h²/(h²+v))^(D/2) exp(-|d|²/(2(h²+v)))
    h, shift, scale = math.sqrt(size), 0.5, 1.4

    def mean(v: float, d2: float) -> float:
        return (h**2 / (h**2 + v)) ** (size / 2) * math.exp(-d2 / (2 * (h**2 + v)))

    expected = mean(2, 0) + mean(2 * scale**2, 0) - 2 * mean(1 + scale**2, size * shift**2)
    found, error = averaged(lambda x, y: mmd2(x, scale * y + shift, h), 300, 200, 60, size)
    assert abs(found - expected) < 3.5 * error
    assert error < 0.05 * expected


@pytest.mark.parametrize("distance", [energy_distance, lambda x, y: mmd2(x, y, 1.5)])
def test_equal_distributions_are_at_distance_zero_on_average_for_any_numbers_of_points(distance) -> None:
    for n, m in ((10, 10), (5, 25)):
        mean, error = averaged(distance, n, m, 400)
        assert abs(mean) < 3.5 * error
    mean, error = averaged(lambda x, y: energy_distance(x, y, unbiased=False), 10, 10, 100)
    assert mean > 10 * error  # what the bias would be


def test_the_variance_of_a_discrepancy_is_right_on_average_over_all_clouds_that_there_are() -> None:
    """Points take one of two values each, so a cloud is a number of them, and every pair of clouds is seen."""
    (n, p), (m, q), far = (5, 0.3), (4, 0.6), 4.0
    found, weights = [], []
    for i, j in itertools.product(range(n + 1), range(m + 1)):
        x, y = torch.arange(n)[:, None] < i, torch.arange(m)[:, None] < j
        found.append(discrepancy(x.double(), far + y.double(), lambda a, b: torch.exp(-((a - b.T) ** 2) / 18)))
        weights.append(binom.pmf(i, n, p) * binom.pmf(j, m, q))
    value, variance = np.array(found).T
    mean = np.average(value, weights=weights)
    expected = np.average((value - mean) ** 2, weights=weights)
    assert np.average(variance, weights=weights) == pytest.approx(expected, rel=1e-9)


def test_events_of_any_shape_and_large_clouds_in_parts(monkeypatch) -> None:
    x, y = cloud(60, 2, 3), cloud(50, 2, 3, seed=1)
    whole = energy_distance(x, y), mmd2(x, y, 2.0)
    monkeypatch.setattr("scoresde.metrics.kernels._CHUNK", 130)
    assert (energy_distance(x, y), mmd2(x, y, 2.0)) == pytest.approx(whole, rel=1e-12)
    assert whole[0] == pytest.approx(energy_distance(x.flatten(1), y.flatten(1)))


def test_bandwidth_is_the_median_distance_of_the_real_data() -> None:
    x = torch.tensor([[0.0], [1.0], [5.0]])
    assert median_distance(x) == 4.0  # of 1, 4 and 5, whose mean is less
    real = Dataset(cloud(40, 2), cloud(30, 2, seed=1), Transform("points", (2,)))
    far = cloud(20, 2, seed=2) * 50
    assert MMD()(far, real)["mmd2"].value == mmd2(far, real.heldout, median_distance(real.heldout))
    assert MMD(bandwidth=3.0)(far, real)["mmd2"].value == mmd2(far, real.heldout, 3.0)
    held = real.heldout
    for unbiased in (True, False):
        assert MMD(3.0, unbiased)(far, real)["mmd2"].value == mmd2(far, held, 3.0, unbiased)
        assert EnergyDistance(unbiased)(far, real)["energy_distance"].value == energy_distance(far, held, unbiased)
    for metric in (MMD(3.0), EnergyDistance(), MMD(3.0, unbiased=False), EnergyDistance(unbiased=False)):
        (found,) = Scorer([metric], real)(50 * cloud(40, 2, seed=3)).values()
        assert found.floor == next(iter(metric(real.train, real).values())).value


def test_frechet_of_clouds_with_given_moments_is_the_closed_form() -> None:
    rng, size = np.random.default_rng(0), 5

    def moved(points: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """The points with exactly these moments."""
        white = (points - points.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(points.T))).T
        return white @ np.linalg.cholesky(covariance).T + mean

    a, b = (m @ m.T + 0.1 * np.eye(size) for m in rng.normal(size=(2, size, size)))
    means = rng.normal(size=(2, size))
    x, y = moved(rng.normal(size=(40, size)), means[0], a), moved(rng.normal(size=(60, size)), means[1], b)
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(torch.from_numpy(x), torch.from_numpy(x)) == pytest.approx(0, abs=1e-9)


def test_frechet_looks_at_features() -> None:
    """A network that sees only the mean of an item cannot tell items that differ elsewhere."""

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert len(x) <= 7
            return x.flatten(1).mean(1, keepdim=True)

    x = cloud(50, 1, 4, 4).float()
    real = Dataset(x, x, Transform("image", (1, 4, 4)))
    found = FrechetDistance(Mean(), batch_size=7)(x.flip(-1), real)
    assert found["frechet_distance"] == pytest.approx(0, abs=1e-6)
    assert FrechetDistance(nn.Flatten())(x + 1, real)["frechet_distance"] == pytest.approx(16, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MMD(bandwidth=0.0), "bandwidth: 0"),
        (lambda: FrechetDistance(nn.Flatten(), batch_size=0), "batch_size: 0"),
        (lambda: energy_distance(cloud(1, 2), cloud(3, 2)), "one point"),
        (lambda: frechet_distance(cloud(1, 2), cloud(3, 2)), "two points"),
    ],
)
def test_impossible_arguments_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
