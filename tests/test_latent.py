"""The latent space of the ODE, the Ito density, and what a density says of items that are no data."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from support import gaussian
from torch import Tensor, nn

from scoresde import VPSDE, ExactModel, GaussianMixture, InputError, ScoreModel, load
from scoresde.data import Dataset, Digits, Transform
from scoresde.likelihood import LatentQuality, LatentSpace, Outliers
from scoresde.likelihood.ito import ito_density
from scoresde.likelihood.latent import slerp
from scoresde.likelihood.outliers import auroc, others
from scoresde.noise import Noise
from scoresde.sampling import AdaptiveRungeKutta, EulerMaruyama, Heun, LambdaUniform, Sampler

TWO = GaussianMixture([0.4, 0.6], [[-1.0, 0.0], [1.0, 0.5]], [[[0.1, 0.0], [0.0, 0.2]]] * 2)


def plane(data: GaussianMixture, n: int = 200) -> Dataset:
    return Dataset(data.sample(n).float(), data.sample(n, 1).float(), Transform("points", (2,), 1.0, 2.0))


# ---- latent space ----


def test_latents_of_gaussian_data_are_the_data_rescaled() -> None:
    model, x = ExactModel(GaussianMixture([1.0], [[0.0, 0.0]], [[[0.25, 0], [0, 0.25]]]), VPSDE()), torch.randn(20, 2)
    z = LatentSpace(AdaptiveRungeKutta(rtol=1e-3, atol=1e-3), steps=1).encode(model, x)
    ends = [model.sde.at(t) for t in (model.sde.t_train, model.sde.T)]
    first, last = (math.hypot(0.5 * level.alpha, level.sigma) for level in ends)
    torch.testing.assert_close(z, x.double() * last / first / model.sde.prior_std, rtol=2e-2, atol=1e-2)


def test_items_come_back_and_arrive_as_normal_numbers(tmp_path: Path) -> None:
    found = LatentQuality(steps=40, n=200)(ExactModel(TWO, VPSDE()), plane(TWO), tmp_path / "latent")
    assert found["round_trip_relative"].value < 2e-3
    for key in ("latent_square", "latent_spread"):
        assert abs(found[key].value - 1) < 2 * found[key].half
        assert found[key].half < 0.5
    assert (tmp_path / "latent" / "interpolation.png").is_file()
    metric, data, model = LatentQuality(steps=40, n=200), plane(TWO), ExactModel(TWO, VPSDE())
    noised = metric._noised(model, data.transform, data.heldout, range(200))
    lengths = LatentSpace(steps=40).encode(model, noised).square().sum(1)
    assert found["latent_spread"].value == pytest.approx(float(lengths.var(correction=0)) / stats.chi2(2).var())
    wrong = LatentQuality(steps=10, n=200)(ExactModel(gaussian(), VPSDE()), plane(TWO), None)
    assert abs(wrong["latent_square"].value - 1) > 2 * wrong["latent_square"].half
    coarse = LatentQuality(solver="heun", steps=5, n=20)(ExactModel(TWO, VPSDE()), plane(TWO), None)
    assert coarse["round_trip_relative"].value > 10 * found["round_trip_relative"].value
    assert coarse["round_trip"].value == pytest.approx(
        2 * plane(TWO).sigma_data * coarse["round_trip_relative"].value
    )  # data units are twice the model units


@pytest.mark.parametrize("ratio", [1.0, 40.0])
def test_between_two_latents_angles_and_lengths_go_evenly_from_one_to_the_other(ratio: float) -> None:
    a, b = torch.randn(2, 200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    b, share = ratio * b, torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=torch.float64)
    way = slerp(a, b, share)
    assert torch.equal(way[:, 0], a)
    assert torch.equal(way[:, -1], b)
    torch.testing.assert_close(way, slerp(b, a, 1 - share.flip(0)).flip(1))
    torch.testing.assert_close(way.norm(dim=2), torch.lerp(a.norm(dim=1)[:, None], b.norm(dim=1)[:, None], share))
    angle = [torch.cosine_similarity(a, v, dim=1).clamp(-1, 1).arccos() for v in way.unbind(1)]
    for s, found in zip(share, angle, strict=True):
        torch.testing.assert_close(found, s * angle[-1], atol=1e-6, rtol=0)
    still = slerp(torch.zeros_like(a), a, share)  # zero has no direction
    torch.testing.assert_close(torch.cosine_similarity(still[:, 1], a, dim=1), torch.ones(200, dtype=torch.float64))


def test_a_solver_with_noise_has_no_latent_space() -> None:
    with pytest.raises(InputError, match=r"solver: EulerMaruyama adds noise, .*use solver=heun, or eta=0"):
        LatentSpace(EulerMaruyama())


def test_a_run_encodes_and_decodes_data_units() -> None:
    run = load(Path(__file__).parent / "fixtures/d14582e/run")
    x = torch.randn(5, *run.event_shape, generator=torch.Generator().manual_seed(0)) * 0.3
    x = run.transform.decode(x)
    back = run.decode(run.encode(x))
    torch.testing.assert_close(back, x.double(), rtol=0, atol=0.02)
    z = LatentSpace().encode(run.model, run.transform.encode(x))
    torch.testing.assert_close(run.encode(x), z, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match=r"x: .* give items"):
        run.encode(torch.zeros(3, 7, 7))


def test_a_run_goes_from_one_item_to_another_and_says_the_error_of_the_round_trip() -> None:
    run = load(Path(__file__).parent / "fixtures/d14582e/run")
    a, b = run.transform.decode(torch.tensor([[0.3, -0.2], [-0.4, 0.5]], dtype=torch.float64))
    space = LatentSpace(steps=30)
    found = run.interpolate(a, b.numpy(), 5, space=space)
    assert len(found) == 5
    assert found.nfe == (2 * 30 + 5 * 30) / 5
    z = run.encode(torch.stack([a, b]), space=space)
    ends = run.decode(z, space=space)
    torch.testing.assert_close(run.transform.decode(found.x[[0, -1]]), ends, rtol=0, atol=1e-9)
    assert found.round_trip == pytest.approx(float((ends - torch.stack([a, b])).square().mean().sqrt()), rel=1e-3)
    middle = run.encode(run.transform.decode(found.x[2:3]), space=LatentSpace(steps=200))
    half = torch.rad2deg(torch.cosine_similarity(z[:1], middle).arccos())
    assert float(half) == pytest.approx(found.angle / 2, abs=1)
    with pytest.raises(InputError, match=r"last: \(3,\) is not allowed"):
        run.interpolate(a, torch.zeros(3))
    with pytest.raises(InputError, match="count: 1 is not allowed"):
        run.interpolate(a, b, 1)


# ---- the Ito density ----


def test_the_ito_density_converges_with_order_one_half() -> None:
    data = GaussianMixture([0.5, 0.5], torch.eye(2, 4) * 2, torch.eye(4).expand(2, 4, 4) * 0.2)
    model, spreads = ExactModel(data, VPSDE()), []
    model.event_shape = (4,)
    alpha, sigma, _ = model.sde.at(model.sde.t_train)
    for steps in (40, 640):
        sampler = Sampler(EulerMaruyama(), LambdaUniform(), steps, denoise=False)
        x, nats = ito_density(model, sampler, 400)
        error = nats - data.log_prob(x, alpha, sigma)
        spreads.append(error.std().item())
    assert abs(error.mean().item()) < 0.1 + 4 * spreads[-1] / math.sqrt(400)
    assert math.log(spreads[0] / spreads[1]) / math.log(16) == pytest.approx(0.5, abs=0.12)


def test_the_ito_density_of_many_steps_has_no_bias() -> None:
    data = GaussianMixture([1.0], [[0.0]], [[[0.25]]])
    model = ExactModel(data, VPSDE())
    model.event_shape = (1,)
    alpha, sigma, _ = model.sde.at(model.sde.t_train)
    sampler = Sampler(EulerMaruyama(), LambdaUniform(), 1000, denoise=False)
    x, nats = ito_density(model, sampler, 10_000)
    error = nats - data.log_prob(x, alpha, sigma)
    assert error.std() < 0.6
    assert abs(error.mean()) < 0.025


# ---- outliers ----


def test_the_area_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 1, 70).round(1), rng.normal(0, 1, 50).round(1)  # with ties
    expected = roc_auc_score([1] * 70 + [0] * 50, [*a, *b])
    assert auroc(torch.tensor(a), torch.tensor(b)).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_intervals_of_areas_hold_the_truth(shift: float) -> None:
    truth = stats.norm.cdf(shift / math.sqrt(2))
    draws = torch.randn(400, 2, 40, generator=torch.Generator().manual_seed(0))
    found = [auroc(one + shift, other) for one, other in draws]
    covered = sum(abs(area.value - truth) <= area.half for area in found) / len(found)
    assert covered >= 0.93
    assert max(area.half for area in found) < 0.16


def test_other_items_are_what_they_are_called() -> None:
    digits = Digits().load()
    x = digits.heldout[:50]
    sets = others(x, digits.transform, Noise(0))
    assert set(sets) == {"rotated", "permuted", "noise", "constant"}
    for name, items in sets.items():
        assert items.shape == x.shape
        np.testing.assert_allclose(digits.transform.encode(digits.transform.finish(items)), items, err_msg=name)
        assert x.min() <= items.min() <= items.max() <= x.max()
    assert torch.equal(sets["permuted"].flatten(1).sort().values, x.flatten(1).sort().values)
    assert torch.equal(torch.rot90(sets["rotated"], -1, (-2, -1)), x)
    assert (sets["constant"].flatten(1).std(1) == 0).all()
    assert set(others(plane(TWO).heldout, plane(TWO).transform, Noise(0))) == {"permuted", "noise"}


def test_a_simple_item_is_likelier_than_data_and_not_typical(tmp_path: Path) -> None:
    # of Gaussian data in many dimensions the mode is the likeliest item, and no item lies near it
    size = 32
    data = GaussianMixture([1.0], torch.zeros(1, size), torch.eye(size)[None])
    items = Dataset(data.sample(100).float(), data.sample(40, 1).float(), Transform("table", (size,)))
    np.save(tmp_path / "simple.npy", 0.1 * torch.randn(50, size).numpy())
    metric = Outliers(solver=Heun(), steps=4, n=40, against=str(tmp_path / "simple.npy"))
    found = metric(ExactModel(data, VPSDE()), items, None)
    assert found["auroc_density_against"].value < 0.01
    assert found["auroc_typicality_against"].value > 0.99
    assert abs(found["auroc_density_permuted"].value - 0.5) < found["auroc_density_permuted"].half


class _Flat(nn.Module):
    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_images_are_ranked_and_shown(tmp_path: Path) -> None:
    digits = Digits().load()
    model = ScoreModel(_Flat(), VPSDE(), "edm", digits.sigma_data)
    metric = Outliers(solver="heun", steps=4, n=12, against=Digits(split_seed=1))
    found = metric(model, digits, tmp_path / "outliers")
    assert {q.key for q in metric.quantities} == set(found)
    assert sorted(file.name for file in (tmp_path / "outliers").glob("*.*")) == [
        "densities.npz", "outliers.png", "ranking.png",
    ]  # fmt: skip
    stored = np.load(tmp_path / "outliers" / "densities.npz")
    assert {name: len(stored[name]) for name in stored} == dict.fromkeys(
        ("held-out", "rotated", "permuted", "noise", "constant", "against"), 12
    )
    again = metric(model, digits, None)
    assert again == found
    some = dataclasses.replace(metric, batch_size=5)(model, digits, None)
    assert some["auroc_density_noise"].value == pytest.approx(found["auroc_density_noise"].value)


def test_items_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    digits = Digits().load()
    model = ScoreModel(_Flat(), VPSDE(), "edm", digits.sigma_data)
    for items, words in (
        (
            np.random.default_rng(0).normal(size=(9, 3)),
            r"against: \(3,\) is not allowed; give items of shape \(1, 8, 8\)",
        ),
        (np.linspace(0, 255, 640).reshape(-1, 1, 8, 8), r"against: values .* to 255 are outside 0 to 16.* rescale"),
    ):
        np.save(tmp_path / "others.npy", items)
        with pytest.raises(InputError, match=words):
            Outliers(against=str(tmp_path / "others.npy"))(model, digits, None)
