"""Predictions and preconditionings: identities between everything a model says."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import SDES, exact_model, sde_named
from torch import nn

from scoresde import InputError, ScoreModel, count_evaluations
from scoresde.control import Conditioned, Wrapper
from scoresde.model import device_of
from scoresde.precond import coefficients
from scoresde.prediction import levels, rates

KINDS = ["eps", "x0", "v", "score", "edm", "velocity"]
QUANTITIES = ["x0", "eps", "v", "velocity", "score"]


class Linear(nn.Module):
    """A small network that uses its noise level."""

    def __init__(self, d=3):
        super().__init__()
        self.map = nn.Linear(d, d)

    def forward(self, x, c):
        return torch.tanh(self.map(x)) * torch.cos(c)[:, None]


class Oracle(nn.Module):
    """Returns what it is told, whatever the input."""

    def __init__(self, out):
        super().__init__()
        self.out = out

    def forward(self, x, c):
        return self.out


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SDES)
def test_identities_between_predictions(kind, name):
    """x = alpha x0 + sigma eps, score = -eps/sigma, and x0, eps are recovered from (x, v)."""
    sde = sde_named(name)
    model, x = ScoreModel(Linear().double(), sde, kind), draw(20, 3)
    with torch.no_grad():
        for lam in (-2.0, 0.0, 3.0):
            t = float(sde.t_of_lam(lam))
            p, level = model(x, t), sde.at(t)
            torch.testing.assert_close(level.alpha * p.x0 + level.sigma * p.eps, x, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(p.score * -level.sigma, p.eps, rtol=1e-9, atol=1e-9)
            unit = level.alpha**2 + level.sigma**2
            torch.testing.assert_close((level.alpha * x - level.sigma * p.v) / unit, p.x0, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(p.combine(2.0, 3.0, 5.0), 2 * x + 3 * p.x0 + 5 * p.eps, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("other", ["vp", "edm", "rectified"])
def test_under_another_path_it_says_the_same_of_the_same_data(kind, name, other):
    """x / alpha and sigma / alpha are what two paths have in common, so x0 and eps are the same there."""
    model = ScoreModel(Linear().double(), sde_named(name), kind)
    moved, clean, noise = model.under(sde_named(other)), draw(20, 3), draw(3, 20).T
    with torch.no_grad():
        for lam in (-2.0, 0.3, torch.linspace(-2, 3, 20, dtype=torch.float64)):
            said = []
            for here in (model, moved):
                t = here.sde.t_of_lam(lam) if isinstance(lam, torch.Tensor) else float(here.sde.t_of_lam(lam))
                said.append(here(here.sde.perturb(clean, t, noise), t))
            torch.testing.assert_close(said[1].x0, said[0].x0, rtol=1e-7, atol=1e-9)
            torch.testing.assert_close(said[1].eps, said[0].eps, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "edm"])
def test_the_network_output_is_what_its_name_says(kind):
    out, sde = draw(4, 3), sde_named("subvp")
    assert torch.allclose(getattr(ScoreModel(Oracle(out), sde, kind)(draw(4, 3), 0.4), kind), out, rtol=1e-12)


def test_noise_prediction_does_not_cancel_at_the_ends():
    """At both ends of the path eps is the float32 output itself, to the bit."""
    out, sde = draw(4, 3).float(), sde_named("vp")
    for t in (1e-5, 1e-3, 1.0):
        assert torch.equal(ScoreModel(Oracle(out), sde, "eps")(draw(4, 3).float(), t).eps, out)


@given(alpha=st.floats(0.01, 1), sigma=st.floats(1e-3, 100), s=st.floats(0.1, 3))
def test_edm_gives_input_and_target_unit_variance(alpha, sigma, s):
    """The defining property: with data of variance s^2, c_in x and the target of F have variance one.

    And c_skip makes the error of x0 least sensitive to F: c_out has its minimum there (arXiv 2206.00364, app. B.6).
    """
    c = coefficients("edm", alpha, sigma, 0.0, s)
    assert c.c_in**2 * (alpha**2 * s**2 + sigma**2) == pytest.approx(1)
    target = ((1 - c.c_skip * alpha) * s) ** 2 + (c.c_skip * sigma) ** 2
    assert target / c.c_out**2 == pytest.approx(1)
    for nudge in (0.99, 1.01):
        skip = c.c_skip * nudge
        assert ((1 - skip * alpha) * s) ** 2 + (skip * sigma) ** 2 >= target


def test_noise_level_does_not_know_its_sde():
    """The same log-SNR gives every network the same input, whatever the SDE."""
    seen = []

    class Spy(nn.Module):
        def forward(self, x, c):
            seen.append(c)
            return x

    for name in SDES:
        sde = sde_named(name)
        ScoreModel(Spy(), sde)(draw(2, 3), float(sde.t_of_lam(0.5)))
    for c in seen[1:]:
        torch.testing.assert_close(c, seen[0], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_time_per_sample_is_the_same_as_one_at_a_time(kind):
    model, x = ScoreModel(Linear().double(), sde_named("vp"), kind), draw(5, 3)
    t = torch.tensor([0.01, 0.1, 0.3, 0.7, 1.0], dtype=torch.float64)
    with torch.no_grad():
        together, alone = model(x, t).x0, torch.cat([model(x[k : k + 1], float(t[k])).x0 for k in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-11, atol=1e-11)


def test_state_stays_in_its_dtype_and_evaluations_are_counted():
    model = ScoreModel(Linear().bfloat16(), sde_named("vp"))
    with torch.no_grad(), count_evaluations() as spent:
        assert model(draw(5, 3), 0.5).x0.dtype == torch.float64
        assert model(draw(7, 3).float(), 0.5).x0.dtype == torch.float32
    assert spent.samples == 12


def test_condition_reaches_the_network():
    class Net(nn.Module):
        def forward(self, x, c, cond):
            return x + cond[:, None]

    model = ScoreModel(Net(), sde_named("vp"), "x0", sigma_data=1.0)
    x, cond = draw(4, 3), draw(4)
    plain = model(x, 0.5, torch.zeros(4)).x0
    torch.testing.assert_close(model(x, 0.5, cond).x0 - plain, cond[:, None].expand(4, 3))
    assert torch.equal(model(x, 0.5, cond=cond).x0, model(x, 0.5, cond).x0)


@pytest.mark.parametrize(("change", "text"), [({"precond": "epsilon"}, "precond"), ({"sigma_data": 0.0}, "sigma_data")])
def test_bad_input_is_named(change, text):
    with pytest.raises(InputError, match=text):
        ScoreModel(Linear(), sde_named("vp"), **change)


def test_evaluations_on_another_path_are_counted_too():
    model = ScoreModel(Linear(), sde_named("vp"))
    with count_evaluations() as spent:
        model(draw(5, 3).float(), 0.5)
        assert spent.samples == 5
        model.under(sde_named("edm"))(draw(4, 3).float(), 0.5)
        assert spent.samples == 9
        model(draw(2, 3).float(), 0.5)
    assert spent.samples == 11


def test_a_level_of_another_path_is_inverted_once():
    """An inversion may cost as much as a small network."""

    class Spied(type(sde_named("subvp"))):
        asked = 0

        def t_of_lam(self, lam):
            Spied.asked += 1
            return super().t_of_lam(lam)

    model = ScoreModel(Linear().double(), Spied(), "v").under(sde_named("edm"))
    values = [model(draw(4, 3), 2.0).x0 for _ in range(3)]
    assert Spied.asked == 1
    torch.testing.assert_close(values[2], values[0], rtol=0, atol=0)
    model(draw(4, 3), torch.full((4,), 2.0))
    model(draw(4, 3), 3.0)
    assert Spied.asked == 3


def test_what_a_model_says_of_itself():
    plain, exact = ScoreModel(Linear(), sde_named("vp")), exact_model(sde_named("vp"))
    assert (plain.sigma_data, exact.sigma_data, plain.precond) == (0.5, 1.0, "edm")
    assert (plain.cost, dict(plain.conditions), plain.event_shape, exact.event_shape) == (1, {}, None, (2,))
    assert plain.of_samples(torch.arange(3)) is plain
    assert Wrapped(exact).of_samples(torch.arange(3)).model is exact
    wrapped = Wrapped(exact)
    assert wrapped.of_samples(torch.arange(3)) is wrapped


def test_a_module_is_where_its_first_parameter_or_buffer_is():
    """A device without memory, meta, tells them apart; the children may be None, or have nothing."""
    parent = nn.Sequential(nn.Identity(), nn.Linear(2, 2, device="meta"))
    parent.register_module("none", None)
    early = nn.Module()
    early.none = None
    early.register_module("nothing", None)
    early.parts = parent
    early.register_buffer("later", torch.zeros(1))  # a parameter goes first
    buffers = nn.Sequential(nn.Identity(), nn.BatchNorm1d(2, affine=False, device="meta"))
    assert [device_of(m).type for m in (parent, early, buffers, nn.Identity())] == ["meta", "meta", "meta", "cpu"]


class Wrapped(Wrapper):
    def forward(self, x, t, cond=None):
        return self.model(x, t, cond)


class Zeros(nn.Module):
    """A network that says zero at every level, so that nothing but the time can be wrong."""

    def forward(self, x, c):
        return 0 * x


def conditioned_network():
    net = Zeros()
    net.forward = lambda x, c, cond: 0 * x
    return Conditioned(ScoreModel(net, sde_named("vp")), 0)


@pytest.mark.parametrize(
    "model",
    [
        ScoreModel(Zeros(), sde_named("vp")),
        exact_model(sde_named("vp")),
        Wrapped(exact_model(sde_named("vp"))),
        conditioned_network(),
    ],
    ids=["network", "exact", "wrapped", "conditioned"],
)
def test_times_that_the_path_does_not_have_are_refused(model):
    x, nan = torch.ones(4, 2), float("nan")
    for t in (999, 1.5, 1 + 1.05e-6, -0.1, nan, torch.full((4,), 999.0), torch.tensor([0.1, nan, 0.2, 0.3])):
        with pytest.raises(InputError, match=r"^t: .* is not allowed; give a time from t_train = 1e-05 to T = 1$"):
            model(x, t)
    for t in (0.0, 0, torch.tensor([0.5, 0.5, 0.0, 0.5])):
        with pytest.raises(InputError, match=r"^t: 0.0 is not allowed; alpha\(t\) = 1 and sigma\(t\) = 0 there; give"):
            model(x, t)
    for t in (torch.full((4, 1), 0.5), torch.full((3,), 0.5), "1", None, True, [0.1] * 4):
        with pytest.raises(InputError, match=r"^t: .* is not allowed; give"):
            model(x, t)
    for t in (1, 1.0, 1 + 9e-7, 1e-9, torch.tensor(0.5), torch.ones(4), np.float32(0.5)):
        assert torch.isfinite(model(x, t).x0).all()
    assert model(x[:0], torch.ones(0)).x0.shape == (0, 2)


def test_one_time_makes_floats_and_a_time_per_sample_tensors():
    sde = sde_named("vp")
    for t in (0.3, torch.tensor(0.3, dtype=torch.float64)):
        assert levels(sde, t) == tuple(sde.at(0.3))
        assert all(type(value) is float for value in (*levels(sde, t), *rates(sde, t)))
        assert rates(sde, t) == pytest.approx([float(s) for s in sde.slopes(0.3)])
    for of_each in (*levels(sde, torch.ones(3)), *rates(sde, torch.ones(3))):
        assert of_each.shape == (3,)


def test_ends_of_a_path_are_times_also_in_float32():
    """0.999 in float32 lies above 0.999, and the noise of VE does not end at t = 0."""
    assert float(torch.tensor(0.999)) > sde_named("rectified").T
    assert torch.isfinite(exact_model(sde_named("rectified"))(torch.ones(4, 2), torch.full((4,), 0.999)).eps).all()
    assert torch.isfinite(exact_model(sde_named("ve"))(torch.ones(4, 2), 0.0).eps).all()
