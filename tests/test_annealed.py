"""Annealed Langevin dynamics: algorithm 1 step by step, its limit distribution, and the published rules."""

import math

import pytest
import torch
from support import exact_model, gaussian, mixture, sde_named
from test_limit_law import distance

from scoresde import VESDE, GaussianMixture, InputError, OneLevelSDE, Sampler, train
from scoresde.loss import DenoisingScoreMatching
from scoresde.noise import Noise
from scoresde.sampling import AnnealedLangevinDynamics, Explicit, Karras
from scoresde.sampling.annealed import best_step, levels_needed, overlap


def test_the_sampler_is_algorithm_1():
    """Against the pseudo-code of 2019 on the levels of its own, with the score from the log density of the mixture."""
    sde, data, n, K, e, L = VESDE(0.02, 8.0), mixture(), 20, 7, 4e-5, 12
    low = float(sde.sigma(sde.t_min))
    sampler = Sampler(AnnealedLangevinDynamics(e / low**2, K), steps=L)
    noise = Noise(0, range(n))
    start = sde.prior_std * noise.normal("prior", 0, (n, 2), dtype=torch.float64)
    *_, (_, x), (end, found) = sampler.path(exact_model(sde), start, noise)

    def score(y, sigma):
        y = y.detach().requires_grad_()
        return torch.autograd.grad(data.log_prob(y, 1.0, sigma).sum(), y)[0]

    y = start
    for i in range(L):
        sigma = 8.0 * (low / 8.0) ** (i / (L - 1))
        alpha = e * sigma**2 / low**2
        for t in range(K):
            z = noise.normal("solver", i * K + t, (n, 2), dtype=torch.float64)
            y = y + alpha / 2 * score(y, sigma) + math.sqrt(alpha) * z
    torch.testing.assert_close(x, y, rtol=0, atol=1e-10)
    torch.testing.assert_close(found, y + low**2 * score(y, low), rtol=0, atol=1e-10)
    assert end == 0


@pytest.mark.parametrize("sde", ["ve", "vp"])
def test_the_distribution_tends_to_that_of_the_data(sde):
    model, errors = exact_model(sde_named(sde), gaussian()), []
    for step, K in ((0.2, 4), (0.1, 16), (0.05, 64)):
        sampler = Sampler(AnnealedLangevinDynamics(step, K), steps=20, denoise=False)
        errors.append(float(distance(model, sampler, model.sde.t_min).abs().max()))
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


def test_on_one_level_it_is_plain_langevin_dynamics():
    """Its stationary distribution for a step h in x <- x + h score + sqrt(2 h) z, known for a Gaussian score."""
    variance, step, level = 0.6, 1.5, 0.5
    model = exact_model(OneLevelSDE(level, 3.0), GaussianMixture([1.0], [[0.0]], [[[variance]]]))
    sampler = Sampler(AnnealedLangevinDynamics(step, 1), steps=200, denoise=False)
    x = sampler.sample(model, n=20_000, batch_size=20_000, dtype=torch.float64).x
    h, total = step * level**2 / 2, variance + level**2
    limit = 2 * h / (1 - (1 - h / total) ** 2)
    assert float(x.var()) == pytest.approx(limit, rel=5 * math.sqrt(2 / len(x)))
    assert abs(limit / total - 1) > 5 * math.sqrt(2 / len(x))  # or the step would not be seen


