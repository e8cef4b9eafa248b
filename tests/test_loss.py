"""Denoising score matching: its value, its minimiser, its weights and its noise levels."""

import math
from typing import Any, get_args

import pytest
import torch
from scipy import stats
from support import SDES, gaussian, options, sde_named
from torch import Tensor, nn

from scoresde import SDE, VESDE, VPSDE, GaussianMixture, InputError, ScoreModel
from scoresde.build import build
from scoresde.loss import Batch, DenoisingScoreMatching, Loss, LossTerms
from scoresde.loss.dsm import _WEIGHTS
from scoresde.loss.levels import stratified
from scoresde.noise import Noise
from scoresde.precond import Precond, coefficients

PRECONDS = get_args(Precond)
WEIGHTS = ("noise", "likelihood", "velocity", "edm")
SIGMA_DATA = 0.8


class Says(nn.Module):
    """A network whose model says x0 = answer(x, alpha, sigma), whatever the preconditioning."""

    def __init__(self, answer: Any, sde: SDE, precond: Precond) -> None:
        super().__init__()
        self.answer, self.sde, self.precond = answer, sde, precond

    def forward(self, scaled: Tensor, c: Tensor) -> Tensor:
        lam = -4 * c
        t = self.sde.t_of_lam(lam)
        alpha, sigma = self.sde.alpha(t)[:, None], self.sde.sigma(t)[:, None]
        slopes = [slope[:, None] for slope in self.sde.slopes(t)]
        k = coefficients(self.precond, alpha, sigma, lam[:, None], SIGMA_DATA, slopes=slopes)
        x = scaled / k.c_in
        return (self.answer(x, alpha, sigma) - k.c_skip * x) / k.c_out


def model_that_says(answer: Any, sde: SDE, precond: Precond = "edm") -> ScoreModel:
    return ScoreModel(Says(answer, sde, precond), sde, precond, SIGMA_DATA)


def terms(
    loss: DenoisingScoreMatching, model: ScoreModel, data: GaussianMixture, n: int = 4000, seed: int = 0
) -> tuple[LossTerms, Tensor]:
    """Loss terms in float64 for n draws of the data, and their times."""
    noise, x0 = Noise(seed), data.sample(n, seed)
    u, eps = noise.uniform("u", 0, n), noise.normal("eps", 0, x0.shape, dtype=torch.float64)
    u = stratified(u) if loss.stratified else u  # as a training does
    return loss(model, Batch(x0, u, eps)), loss.sample_times(model.sde, u)


# ---- value and minimiser ----


@pytest.mark.parametrize("precond", PRECONDS)
@pytest.mark.parametrize("name", SDES)
def test_the_loss_of_the_exact_score_is_the_variance_that_cannot_be_explained(name: str, precond: Precond) -> None:
    # eps given x is Gaussian with covariance alpha^2 C (alpha^2 C + sigma^2)^-1: its trace is what no model can avoid
    sde, data = sde_named(name), gaussian()
    covariance = (data.axes * data.variances[:, None]) @ data.axes.mT
    model = model_that_says(data.posterior_mean, sde, precond)
    for weight in WEIGHTS:
        loss = DenoisingScoreMatching(weight=weight, times="log_normal")  # keeps the weights within bounds
        (values, lam), t = terms(loss, model, data)
        assert torch.equal(lam, sde.lam(t))
        a, s = sde.alpha(t)[:, None, None], sde.sigma(t)[:, None, None]
        signal = a**2 * covariance
        floor = torch.linalg.solve(signal + s**2 * torch.eye(2), signal).diagonal(dim1=1, dim2=2).mean(1)
        ratio = values / _WEIGHTS[loss.weight](model, t, a.flatten(), s.flatten()) / floor
        assert ratio.mean().item() == pytest.approx(1, abs=5 * ratio.std().item() / math.sqrt(len(t)))
        assert ratio.std().item() / math.sqrt(len(t)) < 0.02  # or the line above would say nothing


