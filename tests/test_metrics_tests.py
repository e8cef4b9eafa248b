"""Tests of samples against real data: p-values that are uniform, scipy and scikit-learn, and planted differences."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from scoresde.data import Dataset, Digits, Transform
from scoresde.metrics import ClassShares, Copies, Profiles, TwoSampleTest, copying, difference, near_copies
from scoresde.metrics import two_sample_test as c2st
from scoresde.metrics.class_shares import Shares
from scoresde.results import Scorer

UNLIKELY = 1e-3  # of the tests for uniformity, whose draws are fixed


def cloud(n: int, *event: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, *event)))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return Digits(held_out=0.4).load()


# The classifier two-sample test


@pytest.mark.parametrize(("judge", "times"), [("linear", 100), ("neighbours", 50), ("kernel", 50)])
def test_the_p_value_of_a_classifier_is_uniform_between_equal_distributions(judge, times) -> None:
    """Also where points are few, so that the folds of a cross-validation depend on each other."""
    pairs = [(cloud(14, 3, seed=2 * i), cloud(20, 3, seed=2 * i + 1)) for i in range(times)]
    many = np.array([c2st(x, y, judge, folds=3, permutations=39, seed=i) for i, (x, y) in enumerate(pairs)])
    assert stats.kstest(many[:, 1] - np.random.default_rng(0).random(times) / 40, "uniform").pvalue > UNLIKELY
    assert abs(many[:, 0].mean() - 0.5) < 0.04


def test_the_accuracy_of_the_linear_one_is_that_of_scikit_learn() -> None:
    x, y = cloud(60, 4).numpy(), cloud(60, 4, seed=1).numpy() + 0.4
    rng = np.random.default_rng(3)
    points, truth = np.concatenate([cloud[rng.permutation(60)] for cloud in (x, y)]), np.repeat([1, -1], 60)
    points = (points - points.mean(0)) / points.std(0).max()
    for _ in range(5):
        rng.permutation(truth)
    folds = StratifiedKFold(4, shuffle=True, random_state=int(rng.integers(2**31)))
    right = []
    for train, test in folds.split(points, truth):
        model = RidgeClassifier(1e-3 * len(train) * points[train].var(0).mean()).fit(points[train], truth[train])
        right.append(model.predict(points[test]) == truth[test])
    found = c2st(torch.from_numpy(x), torch.from_numpy(y), folds=4, permutations=5, seed=3)
    assert found[0] == pytest.approx(np.concatenate(right).mean())
    assert 0.5 < found[0] < 0.9


def test_each_classifier_sees_what_it_can() -> None:
    x, ring = cloud(150, 2), cloud(150, 2, seed=1)
    ring = ring / ring.norm(dim=1, keepdim=True)  # the same means
    assert c2st(x + 1, x[:100])[1] == 1 / 200
    assert c2st(x, ring, "linear")[0] < 0.6
    for judge in ("kernel", "neighbours"):
        accuracy, p = c2st(x, ring, judge)
        assert accuracy > 0.6
        assert p == 1 / 200
    with pytest.raises(ValueError, match="5 folds need"):
        c2st(x[:4], ring)


# Copies


def test_the_share_of_copies_has_a_p_value_that_is_uniform_between_equal_distributions() -> None:
    """At most uniform, as it has steps, and nearly so where these are small."""
    rng = np.random.default_rng(1)
    many = [near_copies(*(rng.exponential(size=n) for n in (40, 60)), quantile=0.1) for _ in range(400)]
    shares, p = np.array(many).T
    assert abs(shares.mean()) < 3.5 * shares.std() / 20
    for level in (0.02, 0.05, 0.2, 0.5):
        assert stats.binomtest(int((p <= level).sum()), 400, level, "greater").pvalue > UNLIKELY
    fine = [near_copies(*(rng.exponential(size=n) for n in (4000, 3000)), quantile=0.2)[1] for _ in range(300)]
    assert stats.kstest(fine, "uniform").pvalue > UNLIKELY


def test_the_share_of_copies_is_the_one_that_was_planted() -> None:
    rng = np.random.default_rng(1)
    far, heldout = rng.exponential(size=1000) + 1, rng.exponential(size=800) + 1
    share, p = near_copies(np.where(np.arange(1000) < 200, 0.0, far), heldout)
    assert share == pytest.approx(0.2, abs=0.03)
    assert p < 1e-20
    assert near_copies(far + 5, heldout)[0] < 0
    assert near_copies(far + 5, heldout)[1] == 1


def test_the_standardised_rank_sum_is_that_of_scipy() -> None:
    x, y = cloud(30).numpy(), cloud(50, seed=1).numpy() + 0.3
    expected = stats.mannwhitneyu(x, y, method="asymptotic", use_continuity=False)
    assert 2 * stats.norm.sf(abs(copying(x, y))) == pytest.approx(expected.pvalue, rel=1e-9)
    assert copying(x, y) == -copying(y, x) < 0


def test_c_t_is_the_mean_over_cells_and_tells_copies_from_new_items() -> None:
    train, heldout, new = (torch.cat([cloud(80, 2, seed=s), cloud(40, 2, seed=s + 9) + 50]) for s in (0, 1, 2))
    data = Dataset(train.float(), heldout.float(), Transform("points", (2,)))
    found = Copies(cells=2)(new.float(), data)

    def near(x: Tensor) -> np.ndarray:
        return torch.cdist(x, train).min(1).values.numpy()

    zs = [copying(near(new[part]), near(heldout[part])) for part in (slice(80), slice(80, None))]
    assert found["copy_test"] == pytest.approx((2 * zs[0] + zs[1]) / 3, rel=1e-5)
    copies = Copies(cells=2)(train.float()[:60], data)
    assert copies["copy_test"] < -3
    assert copies["copy_share"] == 1
    assert copies["copy_p"] < 1e-9
    assert copies["nearer_train"] == 1
    floors = Scorer([Copies(cells=2)], data)(new.float())
    assert abs(floors["copy_test"].floor) < 1e-9 > floors["copy_share"].floor
    assert abs(Copies(cells=2)(new.float(), data)["repeats"]) < 0.1
    twice = torch.cat([new[:90], new[:30]]).float()
    found = Copies(cells=2)(twice, data)
    assert found["repeats"] == pytest.approx(0.5, abs=0.1)
    assert found["distinct"] == 90 < len(twice)
    assert Copies(cells=3)(new.float()[:3], data).keys() == {"copy_share", "copy_p", "nearer_train", "distinct"}


def test_the_triangle_is_even_where_all_three_are_of_one_distribution() -> None:
    values = []
    for i in range(60):
        x = cloud(90, 3, seed=i).float()
        values.append(Copies(cells=1)(x[60:], Dataset(x[:35], x[35:60], Transform("points", (3,))))["nearer_train"])
    assert abs(np.mean(values) - 0.5) < 3.5 * np.std(values) / math.sqrt(60)


# Profiles and shares of classes


def test_the_difference_of_means_is_one_on_average_and_that_of_students_test() -> None:
    x, y = cloud(40, 5), cloud(30, 5, seed=1) + torch.tensor([0, 0, 0, 1.0, 0])
    assert difference(x, y) == pytest.approx(np.mean(stats.ttest_ind(x, y).statistic ** 2), rel=1e-9)
    many = np.array([difference(cloud(50, 4, seed=2 * i), cloud(30, 4, seed=2 * i + 1)) for i in range(300)])
    assert abs(many.mean() - 78 / 76) < 3.5 * many.std() / math.sqrt(300)  # the mean of F(1, 78)
    still = torch.cat([x, torch.ones(40, 1)], 1)
    assert difference(still, torch.cat([y, torch.ones(30, 1)], 1)) == pytest.approx(difference(x, y))
    assert difference(still, torch.cat([y, torch.zeros(30, 1)], 1)) == math.inf
    assert difference(still[:, 5:], still[:, 5:]) == 0


def test_each_profile_sees_its_own_and_is_near_one_else(digits: Dataset) -> None:
    rng, x = torch.Generator().manual_seed(0), digits.train[:500]
    step = 2 / 16
    changed = {
        "levels": x + step * (torch.rand(x.shape, generator=rng) < 0.1),  # a few levels up
        "moments": x.roll(1, -1) * 0.5 + x * 0.5,
        "spectrum": x + 0.2 * torch.randn(x.shape, generator=rng),
    }
    fine = Profiles()(x, digits)
    assert all(0.3 < value < 2 for value in fine.values())
    for key, samples in changed.items():
        assert Profiles()(samples, digits)[key] > 4 * fine[key], key
    points = Dataset(cloud(30, 2).float(), cloud(30, 2, seed=1).float(), Transform("points", (2,)))
    assert Profiles()(points.train, points).keys() == {"moments"}
    assert Profiles(levels=False, moments=False)(x, digits).keys() == {"spectrum"}


def test_the_spectrum_does_not_see_where_and_knows_white_noise() -> None:
    from scoresde.metrics.profiles import spectrum

    t = Transform("image", (2, 16, 16))
    x = cloud(400, 2, 16, 16)
    assert torch.allclose(spectrum(x.roll((3, 5), (2, 3)), t), spectrum(x, t), rtol=1e-9)
    rings = spectrum(x, t).exp().reshape(400, 2, -1).mean((0, 1))
    assert torch.allclose(rings, torch.full_like(rings, 16.0**2), rtol=0.2)  # Parseval


def test_the_deviation_of_a_class_is_that_of_chance_until_one_is_missing(digits: Dataset) -> None:
    heldout, others = digits.heldout, digits.heldout_labels
    assert others is not None
    whole = Dataset(digits.train, heldout[:350], digits.transform, digits.conditions, {"class": others[:350]})
    fresh, known = heldout[350:], others[350:]
    assert ClassShares("pixels")(fresh, whole)["class_deviation"] < 3.5
    assert ClassShares("pixels")(fresh[known != 4], whole)["class_deviation"] > 4
    twice = torch.cat([fresh, fresh[known == 4]])
    assert ClassShares("pixels")(twice, whole)["class_deviation"] > 3.5


def test_the_deviation_of_known_classes_is_that_of_a_binomial_share_and_of_others_it_is_normal() -> None:
    rng, prior = np.random.default_rng(0), torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    truth = torch.arange(100).remainder(3)
    sure = Shares.of(torch.eye(3).double()[truth], truth, 400 * prior)
    some = torch.eye(3).double()[[0] * 60 + [1] * 15 + [2] * 5]
    z = [(k / 80 - p) / math.sqrt(p * (1 - p) * (1 / 80 + 1 / 400)) for k, p in ((60, 0.5), (15, 0.3), (5, 0.2))]
    assert sure.deviation(some) == pytest.approx(max(map(abs, z)), rel=1e-9)

    def unsure(count: int) -> tuple[Tensor, Tensor]:
        classes = rng.choice(2, count, p=[0.3, 0.7])
        first = rng.beta(2 + classes, 3 - classes)
        return torch.from_numpy(np.column_stack([first, 1 - first])), torch.from_numpy(classes)

    found = []
    for _ in range(300):
        known, more = unsure(300), torch.from_numpy(rng.multinomial(500, [0.3, 0.7]))
        found.append(Shares.of(*known, torch.bincount(known[1]) + more.double()).deviation(unsure(200)[0]))
    assert stats.kstest(found, stats.halfnorm.cdf).pvalue > UNLIKELY


def test_the_metric_of_features_is_the_test_of_them(digits: Dataset) -> None:
    found = TwoSampleTest(nn.Flatten(), permutations=19)(digits.train[:100], digits)
    assert tuple(found.values()) == c2st(digits.train[:100], digits.heldout, permutations=19)
