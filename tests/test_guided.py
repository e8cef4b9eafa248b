"""Guidance by two predictions: identities on exact conditional mixtures, and what is refused."""

import math

import pytest
import torch
from support import sde_named, solver_named

from scoresde import Conditioned, GaussianMixture, InputError, Sampler
from scoresde.conditional import ConditionalMixture, ExactConditional
from scoresde.control import ClassifierGuided, Guided, PlusPlus, Projected
from scoresde.evaluations import count_evaluations
from scoresde.noise import Noise
from scoresde.sampling import DDIM, EulerMaruyama, Heun, Langevin

SDES = ["vp", "ve", "edm", "rectified"]
MIXTURE = GaussianMixture(
    [0.3, 0.2, 0.5], [[-1.0, 0.5], [1.0, 1.5], [0.5, -1.0]], [[[v, 0.0], [0.0, 0.1]] for v in (0.1, 0.3, 0.2)]
)
DATA = ConditionalMixture(MIXTURE, [0, 1, 0])
X = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 1, 0, 0, 1])


def models(sde: str = "vp", scale: float = 1.0) -> tuple[ExactConditional, Conditioned, Conditioned]:
    model = ExactConditional(DATA, sde_named(sde))
    return model, Conditioned(model, LABELS, scale), Conditioned(model, LABELS, 0.0)


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("t", [0.02, 0.5, 0.9])
def test_the_exact_classifier_gives_the_conditional_model(sde: str, t: float) -> None:
    model, strong, weak = models(sde)
    t = t * model.sde.T
    for times in (t, torch.linspace(0.5, 1, 6, dtype=torch.float64) * t):
        exact, scale = strong(X, times).x0, 2.5
        torch.testing.assert_close(ClassifierGuided(model, DATA, LABELS)(X, times).x0, exact, rtol=0, atol=1e-11)
        guided = ClassifierGuided(model, DATA, LABELS, scale)(X, times).x0
        torch.testing.assert_close(guided, Guided(strong, weak, scale)(X, times).x0, rtol=0, atol=1e-10)
        torch.testing.assert_close(guided, Conditioned(model, LABELS, scale)(X, times).x0, rtol=0, atol=1e-10)
        torch.testing.assert_close(Guided(strong, weak)(X, times).x0, exact, rtol=0, atol=1e-12)


def test_classes_of_a_mixture_are_a_mixture() -> None:
    joint = [DATA.shares[c].log() + DATA.of_class(c).log_prob(X, 0.8, 0.3) for c in (0, 1)]
    torch.testing.assert_close(torch.stack(joint, 1).logsumexp(1), MIXTURE.log_prob(X, 0.8, 0.3))
    for scale in (0.5, 1.0, 3.0):
        x = DATA.tilted(0, scale, 20_000, seed=1)
        proposals = MIXTURE.sample(200_000, seed=2)
        weights = (scale * DATA.log_classes(proposals)[:, 0]).exp()
        expected = (weights @ proposals) / weights.sum()
        torch.testing.assert_close(x.mean(0), expected, rtol=0, atol=0.03)
    with pytest.raises(InputError, match=r"classes: .* without gaps"):
        ConditionalMixture(MIXTURE, [0, 2, 0])


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_power_of_a_tilted_class_is_that_of_its_integral(scale: float) -> None:
    """The mean of log p(c | x) grows with the scale by its variance, so that 5 % of the power are apart."""
    data = ConditionalMixture(GaussianMixture([0.5, 0.5], [[-0.5], [0.5]], [[[1.0]], [[0.25]]]), [0, 1])
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    log_c = data.log_classes(grid)[:, 0]
    law = torch.softmax(data.mixture.log_prob(grid) + scale * log_c, 0)
    found = data.log_classes(data.tilted(0, scale, 200_000))[:, 0]
    mean = law @ log_c
    change = 0.025 * abs(scale - 1 if scale > 1 else scale) * float(law @ (log_c - mean).square())
    assert abs(float(found.mean() - mean)) < change
    assert 3 * float(found.std()) < change * 200_000**0.5


@pytest.mark.parametrize("sde", SDES)
def test_an_interval_is_one_of_noise_levels_on_every_path(sde: str) -> None:
    model, strong, weak = models(sde)
    guided = Guided(strong, weak, 3.0, [0.2, 3.0])
    levels = torch.tensor([0.1, 0.19, 0.21, 1.0, 2.9, 3.1], dtype=torch.float64)
    times = model.sde.t_of_lam(-levels.log())
    alpha = model.sde.alpha(times)[:, None]
    full = Conditioned(model, LABELS, 3.0)
    inside = torch.tensor([False, False, True, True, True, False])[:, None]
    expected = torch.where(inside, full(alpha * X, times).x0, strong(alpha * X, times).x0)
    with count_evaluations() as spent:
        torch.testing.assert_close(guided(alpha * X, times).x0, expected, rtol=0, atol=1e-10)
    assert spent.samples == 6 + 3
    for k, t in enumerate(times.tolist()):
        with count_evaluations() as spent:
            one = guided(alpha[k] * X, t).x0
        assert spent.samples == 6 * guided.cost_at(t) == 6 * (2 if inside[k] else 1)
        torch.testing.assert_close(one[k], expected[k], rtol=0, atol=1e-10)


