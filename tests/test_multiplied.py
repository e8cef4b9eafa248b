"""Reverse steps multiplied with a second distribution: the product of a step, and where many steps lead."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from scipy.integrate import solve_ivp
from support import gaussian, sde_named
from torch import Tensor

from scoresde import Ancestral, DiscreteVPSDE, ExactModel, GaussianMixture, InputError, RectifiedSDE, Sampler
from scoresde.chains import BitEvidence, Evidence, ExactBits, GaussianEvidence, SmoothEvidence
from scoresde.control.guidance import Conditioned
from scoresde.sampling import BitFlips, Discrete, EulerMaruyama, Heun, MultipliedSteps

INF, DOUBLE = math.inf, torch.float64
Y, S = 0.7, 0.5  # r is N(Y, S^2)


def log_r(x: Tensor) -> Tensor:
    return -0.5 * ((x - Y) / S).square().sum(1)


def evidence(kind: type[Evidence], variance: float, sde: object) -> Evidence:
    model = ExactModel(GaussianMixture([1.0], [[0.0]], [[[variance]]]), sde)
    return kind(model, log_r) if kind is SmoothEvidence else kind(model, torch.tensor([Y]), torch.tensor([S]))


def test_the_product_of_a_gaussian_step_is_that_of_the_densities():
    exact, y = ExactModel(gaussian(), sde_named("vp")), torch.tensor([Y, 0.0], dtype=DOUBLE)
    model = GaussianEvidence(exact, y, torch.tensor([S, INF]))
    smooth = SmoothEvidence(exact, lambda x: log_r(x[:, :1]))
    first, x = torch.tensor([[-0.4, 0.3]], dtype=DOUBLE), torch.linspace(-9, 9, 20_001, dtype=DOUBLE)
    for power, std in itertools.product((1.0, 0.4), (0.8, torch.full((1, 2), 0.8, dtype=DOUBLE))):
        mean, found = torch.broadcast_tensors(*model.multiplied(first, std, power))
        density = torch.softmax(-0.5 * ((x - first[0, 0]) / 0.8) ** 2 + power * log_r(x[:, None]), 0)
        moments = [float(density @ x), float(density @ x**2 - (density @ x) ** 2)]
        torch.testing.assert_close([float(mean[0, 0]), float(found[0, 0]) ** 2], moments, rtol=1e-9, atol=1e-9)
        assert (float(mean[0, 1]), float(found[0, 1])) == (pytest.approx(0.3), pytest.approx(0.8))
    # a smooth r is right to first order in the variance
    coarse, fine = (smooth.multiplied(first, s, 1.0)[0] - model.multiplied(first, s, 1.0)[0] for s in (0.1, 0.05))
    assert math.log2(coarse.abs().max() / fine.abs().max()) == pytest.approx(4, abs=0.1)
    known = GaussianEvidence(exact, y, torch.tensor([0.0, INF])).multiplied(first, 0.8, 1.0)
    assert (float(known[0][0, 0]), float(known[1][0])) == (pytest.approx(Y), 0)


def test_the_product_of_a_step_of_bits_is_that_of_the_probabilities():
    states = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)), dtype=DOUBLE)
    odds, power = torch.tensor([2.0, -1.0, INF], dtype=DOUBLE), 0.6
    model = BitEvidence(ExactBits(states, sde_named("rectified")), odds)
    before = torch.tensor([[0.2, 0.01, 0.3]], dtype=DOUBLE)
    x, flip = model.multiplied(states[:1], before, power)
    r = torch.where(states > 0, torch.sigmoid(odds), torch.sigmoid(-odds)).prod(1) ** power
    step = torch.where(states == x, 1 - before, before)
    both = step.prod(1) * r
    found = torch.where(states == x, 1 - flip, flip).prod(1)
    torch.testing.assert_close(found, both / both.sum(), rtol=1e-9, atol=1e-12)


def test_a_rising_power_is_that_of_the_level_after_the_step():
    sde, times = RectifiedSDE(T=0.8), torch.tensor([0.8, 0.6, 0.4, 0.0], dtype=DOUBLE)
    plan = MultipliedSteps(BitFlips(), "rising", power=0.5).plan(sde, times)
    assert [power for _, power in plan] == pytest.approx([0.125, 0.25, 0.5])


def limit(variance: float, power: float, rising: bool) -> list[float]:
    """Mean and variance of x_0 of the reverse SDE with the drift g^2 c grad log r, by its equation in log alpha^2."""

    def rate(u: float, m: list[float]) -> list[float]:
        t = (math.sqrt(0.1**2 - 4 * 9.95 * u) - 0.1) / 19.9  # u = -0.1 t - 9.95 t^2
        c = power * (1 - t if rising else 1) / S**2
        slope = 0.5 - 1 / (1 + math.exp(u) * (variance - 1)) - c
        return [slope * m[0] + c * Y, 2 * slope * m[1] + 1]

    return solve_ivp(rate, (-10.05, 0.0), [0.0, 1.0], rtol=1e-9, atol=1e-11).y[:, -1].tolist()


@pytest.mark.parametrize("kind", [GaussianEvidence, SmoothEvidence])
@pytest.mark.parametrize(
    ("variance", "solver"),
    [
        (1.0, MultipliedSteps()),
        (1.0, MultipliedSteps(power=0.5)),
        (0.2, MultipliedSteps(Ancestral(1.0, "upper"), "rising")),
    ],
)
def test_many_steps_lead_to_the_sde_with_the_slope_of_r_with_order_1(kind, variance, solver, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    from chain_limit import Impulses

    def apart(n):
        model = evidence(kind, variance, DiscreteVPSDE(levels=n, first=0.1 / n, last=20 / n))
        start = torch.zeros(n + 2, 1, dtype=DOUBLE)
        start[-1] = 1
        *_, (_, x) = Sampler(solver, Discrete(), n).path(model, start, Impulses())
        return torch.tensor([x[0], (x[1:] - x[0]).square().sum()]) - torch.tensor(expected)

    expected = limit(variance, solver.power, solver.schedule == "rising")
    coarse, fine = apart(100).abs(), apart(300).abs()
    assert float(fine.max()) < 0.02
    assert math.log(float(coarse.max() / fine.max()), 3) == pytest.approx(1, abs=0.15)


def test_on_data_of_unit_variance_the_limit_has_r_squared_and_half_the_power_is_the_posterior():
    for power in (1.0, 0.5):
        precision = 1 + 2 * power / S**2
        assert limit(1.0, power, False) == pytest.approx([(precision - 1) * Y / precision, 1 / precision], abs=1e-8)


def test_samples_in_turn_have_evidence_of_their_own_whatever_the_batch_size():
    model, y = ExactModel(gaussian(), sde_named("vp")), torch.tensor([[1.0, 0.0], [-2.0, 0.0]])
    known = GaussianEvidence(model, y, torch.tensor([0.0, INF]))
    sampler = Sampler(MultipliedSteps(), steps=12)
    found = sampler.sample(known, n=5, batch_size=2, dtype=DOUBLE)
    assert torch.equal(found.x, sampler.sample(known, n=5, dtype=DOUBLE).x)
    torch.testing.assert_close(found.x[:, 0], y[[0, 1, 0, 1, 0], 0].double())
    assert found.nfe == 12
    beats = ExactBits(torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]]), sde_named("rectified"))
    x = Sampler(MultipliedSteps(), steps=30).sample(BitEvidence(beats, torch.tensor([INF, 0.0, 0.0])), n=200).x
    assert (x[:, 0] == 1).all()
    assert (x[:, 1] == -1).double().mean() > 0.7


def drawn(model, **given):
    return Sampler(MultipliedSteps(**given), steps=4).sample(model, n=2)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda r: drawn(r.model), "model: ExactModel has no second distribution; make Gaussian"),
        (lambda r: drawn(Conditioned(r, {})), "model: Conditioned has no second distribution"),
        (lambda r: drawn(r, solver=BitFlips()), "solver: BitFlips is for a chain of bits"),
        (lambda _: MultipliedSteps(Heun()), "solver: .*give Ancestral with eta=1"),
        (lambda _: MultipliedSteps(Ancestral(0.5)), "solver: .*give Ancestral with eta=1"),
        (lambda _: MultipliedSteps(power=0.0), "power: 0.0 is not allowed"),
        (lambda _: MultipliedSteps(schedule="falling"), "schedule: 'falling'"),
        (lambda r: SmoothEvidence(r.model, lambda x: x)(torch.zeros(3, 2), 0.5), r"log_r: \(3, 2\) .*\(3,\)"),
    ],
)
def test_what_cannot_be_multiplied_is_refused_in_one_line(make, says):
    model = GaussianEvidence(ExactModel(gaussian(), sde_named("vp")), torch.zeros(2), torch.ones(2))
    with pytest.raises(InputError, match=says) as error:
        make(model)
    assert "\n" not in str(error.value)


def test_the_score_of_the_product_serves_other_solvers():
    model = evidence(SmoothEvidence, 1.0, sde_named("vp"))
    x = torch.tensor([[0.3], [-1.0]], dtype=DOUBLE)
    torch.testing.assert_close(model(x, 0.4).score, model.model(x, 0.4).score + (Y - x) / S**2)
    mean = Sampler(EulerMaruyama(), steps=60).sample(model, n=500, dtype=DOUBLE).x.mean()
    assert float(mean) == pytest.approx(limit(1.0, 1.0, False)[0], abs=0.05)