PERTURBATIONS = {
    "shifted": lambda x0, x, a, s: x0 + 0.05,
    "shrunk": lambda x0, x, a, s: 0.97 * x0,
    "too noisy": lambda x0, x, a, s: x0 + 0.05 * x / (a + s),
    "wobbling": lambda x0, x, a, s: x0 + 0.1 * torch.sin(3 * x),
    "mirrored": lambda x0, x, a, s: x0 + 0.05 * x0.flip(1),
}


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("weight", WEIGHTS)
def test_no_other_model_has_a_smaller_loss_than_the_posterior_mean(weight: Any, name: str) -> None:
    sde, data = VPSDE(), gaussian()

    def other(x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        return PERTURBATIONS[name](data.posterior_mean(x, a, s), x, a, s)

    loss = DenoisingScoreMatching(weight=weight, times="log_normal", mean=-0.5, std=0.7)
    (best, _), _ = terms(loss, model_that_says(data.posterior_mean, sde), data, 100_000)
    (worse, _), _ = terms(loss, model_that_says(other, sde), data, 100_000)
    excess = worse - best  # paired: same data, same noise
    assert excess.mean() > 4 * excess.std() / math.sqrt(len(excess))


# ---- weights ----


def _guess(x: Tensor, a: Tensor, s: Tensor) -> Tensor:
    return torch.tanh(x / (a + s)) + 0.1


@pytest.mark.parametrize("name", SDES)
def test_the_noise_weight_is_the_error_of_eps_under_every_preconditioning(name: str) -> None:
    sde, data, loss = sde_named(name), gaussian(), DenoisingScoreMatching()
    x0 = data.sample(500)
    eps = Noise(0).normal("eps", 0, x0.shape, dtype=torch.float64)
    u = Noise(0).uniform("u", 0, 500)
    t = loss.sample_times(sde, u)
    found = []
    for precond in PRECONDS:
        model = model_that_says(_guess, sde, precond)
        found.append(loss(model, Batch(x0, u, eps)).loss)
        error = ((model(sde.perturb(x0, t, eps), t).eps - eps) ** 2).mean(1)
        torch.testing.assert_close(found[-1], error, rtol=1e-6, atol=1e-9)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", SDES)
def test_the_likelihood_weight_is_the_speed_of_the_log_signal_to_noise_ratio(name: str) -> None:
    # g^2 / sigma^2 = -d log(alpha^2 / sigma^2) / dt, by finite differences
    sde, data, model = sde_named(name), gaussian(), model_that_says(_guess, sde_named(name))
    (plain, _), t = terms(DenoisingScoreMatching(), model, data)
    (weighted, _), _ = terms(DenoisingScoreMatching(weight="likelihood"), model, data)
    h = 1e-4 * torch.minimum(t, 1.0005 * sde.T - t)  # lam may diverge right after T
    speed = -2 * (sde.lam(t + h) - sde.lam(t - h)) / (2 * h)
    torch.testing.assert_close(weighted / plain, speed, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", SDES)
def test_the_velocity_weight_is_the_error_of_the_speed_along_the_path(name: str) -> None:
    # d/dt (alpha x0 + sigma eps) at fixed x0 and eps, by finite differences, for the true pair and the predicted one
    sde, data, loss = sde_named(name), gaussian(), DenoisingScoreMatching(weight="velocity")
    model = model_that_says(_guess, sde)
    (weighted, _), t = terms(loss, model, data)
    x0 = data.sample(len(t), 0)
    eps = Noise(0).normal("eps", 0, x0.shape, dtype=torch.float64)
    said = model(sde.perturb(x0, t, eps), t)
    h = 1e-4 * torch.minimum(t, 1.0005 * sde.T - t)
    before, after = (sde.perturb(said.x0 - x0, s, said.eps - eps) for s in (t - h, t + h))
    error = ((after - before) / (2 * h)[:, None]) ** 2
    torch.testing.assert_close(weighted, error.mean(1), rtol=1e-4, atol=1e-9)


def test_the_likelihood_weight_of_ve_is_constant() -> None:
    sde, data = VESDE(0.01, 50.0), gaussian()
    model = model_that_says(_guess, sde)
    ratio = terms(DenoisingScoreMatching(weight="likelihood"), model, data)[0].loss
    ratio = ratio / terms(DenoisingScoreMatching(), model, data)[0].loss
    torch.testing.assert_close(ratio, torch.full_like(ratio, 2 * math.log(5000.0)))


def test_the_edm_weight_is_that_of_the_paper() -> None:
    # arXiv 2206.00364, table 1: (sigma^2 + s^2) / (sigma s)^2 on |D(x) - x0|^2, for alpha = 1
    sde, data = sde_named("edm"), gaussian()
    model, loss = model_that_says(_guess, sde), DenoisingScoreMatching(weight="edm", times="log_normal")
    x0 = data.sample(500)
    eps, u = Noise(0).normal("eps", 0, x0.shape, dtype=torch.float64), Noise(0).uniform("u", 0, 500)
    t = loss.sample_times(sde, u)
    error = ((model(sde.perturb(x0, t, eps), t).x0 - x0) ** 2).mean(1)
    expected = (t**2 + SIGMA_DATA**2) / (t * SIGMA_DATA) ** 2 * error
    torch.testing.assert_close(loss(model, Batch(x0, u, eps)).loss, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", SDES)
def test_with_the_edm_weight_a_network_of_zeros_has_loss_one_at_every_level(name: str) -> None:
    sde = sde_named(name)

    class Zero(nn.Module):
        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            return torch.zeros_like(x)

    data = GaussianMixture([1.0], [[0.0, 0.0]], (SIGMA_DATA**2 * torch.eye(2))[None])
    model = ScoreModel(Zero(), sde, "edm", SIGMA_DATA)
    (values, _), t = terms(DenoisingScoreMatching(weight="edm"), model, data, 40_000)
    for part in values[torch.argsort(t)].chunk(8):
        assert part.mean().item() == pytest.approx(1, abs=5 * part.std().item() / math.sqrt(len(part)))


# ---- times ----


def _cdf(name: str, loss: DenoisingScoreMatching, sde: SDE) -> Any:
    """Distribution function of the times, from scipy."""
    if name == "uniform":
        return stats.uniform(sde.t_train, sde.T - sde.t_train).cdf
    if name == "lambda":
        low, high = sde.at(sde.t_start).lam, sde.at(sde.t_train).lam
        return lambda t: stats.uniform(-high, high - low).cdf(-sde.lam(torch.as_tensor(t)).numpy())
    ends = (-sde.lam(torch.tensor([sde.t_train, sde.T])) - loss.mean) / loss.std
    law = stats.truncnorm(*ends.tolist(), loc=loss.mean, scale=loss.std)
    return lambda t: law.cdf(-sde.lam(torch.as_tensor(t)).numpy())


@pytest.mark.parametrize("times", ["uniform", "log_normal", "lambda"])
@pytest.mark.parametrize("name", SDES)
def test_times_have_the_density_asked_for(name: str, times: Any) -> None:
    sde, loss = sde_named(name), DenoisingScoreMatching(times=times)
    cdf = _cdf(times, loss, sde)
    t = loss.sample_times(sde, Noise(1).uniform("u", 0, 5000))
    assert stats.kstest(t.numpy(), cdf).pvalue > 0.01
    assert sde.t_train <= t.min()
    assert t.max() <= sde.T


@pytest.mark.parametrize("name", SDES)
def test_the_ends_of_the_unit_interval_are_times_of_the_path(name: str) -> None:
    sde = sde_named(name)
    u = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)
    for times in ("uniform", "log_normal"):
        for mean in (-1.2, 6.0, -6.0):  # outside the range of the SDE too
            t = DenoisingScoreMatching(times=times, mean=mean).sample_times(sde, u)
            assert torch.isfinite(t).all()
            assert sde.t_train <= t.min() <= t.max() <= sde.T
    for changes in ({}, {"times": "log_normal", "mean": -3.0, "std": 5.0}):  # and not only within them
        t = DenoisingScoreMatching(**changes).sample_times(sde, u)
        ends = torch.tensor([sde.t_train, sde.T], dtype=torch.float64)
        torch.testing.assert_close(sde.lam(t), sde.lam(ends), rtol=0, atol=1e-7)
        range_of_lam = DenoisingScoreMatching(**changes).range_of_lam(model_that_says(_guess, sde))
        assert range_of_lam == pytest.approx(sde.lam(ends.flip(0)).tolist(), rel=1e-12)


def test_densities_differ_by_importance_alone() -> None:
    # the mean under uniform times from log-normal ones, weighted by the ratio of the densities
    sde, data = VPSDE(), gaussian()
    model = model_that_says(data.posterior_mean, sde)
    (uniform, _), _ = terms(DenoisingScoreMatching(), model, data, 40_000)
    loss = DenoisingScoreMatching(times="log_normal", mean=0.5, std=2.0)
    (values, _), t = terms(loss, model, data, 40_000, seed=1)
    cdf, h = _cdf("log_normal", loss, sde), 1e-5 * t.numpy()
    density = torch.from_numpy((cdf(t.numpy() + h) - cdf(t.numpy() - h)) / (2 * h))
    ratio = values / density / (sde.T - sde.t_train)
    ratio = ratio[(t + torch.from_numpy(h)) < sde.T]
    error = math.hypot(ratio.std().item(), uniform.std().item()) / math.sqrt(40_000)
    assert ratio.mean().item() == pytest.approx(uniform.mean().item(), abs=5 * error)
    assert error < 0.02 * uniform.mean().item()


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("name", SDES)
def test_times_uniform_in_lam_leave_every_objective_as_it_is(name: str, weight: Any) -> None:
    # the error of this model is a function of the level alone, so that both expectations are integrals over u
    sde, n = sde_named(name), 4000
    model = model_that_says(lambda x, a, s: 0.1 * s / (a + s) + 0 * x, sde)
    x0, eps = torch.zeros(n, 1, dtype=torch.float64), torch.ones(n, 1, dtype=torch.float64)
    other = DenoisingScoreMatching(weight, "lambda")
    t = other.sample_times(sde, (torch.arange(n) + 0.5) / n)
    u = (t - sde.t_train) / (sde.T - sde.t_train)
    values = DenoisingScoreMatching(weight)(model, x0, u, eps).loss
    uniform = torch.trapezoid(values, u).abs() / (u.max() - u.min())
    found = other(model, x0, (torch.arange(n, dtype=torch.float64) + 0.5) / n, eps).loss.mean()
    torch.testing.assert_close(found, uniform, rtol=3e-3, atol=0)


def test_times_in_proportion_to_the_weight_have_less_variance() -> None:
    data = gaussian()
    model = model_that_says(data.posterior_mean, VPSDE())
    losses = [DenoisingScoreMatching("likelihood", times, stratified=False) for times in ("uniform", "lambda")]
    uniform, best = (terms(loss, model, data)[0].loss for loss in losses)
    assert best.var() < 0.2 * uniform.var()


# ---- shapes, settings, files ----


@pytest.mark.parametrize("event", [(1,), (5,), (3, 4, 6), (2, 3, 3, 3)])
def test_events_of_any_shape(event: tuple[int, ...]) -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            return 0.5 * x

    model, loss = ScoreModel(Half(), VPSDE()), DenoisingScoreMatching()
    x0, eps, u = torch.randn(7, *event), torch.randn(7, *event), torch.rand(7)
    values, lam = loss(model, Batch(x0, u, eps))
    assert values.dtype == torch.float32
    flat = loss(model, Batch(x0.reshape(7, -1), u, eps.reshape(7, -1)))
    torch.testing.assert_close(values, flat.loss)
    assert torch.equal(lam, flat.lam)


def test_a_part_of_a_batch_keeps_the_numbers_of_its_samples() -> None:
    x0 = torch.arange(12.0).reshape(6, 2)
    cond = {"class": torch.arange(6)}
    for rows, numbers in ((None, [1, 3, 5]), (range(10, 22, 2), [12, 16, 20])):
        part = Batch(x0, x0[:, 0], -x0, cond, Noise(3, rows), 7).part(range(1, 6, 2))
        assert torch.equal(part.x0, x0[1::2])
        assert torch.equal(part.u, x0[1::2, 0])
        assert torch.equal(part.eps, -x0[1::2])
        assert part.cond is not None
        assert part.cond["class"].tolist() == [1, 3, 5]
        assert (part.noise.seed, list(part.noise.rows or ()), part.step) == (3, numbers, 7)
    plain = Batch(x0, x0[:, 0], -x0)
    assert (plain.cond, plain.noise, plain.step) == (None, Noise(0), 0)


def test_a_loss_of_ones_own_asks_for_nothing_that_it_does_not_state() -> None:
    class Own(Loss):
        def __call__(self, model: nn.Module, batch: Batch) -> LossTerms:
            return LossTerms(batch.x0.flatten(1).sum(1))

    loss = Own()
    assert [loss.stratified, loss.importance, loss.differentiates] == [False] * 3
    assert loss.teacher is None
    assert loss.range_of_lam(nn.Identity()) is None
    assert DenoisingScoreMatching().stratified
    assert not DenoisingScoreMatching().importance


def test_the_default_density_is_that_of_its_paper() -> None:
    """P_mean and P_std of arXiv 2206.00364, table 1."""
    loss = DenoisingScoreMatching()
    assert (loss.weight, loss.times, loss.mean, loss.std) == ("noise", "uniform", -1.2, 1.2)


def test_tensors_are_a_batch_and_must_fit_each_other() -> None:
    model, loss = ScoreModel(nn.Identity(), VPSDE()), DenoisingScoreMatching()
    model.net.forward = lambda x, c: 0.5 * x
    x0, u, eps = torch.randn(6, 2), torch.rand(6), torch.randn(6, 2)
    assert torch.equal(loss(model, x0, u, eps).loss, loss(model, Batch(x0, u, eps)).loss)
    assert torch.equal(loss(model, x0, u=u, eps=eps).loss, loss(model, Batch(x0, u, eps)).loss)
    for wrong, text in (((x0, u[:, None], eps), r"u: \(6, 1\)"), ((x0, u, eps[:, :1]), r"eps: \(6, 1\)")):
        with pytest.raises(InputError, match=text):
            loss(model, *wrong)


@pytest.mark.parametrize("event", [(1,), (5,), (3, 8, 8)])
def test_an_output_of_another_shape_is_refused_not_broadcast(event: tuple[int, ...]) -> None:
    class Narrow(nn.Module):
        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            return x[:, 0] if x.shape[1:] == (1,) else x[:, :1]

    model, x0, eps = ScoreModel(Narrow(), VPSDE()), torch.randn(6, *event), torch.randn(6, *event)
    with pytest.raises(InputError, match="Narrow returned shape"):
        DenoisingScoreMatching()(model, x0, torch.rand(6), eps)


@pytest.mark.parametrize(
    ("name", "value"), [("weight", "snr"), ("times", "log-normal"), ("std", 0.0), ("std", -1.2), ("std", math.nan)]
)
def test_settings_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{name}: .* give") as error:
        DenoisingScoreMatching(**{name: value})
    assert repr(value) in str(error.value)


def test_the_files_are_what_they_are_called() -> None:
    import yaml
    from support import CONF

    built = {n: build(yaml.safe_load((CONF / "loss" / f"{n}.yaml").read_text())) for n in options("loss")}
    matching = {n: loss for n, loss in built.items() if isinstance(loss, DenoisingScoreMatching)}
    assert {n: loss.weight for n, loss in matching.items()} == {**{n: n for n in WEIGHTS}, "ncsn": "noise"}
    assert {n for n, loss in matching.items() if loss.times == "log_normal"} == {"edm"}