def test_the_interval_of_a_classifier_leaves_the_conditional_model() -> None:
    model, strong, _ = models()
    guided = ClassifierGuided(model, DATA, LABELS, 3.0, [0.2, 3.0])
    times = model.sde.t_of_lam(-torch.tensor([0.1, 0.1, 1.0, 1.0, 5.0, 5.0], dtype=torch.float64).log())
    same = (guided(X, times).x0 - strong(X, times).x0).abs().amax(1) < 1e-9
    assert same.tolist() == [True, True, False, False, True, True]


@pytest.mark.parametrize("solver", ["heun", "unipc_2", "sde_dpmpp_2m", "adaptive_bosh3", "auto", "restart"])
def test_every_sample_of_a_guided_model_depends_on_seed_and_index_alone(solver: str) -> None:
    model = ExactConditional(DATA, sde_named("vp"))
    strong, weak = Conditioned(model, [0, 1, 1]), Conditioned(model, [0, 1, 1], 0.0)
    sampler = Sampler(solver_named(solver), steps=8)
    for guided in (Guided(strong, weak, 2.0, [0.2, 3.0]), ClassifierGuided(model, DATA, [0, 1, 1], 2.0)):
        whole = sampler.sample(guided, n=7, dtype=torch.float64).x
        parts = sampler.sample(guided, n=7, batch_size=3, dtype=torch.float64).x
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)


def test_the_step_of_cfgpp_is_one_of_guidance_whose_scale_grows_as_steps_shrink() -> None:
    model, strong, weak = models()
    times = torch.tensor([0.5, 0.45], dtype=torch.float64)
    h = float(model.sde.lam(times).diff())
    for scale in (0.6, 1.0):
        steps = []
        for guided in (Guided(strong, weak, scale, None, PlusPlus()), Guided(strong, weak, scale / -math.expm1(-h))):
            steps.append(list(DDIM().integrate(guided, times, X.clone(), Noise(0)))[-1][1])
        torch.testing.assert_close(*steps, rtol=0, atol=1e-10)
    prediction = Guided(strong, weak, 0.6, None, PlusPlus())(X, 0.5)
    torch.testing.assert_close(prediction.eps, weak(X, 0.5).eps, rtol=0, atol=1e-10)
    torch.testing.assert_close(prediction.x0, 0.6 * strong(X, 0.5).x0 + 0.4 * weak(X, 0.5).x0, rtol=0, atol=1e-10)


@pytest.mark.parametrize("sampler", [Sampler(Heun()), Sampler(), Sampler(DDIM(), corrector=Langevin())])
def test_cfgpp_is_refused_where_it_is_not_defined(sampler: Sampler) -> None:
    _, strong, weak = models()
    with pytest.raises(InputError, match=r"guidance_method: cfgpp .*give "):
        Guided(strong, weak, 0.6, None, PlusPlus()).suits(sampler)
    plain = Sampler(EulerMaruyama())
    assert Guided(strong, weak, 0.6, None, PlusPlus()).suits(plain) is plain


def test_projection_drops_what_is_along_the_prediction() -> None:
    _, strong, weak = models()
    x0 = strong(X, 0.5).x0
    moved = Guided(strong, weak, 3.0, None, Projected())(X, 0.5).x0 - x0
    assert ((moved * x0).sum(1).abs() < 1e-10).all()
    assert (moved.norm(dim=1) > 1e-3).all()
    kept = Guided(strong, weak, 3.0, None, Projected(parallel=1.0))(X, 0.5).x0
    torch.testing.assert_close(kept, Guided(strong, weak, 3.0)(X, 0.5).x0, rtol=0, atol=1e-10)
    short = Guided(strong, weak, 3.0, None, Projected(1.0, norm=0.1))(X, 0.5).x0 - x0
    apart = kept - x0
    torch.testing.assert_close(short.norm(dim=1), apart.norm(dim=1).clamp(max=2 * 0.1), rtol=1e-9, atol=1e-12)


def test_a_weaker_model_on_another_path_is_evaluated_at_the_same_noise() -> None:
    _, strong, _ = models("vp")
    _, other, _ = models("edm", 0.0)
    guided = Guided(strong, Conditioned(other.model, LABELS, 0.0), 2.0)
    torch.testing.assert_close(guided(X, 0.4).x0, Conditioned(strong.model, LABELS, 2.0)(X, 0.4).x0)
    ve = sde_named("ve")
    torch.testing.assert_close(guided.under(ve)(X, 0.4).x0, Guided(*models("ve")[1:], 2.0)(X, 0.4).x0)


def test_what_cannot_guide_is_refused() -> None:
    model, strong, weak = models()
    line = GaussianMixture([1.0, 1.0], [[0.0], [1.0]], [[[1.0]]] * 2)
    other = ExactConditional(ConditionalMixture(line, [0, 1]), model.sde)
    with pytest.raises(InputError, match=r"guide: \(1,\) .* \(2,\)"):
        Guided(strong, other)
    for interval in ([3.0, 0.2], [1.0], [-1.0, 2.0], [math.nan, 1.0]):
        with pytest.raises(InputError, match=r"interval: .* such as \[0\.2,3\]"):
            Guided(strong, weak, 2.0, interval)
    with pytest.raises(InputError, match="scale: -1"):
        Guided(strong, weak, -1.0)
    with pytest.raises(InputError, match="label: "):
        ClassifierGuided(model, DATA, -1)
