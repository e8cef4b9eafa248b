"""Metrics in features of a network: unbiasedness, intervals that cover, limit cases, and a classifier that is kept."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial import KDTree
from support import write_mnist
from torch import Tensor, nn

from scoresde.data import Dataset, FashionMNIST, Moons, Transform
from scoresde.errors import InputError
from scoresde.metrics import (
    Classifier,
    FeatureQuality,
    FrechetDistance,
    density_coverage,
    frechet_distance,
    frechet_infinite,
    kernel_distance,
    polynomial_mmd2,
    precision_recall,
)
from scoresde.metrics.discrepancy import _compared, _gaussian
from scoresde.metrics.extractor import weights_hash
from scoresde.metrics.features import features_of
from scoresde.results import Scorer


def cloud(n: int, *event: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, *event)))


# The kernel distance


def test_kernel_distance_of_equal_distributions_is_zero_on_average_whatever_the_numbers() -> None:
    for n, m in ((8, 8), (4, 20)):
        values = [polynomial_mmd2(cloud(n, 3, seed=2 * i), cloud(m, 3, seed=2 * i + 1)) for i in range(400)]
        assert abs(np.mean(values)) < 3.5 * np.std(values) / math.sqrt(400)


def test_the_interval_of_the_kernel_distance_is_that_of_scipy() -> None:
    x, y = cloud(40, 2), cloud(40, 2, seed=1)
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(40, generator=generator) for _ in range(2)]
    blocks = zip(x[orders[0]].split(10), y[orders[1]].split(10), strict=True)
    values = [polynomial_mmd2(a, b) for a, b in blocks]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert kernel_distance(x, y, block=10) == pytest.approx(((low + high) / 2, (high - low) / 2))


def test_kernel_distance_is_that_of_the_moments() -> None:
    # (a + 1)³ with a = x·y / k has features 1, √3 x/√k, √3 xx/k and xxx/k√k: the squared distances of their means
    shift = torch.tensor([0.5, -0.3], dtype=torch.float64)
    values = [polynomial_mmd2(cloud(60, 2, seed=2 * i), cloud(50, 2, seed=2 * i + 1) + shift) for i in range(300)]

    def moments(x: Tensor) -> list[Tensor]:
        second = torch.einsum("ni,nj->ij", x, x) / len(x)
        third = torch.einsum("ni,nj,nk->ijk", x, x, x) / len(x)
        return [math.sqrt(3 / 2) * x.mean(0), math.sqrt(3) / 2 * second, third / math.sqrt(8)]

    many = cloud(400_000, 2, seed=9)
    many = torch.cat([many, -many])
    expected = sum(float((a - b).square().sum()) for a, b in zip(moments(many), moments(many + shift), strict=True))
    assert abs(np.mean(values) - expected) < 3.5 * np.std(values) / math.sqrt(300)
    assert np.std(values) / math.sqrt(300) < 0.1 * expected


def test_the_interval_covers_the_distance_of_equal_distributions() -> None:
    inside = 0
    for i in range(200):
        mean, half = kernel_distance(cloud(60, 2, seed=2 * i), cloud(70, 2, seed=2 * i + 1), block=10)
        inside += abs(mean) <= half
    assert 0.88 <= inside / 200 <= 0.99


@pytest.mark.parametrize(
    ("distance", "times"),
    [(kernel_distance, 200), (frechet_infinite, 30), (lambda x, y: _compared(x, y, _gaussian(1.5), True), 200)],
)
def test_intervals_cover_near_distributions_and_far_ones(distance, times) -> None:
    """Between equal distributions too wide, elsewhere as asked for; of the right size in both."""
    for shift, low, truth in ((0.0, 0.94, 0.0), (0.5, 0.9, None)):
        many = [distance(cloud(150, 6, seed=2 * i), cloud(120, 6, seed=2 * i + 1) + shift) for i in range(times)]
        values, halves = np.array(many).T
        truth = values.mean() if truth is None else truth
        assert abs(values.mean() - truth) < 3.5 * values.std() / math.sqrt(times)
        assert low <= np.mean(abs(values - truth) <= halves)
        assert 0.85 < np.sqrt(np.mean(halves**2)) / (1.96 * values.std()) < 1.75


def test_the_frechet_distance_at_infinity_has_no_bias_where_that_of_n_has_much() -> None:
    scale = torch.linspace(2, 0.1, 12, dtype=torch.float64)
    pairs = [(1.2 * scale * cloud(160, 12, seed=2 * i), scale * cloud(120, 12, seed=2 * i + 1)) for i in range(40)]
    expected = 0.2**2 * float(scale.square().sum())
    finite = np.array([frechet_distance(x, y) for x, y in pairs])
    infinite = np.array([frechet_infinite(x, y).mean for x, y in pairs])
    assert finite.mean() > 2 * expected
    assert abs(infinite.mean() - expected) < 3.5 * infinite.std() / math.sqrt(40) < expected
    assert math.isnan(frechet_infinite(*(cloud[:24] for cloud in pairs[0])).mean)


def test_the_interval_of_the_frechet_distance_is_that_of_a_mean_where_it_is_linear(monkeypatch) -> None:
    """Far apart it is (a - b)² and linear in the means, whose jackknife is their standard error over the groups."""
    monkeypatch.setattr(torch, "randperm", lambda n, generator: torch.arange(n))
    x, y = cloud(120, 1), cloud(180, 1, seed=1)
    groups = x.reshape(10, 12).mean(1) - y.reshape(10, 18).mean(1)
    far = 1e7
    found = frechet_infinite(x + far, y)
    assert found.half == pytest.approx(2 * far * stats.t.ppf(0.975, 9) * stats.sem(groups), rel=1e-5)


def test_blocks_are_disjoint_and_a_single_one_is_the_whole() -> None:
    x, y = cloud(30, 4), cloud(40, 4, seed=1)
    mean, half = kernel_distance(x, y[:30], block=30)
    assert mean == pytest.approx(polynomial_mmd2(x, y[:30]), rel=1e-10)
    assert math.isnan(half)
    assert kernel_distance(x, y, 5, seed=1) == kernel_distance(x, y, 5, seed=1) != kernel_distance(x, y, 5, seed=2)
    assert kernel_distance(x, y).mean == pytest.approx(polynomial_mmd2(x, y), rel=1e-12)
    with pytest.raises(ValueError, match="two points"):
        kernel_distance(x[:1], y)


# Precision, recall, density and coverage


def test_shares_are_those_of_brute_force() -> None:
    x, y, k = cloud(50, 3).numpy(), 0.7 * cloud(40, 3, seed=1).numpy() + 0.3, 2

    def share(points: np.ndarray, reference: np.ndarray) -> float:
        radii = KDTree(reference).query(reference, k + 1)[0][:, -1]
        return float(np.mean([(np.linalg.norm(reference - p, axis=1) <= radii).any() for p in points]))

    found = precision_recall(torch.from_numpy(x), torch.from_numpy(y), k)
    assert found == (share(x, y), share(y, x))
    assert 0 < found.recall < found.precision < 1 or 0 < found.precision < found.recall < 1


def test_density_and_coverage_are_those_of_a_tree_of_points() -> None:
    x, y, k = 0.8 * cloud(50, 3).numpy(), cloud(40, 3, seed=1).numpy(), 4
    radii = KDTree(y).query(y, k + 1)[0][:, -1]
    inside = np.array([[np.linalg.norm(a - b) <= r for b, r in zip(y, radii, strict=True)] for a in x])
    found = density_coverage(torch.from_numpy(x), torch.from_numpy(y), k)
    assert found == pytest.approx((inside.sum() / (k * 50), inside.any(0).mean()))


def test_density_and_coverage_of_a_perfect_sampler_are_those_of_the_paper() -> None:
    n, m, k = 30, 40, 2
    many = np.array([density_coverage(cloud(n, 2, seed=2 * i), cloud(m, 2, seed=2 * i + 1), k) for i in range(300)])
    covered = 1 - math.prod((m - j) / (n + m - j) for j in range(1, k + 1))
    assert (abs(many.mean(0) - [1, covered]) < 3.5 * many.std(0) / math.sqrt(300)).all()


def test_limit_cases_of_precision_and_recall(monkeypatch) -> None:
    real = cloud(200, 4) + 50
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real + 1000, real) == (0, 0)
    middle = real.mean(0) + 1e-3 * cloud(200, 4, seed=1)  # one mode only: all of it real, none of the rest found
    assert precision_recall(middle, real).precision == 1
    assert precision_recall(middle, real).recall == 0
    half = torch.cat([real[:100], real[:100] + 1000])  # every other sample is nonsense
    assert precision_recall(half, real).precision == 0.5
    copies = real[:1].repeat(10, 1)  # balls of radius 0
    assert precision_recall(copies, copies) == (1, 1)
    whole = precision_recall(real[:90] + 0.5, real[90:])
    monkeypatch.setattr("scoresde.metrics.kernels._CHUNK", 300)
    assert precision_recall(real[:90] + 0.5, real[90:]) == whole
    with pytest.raises(ValueError, match="neighbours"):
        precision_recall(real[:3], real)


# The classifier


@pytest.fixture(scope="module")
def clothes(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("clothes")
    write_mnist(folder, train=256, test=64)
    return FashionMNIST(str(folder)).load()


def test_it_learns_the_classes_and_standardises_what_it_saw(clothes: Dataset, tmp_path: Path) -> None:
    network = Classifier(features=8, epochs=40, cache=str(tmp_path)).network(clothes)
    logits = network.logits(clothes.heldout)  # type: ignore[operator]
    assert float((logits.argmax(1) == clothes.heldout_labels).double().mean()) > 0.9
    features = network(clothes.train)
    assert features.shape == (256, 8)
    assert features.mean(0).abs().max() < 1e-5
    assert float(features.var(0).mean()) == pytest.approx(1, rel=1e-5)


def test_it_is_trained_once_and_again_for_other_data_settings_or_a_damaged_file(
    clothes: Dataset, tmp_path: Path, monkeypatch
) -> None:
    trained = []
    real = Classifier._train
    monkeypatch.setattr(Classifier, "_train", lambda self, *a: trained.append(self) or real(self, *a))
    torch.manual_seed(7)
    state = torch.get_rng_state()

    def made(data: Dataset = clothes, **settings: int) -> str:
        before = len(trained)
        found = weights_hash(
            Classifier(**{"features": 4, "epochs": 1, "cache": str(tmp_path), **settings}).network(data)
        )
        return found if len(trained) > before else f"{found} stored"

    first = made()
    assert made() == f"{first} stored"
    assert torch.equal(torch.get_rng_state(), state)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-5] ^= 1  # one bit of a weight
    file.write_bytes(content)
    assert made() == first
    file.write_bytes(bytes(100))
    assert made() == first
    labels = clothes.train_labels
    assert labels is not None
    others = [Dataset(clothes.train, clothes.heldout, clothes.transform, {"class": labels.roll(1)})]
    others.append(Dataset(clothes.train + 1 / 128, clothes.heldout, clothes.transform, {"class": labels}))
    different = {made(seed=1), made(epochs=2), made(features=5), *map(made, others), first}
    assert len(different) == 6
    assert not any("stored" in name for name in different)


def test_a_cache_that_cannot_be_written_is_done_without(clothes: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    classifier = Classifier(features=4, epochs=1, cache=str(tmp_path / "file"))
    assert weights_hash(classifier.network(clothes)) == weights_hash(classifier.network(clothes))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c: Classifier(features=0), "features: 0"),
        (lambda c: Classifier(epochs=0), "epochs: 0"),
        (lambda c: Classifier(seed=-1), "seed: -1"),
        (lambda c: Classifier().network(Dataset(c.train, c.heldout, c.transform)), "no classes"),
        (lambda c: Classifier().network(replace(c, conditions={"class": c.labels * 0})), "one class"),
        (lambda c: Classifier().network(Moons(n=20).load()), r"takes images .* \(2,\)"),
        (lambda c: FeatureQuality(nn.Flatten(), block=1), "block: 1"),
        (lambda c: FeatureQuality(nn.Flatten(), neighbours=0), "neighbours: 0"),
        (lambda c: FeatureQuality(nn.Flatten(), batch_size=0), "batch_size: 0"),
    ],
)
def test_impossible_requests_are_refused(clothes: Dataset, make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(clothes)


# All of them together


def test_quality_is_that_of_its_parts_with_floors_of_as_many_training_items() -> None:
    real = Dataset(cloud(90, 2, 2).float(), cloud(60, 2, 2, seed=1).float(), Transform("table", (2, 2)))
    samples = 1.5 * cloud(30, 2, 2, seed=2).float()
    found = Scorer([FeatureQuality(nn.Flatten(), batch_size=7, block=10, neighbours=2)], real)(samples)
    flat, held, some = samples.flatten(1), real.heldout.flatten(1), real.train[::3].flatten(1)
    assert found["frechet_distance"][:2] == (frechet_distance(flat, held), frechet_distance(some, held))
    kernel = found["kernel_distance"]
    assert (kernel.value, kernel.half) == kernel_distance(flat, held, 10)
    assert kernel.floor == kernel_distance(some, held, 10).mean
    assert (found["precision"].value, found["recall"].value) == precision_recall(flat, held, 2)
    assert (found["precision"].floor, found["recall"].floor) == precision_recall(some, held, 2)
    assert found["frechet_distance"].value == FrechetDistance(nn.Flatten())(samples, real)["frechet_distance"]


def test_a_classifier_that_cannot_be_is_found_before_a_training(clothes: Dataset, tmp_path: Path) -> None:
    for metric in (FeatureQuality, FrechetDistance):
        metric(nn.Flatten()).prepare(Moons(n=20).load())
        with pytest.raises(InputError, match="takes images"):
            metric(Classifier()).prepare(Moons(n=20).load())
    FeatureQuality(Classifier(4, 1, cache=str(tmp_path))).prepare(clothes)
    assert len(list(tmp_path.iterdir())) == 1


def test_blur_and_noise_show_in_features_of_a_classifier(clothes: Dataset, tmp_path: Path) -> None:
    classifier = Classifier(features=8, epochs=2, cache=str(tmp_path))
    quality = FeatureQuality(classifier)
    scorer = Scorer([quality], clothes)
    good = scorer(clothes.heldout)
    bad = scorer(clothes.heldout + cloud(*clothes.heldout.shape).float())
    floor = good["frechet_distance"].floor
    assert floor is not None
    assert good["frechet_distance"].value < 1e-6 < floor < bad["frechet_distance"].value
    assert (good["precision"].value, good["recall"].value) == (1, 1)
    features = features_of(classifier.network(clothes), clothes.train, batch_size=50)
    assert torch.allclose(features, classifier.network(clothes)(clothes.train), atol=1e-5)
