"""The variational bound: exact on Gaussians, and what its parts train."""

import math
from typing import Any

import pytest
import torch
from support import sde_named
from torch import Tensor, nn

from scoresde import SDE, DiscreteVPSDE, ExactModel, GaussianMixture, InputError, Prediction, ScoreModel
from scoresde.loss import Batch, VariationalBound
from scoresde.loss.bound import Chain, Levels, _negative_log_level
from scoresde.model import Model
from scoresde.noise import Noise

VARIANCES = torch.tensor([0.3, 2.0, 1e-3], dtype=torch.float64)
MEAN = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64)
GAUSSIAN = GaussianMixture([1.0], MEAN[None], VARIANCES.diag()[None])
PATHS: dict[str, tuple[SDE, int]] = {
    "ddpm": (DiscreteVPSDE(levels=20, first=2e-3, last=0.4), 0),
    "vp": (sde_named("vp"), 20),
    "ve": (sde_named("ve"), 20),
    "rectified": (sde_named("rectified"), 7),
}
path = pytest.mark.parametrize("name", PATHS)


def cubature() -> tuple[Tensor, Tensor]:
    """x0 and eps (4, 3) over which any quadratic in each pair (x0_i, eps_i) has its exact mean."""
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    return MEAN + signs[:, :1] * VARIANCES.sqrt(), signs[:, 1:].expand(4, 3)


def expected(loss: VariationalBound, model: Any) -> Tensor:
    """The exact expectations of what the loss returns at each level, in nats an item."""
    x0, eps = cubature()
    n = len(Chain.of(model.sde, loss.levels).times)
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.stack([loss(model, x0, torch.full((4,), float(v), dtype=torch.float64), eps).loss.mean() for v in u])


@path
def test_the_exact_reverse_chain_of_a_gaussian_has_its_entropy_as_bound(name: str) -> None:
    sde, levels = PATHS[name]
    loss, chain = VariationalBound(levels), Chain.of(sde, levels)
    of_items = 3 * expected(loss, ExactModel(GAUSSIAN, sde, variance=True)).mean()
    # with the exact last marginal in place of the prior that the loss has
    a2, s2, p2 = chain.alpha[-1] ** 2, chain.sigma[-1] ** 2, sde.prior_std**2
    last = a2 * VARIANCES + s2
    with_prior = 0.5 * (s2 / p2 - 1 - torch.log(s2 / p2) + (a2 * (VARIANCES + MEAN**2)) / p2)
    with_last = 0.5 * (s2 / last - 1 - torch.log(s2 / last) + a2 * VARIANCES / last)
    entropy = 0.5 * torch.log(2 * math.pi * math.e * VARIANCES).sum()
    assert float(of_items - (with_prior - with_last).sum()) == pytest.approx(float(entropy), abs=1e-9)


@path
def test_the_exact_reverse_step_is_that_of_the_joint_gaussian(name: str) -> None:
    """Mean and variance of x_s given x_t as the terms of the bound have them: moving either raises the bound."""
    sde, levels = PATHS[name]
    chain, loss = Chain.of(sde, levels), VariationalBound(levels)
    k = len(chain.times) // 2
    a, s, b, r = (float(c[i]) for i in (k, k - 1) for c in (chain.alpha, chain.sigma))
    of_t, of_s = a**2 * VARIANCES + s**2, b**2 * VARIANCES + r**2
    slope = a / b * of_s / of_t
    variance = of_s - slope**2 * of_t
    gain = -b * torch.expm1(2 * (chain.lam[k] - chain.lam[k - 1]))
    x = torch.randn(5, 3, dtype=torch.float64)
    prediction = ExactModel(GAUSSIAN, sde, variance=True)(x, float(chain.times[k]))
    mean = r / s * torch.exp(chain.lam[k] - chain.lam[k - 1]) * x + gain * prediction.x0
    torch.testing.assert_close(mean, b * MEAN + slope * (x - a * MEAN), rtol=1e-10, atol=1e-10)
    found = chain.lower[k].exp() + gain**2 * torch.as_tensor(prediction.variance)
    torch.testing.assert_close(found, variance.expand(5, 3), rtol=1e-10, atol=1e-10)
    best = expected(loss, ExactModel(GAUSSIAN, sde, variance=True))[k]
    for change in ({"shift": 1e-2}, {"scale": 1.02}, {"scale": 0.98}):
        assert expected(loss, Changed(sde, **change))[k] > best


class Changed(Model):
    """The exact model of the Gaussian with another mean or variance of x0."""

    def __init__(self, sde: SDE, shift: float = 0.0, scale: float = 1.0) -> None:
        super().__init__(sde)
        self.exact, self.shift, self.scale = ExactModel(GAUSSIAN, sde, variance=True), shift, scale

    def forward(self, x: Tensor, t: Any, cond: Any = None) -> Prediction:
        found = self.exact(x, t)
        variance = None if found.variance is None else found.variance * self.scale
        return Prediction.of(x, self.sde, t, x0=found.x0 + self.shift, variance=variance)


