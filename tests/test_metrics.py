"""Metrics against optimal transport and nearest neighbours of scipy and scikit-learn, and the laws of a metric."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import Tensor

from scoresde.data import Dataset, Digits, Transform
from scoresde.metrics import (
    ClassShares,
    NearestNeighbour,
    SlicedWasserstein,
    classify,
    nearest_neighbours,
    sliced_wasserstein,
    wasserstein_1d,
)
from scoresde.results import Scorer


def cloud(n: int, *event: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, *event)))


def transported(x: np.ndarray, y: np.ndarray) -> float:
    """Squared W2 between numbers by solving the assignment problem over copies of equal number."""
    copies = math.lcm(len(x), len(y))
    cost = (np.repeat(x, copies // len(x))[:, None] - np.repeat(y, copies // len(y))[None]) ** 2
    return float(cost[linear_sum_assignment(cost)].mean())


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_one_dimension_equals_optimal_transport(n: int, m: int, seed: int) -> None:
    x, y = cloud(n, seed=seed), 2 * cloud(m, seed=seed + 1) + 1
    expected = transported(x.numpy(), y.numpy())
    assert np.isclose(float(wasserstein_1d(x[None], y[None])[0]), expected, rtol=1e-12)
    assert np.isclose(sliced_wasserstein(x[:, None], y[:, None], 3), math.sqrt(expected), rtol=1e-12)


def test_between_gaussians_it_tends_to_the_closed_form() -> None:
    # W2² of N(a, r²) and N(b, s²) is (a - b)² + (r - s)², and a unit vector has the mean square 1 / D on an axis.
    n, size = 6000, 3
    shift = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    x, y = 0.5 * cloud(n, size), 1.5 * cloud(n // 2, size, seed=1) + shift
    expected = math.sqrt(float(shift.square().sum()) / size + 1.0**2)
    assert sliced_wasserstein(x, y, projections=2000) == pytest.approx(expected, rel=0.03)


def test_it_is_a_metric() -> None:
    x, y, z = cloud(30, 4), cloud(41, 4, seed=1) + 1, cloud(23, 4, seed=2) * 2
    xy, yz, xz = sliced_wasserstein(x, y), sliced_wasserstein(y, z), sliced_wasserstein(x, z)
    assert sliced_wasserstein(x, x[torch.randperm(30)]) < 1e-15
    assert sliced_wasserstein(y, x) == pytest.approx(xy, rel=1e-13)
    assert xz <= xy + yz
    assert abs(xy - yz) <= xz
    assert sliced_wasserstein(3 * x, 3 * y) == pytest.approx(3 * xy, rel=1e-12)
    assert sliced_wasserstein(x + 7, y + 7) == pytest.approx(xy, rel=1e-12)


def test_a_translation_costs_its_length_over_the_root_of_the_dimension() -> None:
    x, shift = cloud(50, 5), torch.tensor([3.0, 0, 0, 4.0, 0], dtype=torch.float64)
    assert sliced_wasserstein(x, x + shift, projections=20000) == pytest.approx(5 / math.sqrt(5), rel=0.02)
    assert sliced_wasserstein(x[:, :1], x[:, :1] - 2.5) == pytest.approx(2.5, rel=1e-13)


def test_copies_of_all_points_and_the_shape_of_events_do_not_matter() -> None:
    x, y = cloud(20, 2, 3), cloud(15, 2, 3, seed=1)
    expected = sliced_wasserstein(x, y)
    assert sliced_wasserstein(x.repeat(3, 1, 1), y) == pytest.approx(expected, rel=1e-12)
    assert sliced_wasserstein(x.reshape(20, 6), y.reshape(15, 6)) == expected


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = cloud(40, 3), cloud(30, 3, seed=1)
    distance, (distances, indices) = sliced_wasserstein(x, y, 50), nearest_neighbours(x, y, 2)
    monkeypatch.setattr("scoresde.metrics.sliced._CHUNK", 200)
    monkeypatch.setattr("scoresde.metrics.nearest._CHUNK", 100)
    assert sliced_wasserstein(x, y, 50) == pytest.approx(distance, rel=1e-13)
    again = nearest_neighbours(x, y, 2)
    assert torch.equal(again[1], indices)
    assert torch.allclose(again[0], distances, rtol=1e-13)


def test_directions_depend_on_the_seed_alone() -> None:
    x, y = cloud(40, 3), cloud(30, 3, seed=1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = sliced_wasserstein(x, y, 10, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert sliced_wasserstein(x, y, 10, seed=3) == first
    assert sliced_wasserstein(x, y, 10, seed=4) != first


@pytest.mark.parametrize("metric", [sliced_wasserstein, nearest_neighbours])
def test_clouds_that_cannot_be_compared_are_refused(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(ValueError, match="shape"):
        metric(cloud(5, 2), cloud(5, 1, 2))
    with pytest.raises(ValueError, match="empty"):
        metric(cloud(0, 2), cloud(5, 2))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return Digits().load()


def test_distance_to_held_out_data_and_its_floor(digits: Dataset) -> None:
    scorer = Scorer([SlicedWasserstein()], digits)
    found = scorer(digits.train)["sliced_wasserstein"]
    assert found.ratio == 1
    assert found.value == found.floor == sliced_wasserstein(digits.train, digits.heldout)
    assert scorer(digits.heldout)["sliced_wasserstein"].value < 1e-6
    noisy = scorer(digits.train + 0.5 * cloud(*digits.train.shape).float())["sliced_wasserstein"]
    assert noisy.ratio > 2
    assert noisy.floor == found.floor
    few = scorer(digits.train[:40])["sliced_wasserstein"]
    assert few.floor == sliced_wasserstein(digits.train[torch.arange(40) * len(digits.train) // 40], digits.heldout)


@pytest.mark.parametrize("k", [1, 3])
def test_nearest_agrees_with_scikit_learn(k: int) -> None:
    x, reference = cloud(50, 2, 3), cloud(70, 2, 3, seed=1)
    found = NearestNeighbors(n_neighbors=k).fit(reference.flatten(1).numpy()).kneighbors(x.flatten(1).numpy())
    distances, indices = nearest_neighbours(x, reference, k)
    assert np.allclose(distances.numpy(), found[0], rtol=1e-12)
    assert (indices.numpy() == found[1]).all()


def test_a_copy_is_at_distance_zero_even_far_from_the_origin() -> None:
    x = cloud(100, 8).float() + 1000
    distances, indices = nearest_neighbours(x, x)
    assert (distances == 0).all()
    assert (indices[:, 0] == torch.arange(100)).all()
    assert float(nearest_neighbours(x + 1e-3, x)[0].mean()) == pytest.approx(1e-3 * math.sqrt(8), rel=0.05)


def test_copies_and_held_out_items_are_told_apart(digits: Dataset) -> None:
    scorer = Scorer([NearestNeighbour()], digits)
    assert scorer(digits.train[:100])["nearest_train"].ratio == 0
    found = scorer(digits.heldout)["nearest_train"]
    assert found.ratio == 1
    flat = [part.flatten(1).numpy() for part in (digits.train, digits.heldout)]
    expected = NearestNeighbors(n_neighbors=1).fit(flat[0]).kneighbors(flat[1])[0].mean()
    assert found.value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("k", [1, 5])
def test_classes_agree_with_scikit_learn(digits: Dataset, k: int) -> None:
    # Two classes and an odd number of votes: no ties, which scikit-learn breaks by the number of the class.
    labels = torch.where(digits.train_labels > 4, 9, 3) if digits.train_labels is not None else torch.empty(0)
    judge = KNeighborsClassifier(n_neighbors=k).fit(digits.train.flatten(1).numpy(), labels.numpy())
    expected = judge.predict(digits.heldout.flatten(1).numpy())
    assert (classify(digits.heldout, digits.train, labels, k).numpy() == expected).all()


def test_the_nearer_neighbour_decides_a_tie_and_the_majority_everything_else() -> None:
    reference, labels = torch.tensor([[1.0], [2.0], [3.0], [4.0]]), torch.tensor([7, 5, 5, 7])
    at_zero = torch.zeros(1, 1)
    assert [int(classify(at_zero, reference, labels, k)) for k in (1, 2, 3, 4, 9)] == [7, 7, 5, 7, 7]


def test_shares_of_known_samples(digits: Dataset) -> None:
    labels = digits.train_labels
    assert labels is not None
    samples = torch.cat([digits.train[labels == c][: 5 + 5 * c] for c in range(10)])
    metric = ClassShares("pixels", neighbours=1)
    shares = metric(samples, digits)
    assert shares["class_deviation"] > 3
    assert (shares["class_share_min"], shares["class_share_max"]) == (5 / 275, 50 / 275)
    assert metric(digits.train[labels != 3], digits)["class_share_min"] == 0
    broken = samples.clone()
    broken[3] = float("nan")
    found = Scorer([metric, SlicedWasserstein(), NearestNeighbour()], digits)(broken)
    assert len(found) == 5
    assert all(math.isnan(m.value) and (m.floor is None or m.floor > 0) for m in found.values())


def test_data_without_classes_has_no_shares() -> None:
    points = cloud(10, 2).float()
    assert ClassShares()(points, Dataset(points, points, Transform("points", (2,)))) == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SlicedWasserstein(projections=0), "projections: 0"),
        (lambda: ClassShares(neighbours=-1), "neighbours: -1"),
    ],
)
def test_impossible_arguments_are_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()