# data set: dimension, largest level, number of levels down to 0.01, steps at a level, published step: configs/ of the
# authors' code, github.com/ermongroup/ncsnv2
PUBLISHED = {
    "cifar10": (3 * 32**2, 50, 232, 5, 6.2e-6),
    "celeba": (3 * 64**2, 90, 500, 5, 3.3e-6),
    "bedroom": (3 * 128**2, 190, 1086, 3, 1.8e-6),
    "ffhq": (3 * 256**2, 348, 2311, 3, 9.0e-7),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_rules_give_the_published_numbers(name):
    dimension, largest, levels, steps, published = PUBLISHED[name]
    ratio = (largest / 0.01) ** (1 / (levels - 1))
    assert best_step(ratio, steps) / 2 * 0.01**2 == pytest.approx(published, rel=0.02)  # two digits are given
    assert 0.5 < overlap(ratio, dimension) < 0.6
    few = levels_needed(largest / 0.01, dimension)
    assert few == pytest.approx(levels, rel=0.06)
    assert overlap((largest / 0.01) ** (1 / (few - 1)), dimension) >= 0.5
    assert overlap((largest / 0.01) ** (1 / (few - 2)), dimension) < 0.5


def test_the_overlap_is_that_of_the_lengths_of_noise():
    dimension, ratio, n = 300, 1.08, 20_000
    length = 1.0 * ratio * torch.randn(n, dimension, generator=torch.Generator().manual_seed(0)).norm(dim=1)
    near = ((length - math.sqrt(dimension)).abs() < 3 * ratio / math.sqrt(2)).double().mean()
    # the paper takes the spread of the larger level for both
    assert float(near) == pytest.approx(overlap(ratio, dimension), abs=0.02)


def test_the_best_step_leaves_the_least_noise():
    ratio, steps = 1.2, 6

    def left(step):
        variance = ratio**2
        for _ in range(steps):
            variance = (1 - step / 2) ** 2 * variance + step
        return variance

    best = best_step(ratio, steps)
    assert left(best) < min(left(0.97 * best), left(1.03 * best))


@pytest.mark.parametrize("levels", [2, 10])
def test_a_network_is_trained_at_the_levels_that_are_sampled(levels):
    sde = VESDE(0.01, 8.0)
    u = (torch.arange(40 * levels, dtype=torch.float64) + 0.5) / (40 * levels)
    times = DenoisingScoreMatching(times="levels", levels=levels).sample_times(sde, u)
    found, counts = times.unique(return_counts=True)
    sampled = Sampler(AnnealedLangevinDynamics(), steps=levels).times(exact_model(sde))
    torch.testing.assert_close(found, sampled.flip(0), rtol=1e-9, atol=0)
    assert counts.tolist() == [40] * levels
    ratios = sde.sigma(found)[1:] / sde.sigma(found)[:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("grid", "steps", "words"),
    [
        (Karras(), 40, r"grid: the ratios .* from \S+ to \S+; .* use grid=lambda"),
        (Explicit((1.0, 0.9, 0.1)), 3, "grid: the ratios"),
        (None, 4, r"steps: 4 levels .* ratio of \S+ and an overlap of \S+ in 64 dimensions.* use \d+ for an overlap"),
    ],
)
def test_levels_that_cannot_work_are_refused(grid, steps, words):
    model = exact_model(VESDE(0.01, 50.0), GaussianMixture([1.0], [[0.0] * 64], [torch.eye(64).tolist()]))
    with pytest.raises(InputError, match=f"^{words}[^\n]*$"):
        Sampler(AnnealedLangevinDynamics(0.2), grid, steps).sample(model, n=2)


def test_numbers_out_of_range_are_refused():
    for changes, key in (({"step": 4.0}, "step"), ({"step": 0.0}, "step"), ({"steps": 0}, "steps")):
        with pytest.raises(InputError, match=f"^{key}: .* give"):
            AnnealedLangevinDynamics(**changes)
    with pytest.raises(InputError, match=r"^steps: 1 is not allowed"):
        Sampler(AnnealedLangevinDynamics(), steps=1)
    with pytest.raises(InputError, match=r"^step: None .* give a number"):
        Sampler(AnnealedLangevinDynamics(), steps=3).sample(exact_model(OneLevelSDE()), n=2)


def test_levels_with_gaps_are_refused_before_a_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sampler = Sampler(AnnealedLangevinDynamics(), steps=3)
    given = {"model": "mlp", "sde": VESDE(0.01, 50.0), "samplers": {"mine": sampler}, "run": tmp_path / "run"}
    with pytest.raises(InputError, match=r"^samplers\.mine\.steps: 3 levels have a ratio of .*; use \d+ for") as error:
        train(torch.randn(20, 64), **given)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