def test_an_evaluation_agrees_with_the_expectation_and_its_terms_add_up() -> None:
    sde, levels = PATHS["ddpm"]
    model, loss = ExactModel(GAUSSIAN, sde, variance=True), VariationalBound(levels)
    data = GAUSSIAN.sample(1000)
    bound = loss.evaluate(model, data, batch_size=300)
    exact = 3 * float(expected(loss, model).mean())
    assert bound.value == pytest.approx(exact, abs=4 * bound.error)
    assert bound.error < 0.1
    assert float(bound.terms.sum()) == pytest.approx(bound.value)
    chain = Chain.of(sde)
    marginal = chain.alpha[-1] * MEAN, chain.alpha[-1] ** 2 * VARIANCES + chain.sigma[-1] ** 2
    tight = loss.evaluate(model, data, prior=marginal)
    entropy = float(0.5 * torch.log(2 * math.pi * math.e * VARIANCES).sum())
    assert tight.value == pytest.approx(entropy, abs=4 * tight.error)
    torch.testing.assert_close(tight.terms[:-1], bound.terms[:-1])  # whatever the size of a batch


def test_fixed_variances_are_above_the_best_bound() -> None:
    sde, levels = PATHS["ddpm"]
    best = expected(VariationalBound(levels), ExactModel(GAUSSIAN, sde, variance=True))
    for kind in ("lower", "upper"):
        fixed = expected(VariationalBound(levels, variance=kind), ExactModel(GAUSSIAN, sde))
        assert (fixed > best - 1e-12).all()
        assert fixed.mean() > best.mean() + 1e-3


class Learns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean, self.variance = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return torch.cat((x + self.mean, 0 * x + self.variance), 1)


def test_the_hybrid_loss_trains_the_mean_by_the_error_of_the_noise_and_the_variance_by_the_bound() -> None:
    model = ScoreModel(Learns(), DiscreteVPSDE(levels=20, first=0.01, last=0.5), "eps", variance="range").double()
    net: Any = model.net
    noise = Noise(0)
    x0, u = GAUSSIAN.sample(64), noise.uniform("u", 0, 64)
    batch = Batch(x0, u, noise.normal("eps", 0, x0.shape, dtype=torch.float64))

    def gradients(loss: Any) -> tuple[Tensor, Tensor]:
        model.zero_grad()
        loss.mean().backward()
        return net.mean.grad, net.variance.grad

    mean, variance = gradients(VariationalBound(hybrid=True)(model, batch).loss)
    of_bound = gradients(VariationalBound()(model, batch).loss)
    chain = Chain.of(model.sde)
    k = (u * 20).long()
    x = chain.alpha[k][:, None] * x0 + chain.sigma[k][:, None] * batch.eps
    simple = gradients(((model(x, chain.times[k]).eps - batch.eps) ** 2).mean(1) + 0 * net.variance.sum())
    torch.testing.assert_close(mean, simple[0])
    torch.testing.assert_close(variance, 0.001 / math.log(2) * of_bound[1])
    assert (of_bound[0] - simple[0]).abs().max() > 1e-3


def test_the_probabilities_of_the_levels_of_a_value_add_up_to_1_and_approach_the_density() -> None:
    coarse, levels = torch.arange(17, dtype=torch.float64) / 8 - 1, torch.arange(256, dtype=torch.float64) / 128 - 1
    for values, kind in ((coarse, Levels(1 / 16, -1.0, 1.0)), (levels, Levels())):
        for mean, std in ((0.0, 0.3), (0.99, 1e-3), (-3.0, 0.01), (0.5, 40.0)):
            log_variance = torch.full_like(values, 2 * math.log(std))
            logs = -_negative_log_level(values, torch.full_like(values, mean), log_variance, kind)
            assert float(logs.exp().sum()) == pytest.approx(1, abs=1e-12)
            assert torch.isfinite(logs).all()
    inner = slice(1, -1)
    normal = torch.distributions.Normal(0.0, 0.3)
    log_variance = torch.tensor(2 * math.log(0.3), dtype=torch.float64).expand(256)
    logs = -_negative_log_level(levels, 0 * levels, log_variance, Levels())
    torch.testing.assert_close(logs[inner], normal.log_prob(levels[inner]) - math.log(128), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("loss", "model", "says"),
    [
        (VariationalBound(), nn.Identity(), "loss: VariationalBound needs a ScoreModel, not Identity"),
        (VariationalBound(), ExactModel(GAUSSIAN, sde_named("vp")), "levels: 0 .*>= 2"),
        (VariationalBound(1), ExactModel(GAUSSIAN, sde_named("vp")), "levels: 1 .*>= 2"),
        (VariationalBound(7), ExactModel(GAUSSIAN, PATHS["ddpm"][0]), "levels: 7 .*has 20 levels.*give 0"),
    ],
)
def test_chains_of_one_step_and_models_of_another_kind_are_refused(loss: Any, model: Any, says: str) -> None:
    x0, eps = cubature()
    with pytest.raises(InputError, match=says) as error:
        loss(model, x0, torch.zeros(4), eps)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="data: 1 "):
        VariationalBound(4).evaluate(ExactModel(GAUSSIAN, sde_named("vp")), x0[:1])
