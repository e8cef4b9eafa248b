"""The default solver against laws: what it is exact for, what its weights minimise, and that scale does not matter."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.interpolate import BarycentricInterpolator
from support import exact_model, mixture, sde_named

from scoresde import VESDE, VPSDE, Auto, ExactModel, GaussianMixture, Langevin, Sampler, Terminal
from scoresde.dynamics import EtaWindow
from scoresde.metrics.sliced import sliced_wasserstein
from scoresde.model import Model
from scoresde.noise import Noise
from scoresde.prediction import Prediction
from scoresde.sampling import Ancestral, DPMSolverPP2M, Heun, Karras, LambdaUniform
from scoresde.sampling.auto import _believed, _weights
from scoresde.sampling.candidates import CANDIDATES, LEVELS, rows
from scoresde.sampling.foresight import _Units
from scoresde.sampling.grid import widest

DOUBLE = torch.float64


def gaussian(spread, sde):
    """An exact model of N(0, spread^2 I) that knows its standard deviation."""
    model = ExactModel(GaussianMixture([1.0], [[0.0, 0.0]], [[[spread**2, 0.0], [0.0, spread**2]]]), sde)
    model.sigma_data = spread
    return model


@pytest.mark.parametrize("steps", [2, 3, 7])
@pytest.mark.parametrize("spread", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("name", ["vp", "ve", "edm", "rectified", "cosine"])
def test_gaussian_data_are_exact_in_two_steps(name, spread, steps):
    """Their v is zero at every level, in units of their standard deviation, and one candidate expects that."""
    model = gaussian(spread, sde_named(name))
    level = model.sde.at(model.sde.t_start)
    x = Noise(1).normal("start", 0, (20, 2), dtype=DOUBLE) * model.sde.prior_std
    *_, (t, found) = Sampler(steps=steps).path(model, x, Noise(0))
    exact = x * spread / math.hypot(level.alpha * spread, level.sigma)
    assert t == 0
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=0)


def test_one_step_is_the_prediction():
    model = exact_model(sde_named("vp"))
    x = Noise(1).normal("start", 0, (20, 2), dtype=DOUBLE)
    *_, (_, found) = Sampler(steps=1).path(model, x, Noise(0))
    torch.testing.assert_close(found, model(x, model.sde.T).x0, rtol=0, atol=1e-7)


@pytest.mark.parametrize("factor", [0.05, 20.0])
def test_data_of_another_scale_are_the_same_problem(factor):
    def drawn(scale):
        law = mixture()
        model = ExactModel(GaussianMixture(law.weights, scale * law.means, scale**2 * covariances(law)), ve(scale))
        model.sigma_data = scale
        *_, (_, x) = Sampler(steps=9).path(model, scale * 50 * Noise(4).normal("z", 0, (30, 2), dtype=DOUBLE), Noise(0))
        return x / scale

    torch.testing.assert_close(drawn(factor), drawn(1.0), rtol=1e-8, atol=1e-8)


class NoisePredictor(Model):
    """An exact model that predicts the noise, with an error near pure noise, in standard deviations of it."""

    def __init__(self, exact, error=0.0, along=0.0):
        super().__init__(exact.sde)
        self.exact, self.error, self.along = exact, error, along
        self.sigma_data, self.event_shape = exact.sigma_data, exact.event_shape

    device = "cpu"

    def forward(self, x, t, cond=None):
        found, level = self.exact(x, t).eps, self.sde.at(t)
        wrong = level.sigma / level.alpha > widest(x[0].numel()) * self.sigma_data
        return Prediction.of(x, self.sde, t, eps=found + wrong * (self.error + self.along * found))


def many_values():
    """N(0.4, 1) for each of 16 values."""
    return GaussianMixture([1.0], torch.full((1, 16), 0.4, dtype=DOUBLE), torch.eye(16, dtype=DOUBLE)[None])


@pytest.mark.parametrize("wrong", [{"error": 0.3}, {"along": -0.3}, {"error": -0.2, "along": 0.3}])
@pytest.mark.parametrize(("name", "eta"), [("cosine", 0), ("cosine", 1), ("ve", 0), ("vp", 0)])
def test_an_error_of_the_noise_near_pure_noise_stays_as_small_as_data(name, eta, wrong):
    """While x0_hat is off by 2 R at most, so is x / alpha, of which the exact flow leaves s / sqrt(s^2 + r^2)."""
    exact = ExactModel(many_values(), sde_named(name))
    x = exact.sde.prior_std * Noise(2).normal("start", 0, (40, 16), dtype=DOUBLE)
    right, off = (
        list(Sampler(Auto(eta), steps=20).path(model, x, Noise(3)))[-1][1]
        for model in (NoisePredictor(exact), NoisePredictor(exact, **wrong))
    )
    apart = (off - right).square().mean(1).sqrt()
    assert float(apart.max()) < 2 * 1.5 / math.hypot(1, widest(16))


def test_what_is_believed_is_x0_hat_or_nearer_to_the_truth():
    exact = ExactModel(many_values(), sde_named("vp"))
    x = Noise(2).normal("start", 0, (40, 16), dtype=DOUBLE)
    truth, off = exact(x, 1.0).x0, NoisePredictor(exact, error=0.02, along=-0.03)
    found = off(x, 1.0).x0
    assert torch.all((_believed(off(x, 1.0), 1.0) - truth).norm(dim=1) < (found - truth).norm(dim=1))
    for t, model in ((1.0, NoisePredictor(exact)), (0.5, off)):  # in the ball, and where noise is no larger than data
        assert torch.equal(_believed(model(x, t), 1.0), model(x, t).x0)
    large = Prediction.of(x, exact.sde, 1.0, x0=100 * x)
    assert torch.equal(_believed(large, 1.0), large.x0)


def test_between_two_levels_with_noise_the_ode_of_the_network_is_solved_as_it_is():
    exact = ExactModel(many_values(), sde_named("vp"))
    off, x = NoisePredictor(exact, error=0.3), Noise(2).normal("start", 0, (4, 16), dtype=DOUBLE)
    *_, (_, found) = Sampler(Auto(), LambdaUniform(), steps=200).path(off, x, Noise(0), to=0.9)
    *_, (_, fine) = Sampler(Heun(), LambdaUniform(), steps=400).path(off, x, Noise(0), to=0.9)
    torch.testing.assert_close(found, fine, rtol=0, atol=1e-4)


def ve(scale):
    return VESDE(sigma_min=0.01 * scale, sigma_max=50 * scale)


def covariances(law):
    return (law.axes * law.variances[:, None]) @ law.axes.mT


@pytest.mark.parametrize("c", range(len(CANDIDATES)))
def test_candidates_are_exact_for_polynomials(c):
    """P a polynomial along the path: what is expected comes, and steps are integrals of it, which scipy computes."""
    candidate, sde, sigma_data, zero = CANDIDATES[c], VPSDE(), 0.4, -math.log(1e-9)
    times = torch.cat((Terminal(sigma_data=sigma_data)(sde, 8), torch.zeros(1)))
    lam = sde.lam(times[:-1]).numpy() + math.log(sigma_data)
    r = np.exp(-np.append(lam, zero))

    def at(level):
        return float(candidate.variable(torch.tensor(-math.log(level), dtype=DOUBLE)))

    knots = np.linspace(at(r[0]), at(r[-1]), candidate.order)
    polynomial = BarycentricInterpolator(knots, np.cos(3 * np.arange(candidate.order)))
    # dy/dr = (y - x0) / r, with x0 from P and y
    share = {"x0": lambda level: (1.0, 0.0), "v": lambda level: (-level / np.hypot(1, level), 1 / np.hypot(1, level))}
    length = {"x0": lambda level: level, "v": lambda level: np.hypot(1, level)}[candidate.quantity]
    speed = {"x0": lambda level: -(level**-2), "v": lambda level: 1 / (1 + level**2)}[candidate.quantity]

    def step(y, a, b):
        def slope(u):
            return polynomial(at(math.exp(u))) * speed(math.exp(u)) * math.exp(u)

        return length(b) * (y / length(a) + quad(slope, math.log(a), math.log(b), epsabs=0, epsrel=1e-10, limit=200)[0])

    y = [2.0]
    for a, b in itertools.pairwise(r):
        y.append(step(y[-1], a, b))
    y = np.array(y)
    of_x0, of_eps = np.array([share[candidate.quantity](level) for level in r[:-1]]).T
    p = np.array([float(polynomial(at(level))) for level in r[:-1]])
    x0 = (p - of_eps * y[:-1] / r[:-1]) / (of_x0 - of_eps / r[:-1])
    found = rows(sde, times, sigma_data)[0][:, :, c].numpy()
    alpha = np.append(sde.alpha(times[:-1]), 1.0)
    for i in range(candidate.order, len(r) - 1):
        seen = np.zeros((2, LEVELS))
        for j in range(max(0, i - LEVELS + 1), i + 1):
            seen[:, j % LEVELS] = alpha[j] * y[j], x0[j]
        missed, again, ahead = found[i] @ seen.ravel()
        scale = abs(x0).max()
        assert missed == pytest.approx(0, abs=1e-8 * scale)
        assert again / alpha[i] == pytest.approx(y[i], rel=1e-7, abs=1e-8 * scale)
        assert ahead / alpha[i + 1] == pytest.approx(y[i + 1], rel=1e-6, abs=1e-6 * scale)


def test_weights_use_that_errors_cancel():
    """w^T S w against that of the inverse squares and of the best candidate alone, on products of random errors."""
    noise = Noise(8)
    errors = noise.normal("errors", 0, (40, 6, 3), dtype=DOUBLE) * torch.exp(noise.normal("size", 0, (40, 6, 1)))
    products = errors @ errors.mT
    found = _weights(products.permute(1, 2, 0)).T
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(1), torch.ones(40, dtype=DOUBLE))
    plain = 1 / products.diagonal(dim1=1, dim2=2)
    plain = plain / plain.sum(1, keepdim=True)

    def size(w):
        return torch.einsum("bc,bcd,bd->b", w, products, w)

    best_single = products.diagonal(dim1=1, dim2=2).amin(1)
    assert (size(found) < 0.8 * size(plain)).double().mean() > 0.5
    assert (size(found) <= 1.001 * best_single).double().mean() > 0.9


@pytest.mark.parametrize("name", ["vp", "edm", "rectified"])
def test_the_order_is_that_of_the_best_candidate_with_its_corrector(name):
    """Four; three values at most, or no step made again, leave less than 3.5."""
    model = exact_model(sde_named(name))
    x = Noise(2).normal("start", 0, (50, 2), dtype=DOUBLE) * model.sde.prior_std
    ends = {}
    for steps in (40, 160, 480):
        *_, (_, ends[steps]) = Sampler(grid=Terminal(high=15.0), steps=steps).path(model, x, Noise(0))
    coarse, fine = (float((ends[n] - ends[480]).norm(dim=1).median()) for n in (40, 160))
    assert math.log(coarse / fine, 4) > 3.7


@pytest.mark.parametrize("steps", [4, 6, 10, 20])
def test_it_beats_the_usual_choices_on_narrow_modes(steps):
    model = exact_model(sde_named("vp"))
    x = Noise(3).normal("start", 0, (100, 2), dtype=DOUBLE)
    *_, (_, exact) = Sampler(steps=300).path(model, x, Noise(0))

    def error(sampler):
        *_, (_, found) = sampler.path(model, x, Noise(0))
        return float((found - exact).norm(dim=1).median())

    assert error(Sampler(steps=steps)) < min(error(Sampler(s, steps=steps)) for s in (DPMSolverPP2M(), Heun()))


def test_each_sample_chooses_for_itself():
    model = exact_model(sde_named("vp"))
    together = Sampler(steps=8).sample(model, (2,), 12, dtype=DOUBLE).x
    alone = Sampler(steps=8).sample(model, (2,), 12, batch_size=1, dtype=DOUBLE).x
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_events_of_any_shape_are_the_same_numbers():
    class Reshaped(ExactModel):
        def forward(self, x, t, cond=None):
            return type(self)._flat(x, super().forward(x.flatten(1), t), self.sde, t)

        @staticmethod
        def _flat(x, prediction, sde, t):
            return type(prediction).of(x, sde, t, x0=prediction.x0.reshape(x.shape))

    flat = exact_model(sde_named("vp"))
    shaped = Reshaped(flat.data, flat.sde)
    x = Noise(2).normal("start", 0, (10, 2), dtype=DOUBLE)
    *_, (_, expected) = Sampler(steps=8).path(flat, x, Noise(0))
    *_, (_, found) = Sampler(steps=8).path(shaped, x.reshape(10, 1, 2, 1), Noise(0))
    assert torch.equal(found.flatten(1), expected)


def test_gradients_pass_through():
    """dx/dz by autograd and by differences; an evaluation in between is not written over."""
    model = exact_model(sde_named("vp"))
    z, direction = Noise(6).normal("start", 0, (2, 5, 2), dtype=DOUBLE)
    sampler = Sampler(steps=7)

    def end(start):
        *_, (_, x) = sampler.path(model, start, Noise(0))
        return x

    start = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(end(start).square().sum(), start)
    with torch.no_grad():
        ahead, back = (end(z + h * direction).square().sum() for h in (1e-6, -1e-6))
    assert float((gradient * direction).sum()) == pytest.approx(float((ahead - back) / 2e-6), rel=1e-5)


def covariances_of_levels(sampler, spread):
    """Of y = x / alpha at all levels, from one run in which each random number in turn is one; exact, and r."""
    model, noise = gaussian(spread, sde_named("vp")), _Units()
    times = sampler.times(model)
    r = torch.cat((torch.exp(-model.sde.lam(times)), torch.zeros(1)))
    start = noise.normal("prior", 0, (len(r), 2), "cpu", DOUBLE) * (spread**2 + r[0] ** 2).sqrt()
    alpha = [*model.sde.alpha(times).tolist(), 1.0]
    path = sampler.path(model, start * alpha[0], noise)
    y = torch.stack([x[:, 0] / a for (_, x), a in zip(path, alpha, strict=True)])
    return y @ y.T, r


@pytest.mark.parametrize("eta", [0.5, 1.0, EtaWindow(1.0, 0.05, 1.0)])
@pytest.mark.parametrize("steps", [2, 3, 7, 20])
def test_noise_keeps_the_law_of_gaussian_data_whatever_the_steps(eta, steps):
    found, r = covariances_of_levels(Sampler(Auto(eta), steps=steps), 0.3)
    torch.testing.assert_close(found.diagonal(), 0.3**2 + r**2, rtol=1e-6, atol=0)


def test_with_short_steps_the_path_has_the_law_of_the_reverse_sde():
    """The reverse SDE is the forward process backwards, in which y moves by independent steps of variance d(r^2)."""
    errors = []
    for steps in (100, 200):
        found, r = covariances_of_levels(Sampler(Auto(1.0), LambdaUniform(), steps), 0.3)
        exact = 0.3**2 + torch.minimum(r, r[:, None]) ** 2
        scale = exact.diagonal().sqrt()
        errors.append(float(((found - exact) / (scale * scale[:, None])).abs().max()))
    assert errors[1] < 0.55 * errors[0] < 0.04


def test_with_noise_few_steps_reach_the_floor_on_narrow_modes():
    model, n = exact_model(sde_named("vp")), 4000
    first, second = (mixture().sample(n, seed) for seed in (1, 2))

    def apart(solver, grid=None):
        x = Sampler(solver, grid, steps=12).sample(model, (2,), n, batch_size=n, dtype=DOUBLE).x
        return sliced_wasserstein(x, first, 50)

    assert apart(Auto(1.0)) < 1.4 * sliced_wasserstein(first, second, 50) < 0.5 * apart(DPMSolverPP2M(1.0), Karras())


def test_a_corrector_moves_samples_and_keeps_the_law():
    sampler = Sampler(steps=60, corrector=Langevin(0.05, 2))
    model = gaussian(1.0, sde_named("vp"))
    x = sampler.sample(model, (2,), 4000).x
    assert x.var() == pytest.approx(1, abs=0.05)
    assert not torch.equal(x, Sampler(steps=60).sample(model, (2,), 4000).x)


def test_a_network_of_single_precision_differs_by_rounding():
    model = exact_model(sde_named("vp"))
    coarse, fine = (Sampler(steps=25).sample(model, (2,), 200, dtype=kind).x for kind in (torch.float32, DOUBLE))
    assert float((coarse - fine).norm(dim=1).median()) < 1e-4


@pytest.mark.parametrize(("points", "sigma_data"), [(1, None), (6, 0.5), (20, 3.0)])
def test_the_grid_leaves_one_equal_step_to_noise_zero(points, sigma_data):
    sde = sde_named("edm")
    times = Terminal(low=0.1, high=7.0, sigma_data=sigma_data)(sde, points)
    r = torch.cat((torch.exp(-sde.lam(times)) / (sigma_data or 1.0), torch.zeros(1)))
    h = torch.log((r + 0.1) / (1 + r / 7.0))
    torch.testing.assert_close(h.diff(), h.diff().mean().expand(points), rtol=1e-6, atol=1e-9)
    assert times[0] == sde.T


def test_the_grid_takes_its_unit_from_the_model_and_its_end_from_the_solver():
    model = gaussian(0.3, VPSDE())
    own = Sampler(steps=12).times(model)
    assert torch.equal(own, Terminal(sigma_data=0.3, dimension=2)(model.sde, 12))
    assert not torch.equal(own, Terminal()(model.sde, 12))
    for sampler in (Sampler(Ancestral(), Terminal(), 12), Sampler(grid=Terminal(), steps=11, denoise=False)):
        assert float(sampler.times(model)[-1]) == model.sde.t_min
    many = Sampler(steps=900).times(model)
    assert float(many[-1]) == pytest.approx(model.sde.t_train, rel=1e-6)
