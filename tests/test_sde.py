"""The paths: derived coefficients against the equations they must solve, inverses, limits and published values."""

import copy
import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from support import SDES, OrnsteinUhlenbeck, sde_named

import scoresde
from scoresde import EDMSDE, SDE, VESDE, VPSDE, CosineSDE, InputError, RectifiedSDE, SubVPSDE
from scoresde.dynamics import reverse_drift


@pytest.mark.parametrize("name", SDES)
def test_drift_and_diffusion_transport_the_moments(name):
    """d alpha/dt = f alpha and d sigma^2/dt = 2 f sigma^2 + g^2 lead from t_min to T."""
    sde = sde_named(name)

    def rate(t, y):
        f, g2 = float(sde.f(t)), float(sde.g2(t))
        return [f * y[0], 2 * f * y[1] + g2]

    start = sde.at(sde.t_min)
    end = solve_ivp(rate, (sde.t_min, sde.T), [start.alpha, start.sigma**2], method="DOP853", rtol=1e-11, atol=1e-13)
    last = sde.at(sde.T)
    np.testing.assert_allclose(end.y[:, -1], [last.alpha, last.sigma**2], rtol=1e-8)


@pytest.mark.parametrize("name", SDES)
def test_all_functions_are_the_same_in_inference_mode(name):
    t, found = torch.tensor([0.2, 0.5], dtype=torch.float64), []
    for mode in (torch.no_grad, torch.inference_mode):
        sde = copy.deepcopy(sde_named(name))
        with mode():
            values = [f(t) for f in (sde.alpha, sde.sigma, sde.lam, sde.f, sde.g, sde.g2)]
            found.append(torch.stack([*values, *sde.slopes(t), sde.t_of_lam(sde.lam(t))]))
    assert torch.equal(*found)
    torch.testing.assert_close(found[0][-1], t)


def test_drift_and_diffusion_are_those_of_the_papers():
    t = torch.linspace(1e-5, 1, 50, dtype=torch.float64)
    beta = 0.1 + 19.9 * t
    for sde in (VPSDE(), SubVPSDE()):
        torch.testing.assert_close(sde.f(t), -beta / 2, rtol=1e-9, atol=0)
    torch.testing.assert_close(VPSDE().g2(t), beta, rtol=1e-9, atol=0)
    discount = 1 - VPSDE().alpha(t) ** 4
    torch.testing.assert_close(SubVPSDE().g2(t), beta * discount, rtol=1e-6, atol=0)
    sde = VESDE(0.01, 50.0)
    torch.testing.assert_close(sde.g(t), sde.sigma(t) * math.sqrt(2 * math.log(5000)), rtol=1e-9, atol=0)
    torch.testing.assert_close(EDMSDE().g2(t), 2 * t)


def test_published_values_of_vp():
    sde = VPSDE()
    assert sde.at(1.0).alpha == pytest.approx(0.00657, abs=5e-6)
    assert sde.at(1.0).sigma == pytest.approx(0.999978, abs=5e-7)
    assert sde.at(1.0).lam == pytest.approx(-5.025, abs=5e-4)
    assert sde.at(1e-3).sigma == pytest.approx(0.010485, abs=5e-7)


@pytest.mark.parametrize("name", SDES)
@settings(deadline=None)
@given(u=st.floats(0, 1))
def test_time_of_lam_is_the_inverse(name, u):
    sde = sde_named(name)
    t = sde.t_train * (sde.T / sde.t_train) ** u
    assert float(sde.t_of_lam(sde.lam(t))) == pytest.approx(t, rel=1e-7)
    # the general inverse by bisection agrees with the closed form
    assert float(SDE.t_of_lam(sde, sde.lam(t))) == pytest.approx(t, rel=1e-7)


@pytest.mark.parametrize("name", SDES)
def test_the_repr_constructs_the_same_path(name):
    sde = sde_named(name)
    again = eval(repr(sde), {cls: getattr(scoresde, cls) for cls in scoresde.__all__})
    t = torch.linspace(sde.t_min, sde.T, 9, dtype=torch.float64)
    assert type(again) is type(sde)
    assert again.__dict__.keys() == sde.__dict__.keys()
    assert torch.equal(again.lam(t), sde.lam(t))
    assert (again.T, again.t_min, again.t_train) == (sde.T, sde.t_min, sde.t_train)


@pytest.mark.parametrize("cls", [VPSDE, SubVPSDE])
def test_coefficients_are_exact_near_zero_whatever_the_dtype(cls):
    t = torch.tensor(1e-5, dtype=torch.float32)
    with mpmath.workdps(40):
        u = mpmath.mpf(float(t))
        decay = 1 - mpmath.exp(-(mpmath.mpf("0.1") * u + mpmath.mpf("19.9") * u**2 / 2))
        exact = float(mpmath.sqrt(decay) if cls is VPSDE else decay)
    assert float(cls().sigma(t)) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("offset", [0.008, 0.0])
def test_cosine_is_exact_at_both_ends(offset):
    """Against the published alpha_bar(t) = cos^2(...) / cos^2(...) and 1 - alpha_bar, with forty digits."""
    sde = CosineSDE(offset)
    for t in (1e-9, 1e-5, 0.3, 0.996, 1 - 1e-9):
        with mpmath.workdps(40):
            s = mpmath.mpf(offset)
            squares = [mpmath.cos((mpmath.mpf(u) + s) / (1 + s) * mpmath.pi / 2) ** 2 for u in (t, 0)]
            bar = squares[0] / squares[1]
            alpha, sigma, lam = mpmath.sqrt(bar), mpmath.sqrt(1 - bar), mpmath.log(bar / (1 - bar)) / 2
        assert float(sde.alpha(t)) == pytest.approx(float(alpha), rel=1e-13)
        assert float(sde.sigma(t)) == pytest.approx(float(sigma), rel=1e-13)
        assert float(sde.t_of_lam(float(lam))) == pytest.approx(t, rel=1e-13)


def test_cut_offs_of_the_paths_that_end_in_infinity():
    assert CosineSDE().at(0.996).lam == pytest.approx(-5.08, abs=0.005)
    assert CosineSDE(0.0).at(0.996).lam == pytest.approx(-5.07, abs=0.005)
    assert RectifiedSDE().at(0.999).lam == pytest.approx(-6.91, abs=0.005)
    for sde in (CosineSDE(), CosineSDE(0.0), RectifiedSDE()):
        assert math.isfinite(float(sde.g2(sde.T)))


def test_the_velocity_of_the_rectified_path_is_noise_minus_data():
    dalpha, dsigma = RectifiedSDE().slopes(torch.linspace(1e-5, 0.999, 20, dtype=torch.float64))
    assert torch.equal(dalpha, -torch.ones(20, dtype=torch.float64))
    assert torch.equal(dsigma, torch.ones(20, dtype=torch.float64))


@pytest.mark.parametrize("cls", [VPSDE, SubVPSDE, VESDE])
def test_another_horizon_is_the_same_path_at_another_speed(cls):
    short, long = cls(), cls(T=10.0)
    t = torch.linspace(0.01, 1, 20, dtype=torch.float64)
    torch.testing.assert_close(long.alpha(10 * t), short.alpha(t))
    torch.testing.assert_close(long.sigma(10 * t), short.sigma(t))
    torch.testing.assert_close(10 * long.g2(10 * t), short.g2(t))


def test_horizons_below_one_are_fine():
    sde = VPSDE(T=0.5, t_train=1e-3)  # the smallest time of training may be that of sampling
    assert float(sde.sigma(0.5)) == float(VPSDE().sigma(1.0))


@pytest.mark.parametrize("cls", [VPSDE, SubVPSDE])
def test_inverses_keep_all_digits_where_hardly_any_signal_is_left(cls):
    sde = cls(beta_max=90.0)
    t = torch.linspace(0.5, 1, 30, dtype=torch.float64)
    torch.testing.assert_close(sde.t_of_lam(sde.lam(t)), t, rtol=1e-13, atol=0)


def test_tuned_grids_know_their_sde_by_this_text():
    assert VPSDE().attributes_text() == "VPSDE(T=1.0, t_min=0.001, t_train=1e-05, beta_min=0.1, beta_max=20.0)"
    assert EDMSDE().attributes_text() == "EDMSDE(T=80.0, t_min=0.002, t_train=0.002, sigma_min=0.002, sigma_max=80.0)"


def test_levels_of_many_times_are_not_kept_for_ever():
    """An adaptive solver always asks for new ones."""
    sde = VPSDE()
    for k in range(12):
        sde.remember(torch.linspace(0.1, 0.2, 1000, dtype=torch.float64) + 0.01 * k)
    assert len(sde._levels) <= 11_000
    assert sde.at(0.3) == tuple(float(f(0.3)) for f in (sde.alpha, sde.sigma, sde.lam))


@pytest.mark.parametrize("name", [*SDES, "bisected"])
def test_a_float_is_taken_to_all_its_digits(name):
    """0.3 in float32 is another number."""
    sde = OrnsteinUhlenbeck() if name == "bisected" else sde_named(name)
    for function in (sde.alpha, sde.sigma, sde.lam, sde.f, sde.g2, sde.g, sde.t_of_lam):
        value, exact = function(0.3), function(torch.tensor(0.3, dtype=torch.float64))
        assert value.dtype == torch.float64
        assert torch.equal(value, exact)
    assert reverse_drift(sde, 0.3, 1.0) == reverse_drift(sde, torch.tensor(0.3, dtype=torch.float64), 1.0)


def test_two_methods_are_enough():
    """A user's SDE gets the rest."""
    sde = OrnsteinUhlenbeck()
    assert float(sde.f(2.0)) == pytest.approx(-0.5, rel=1e-12)
    assert float(sde.g2(torch.tensor(0.3))) == pytest.approx(1.0, rel=1e-12)
    assert float(sde.t_of_lam(sde.lam(0.7))) == pytest.approx(0.7, rel=1e-12)


def test_perturbed_data_has_the_moments_of_the_path():
    sde, n = VPSDE(), 200_000
    eps = torch.randn(n, 1, generator=torch.Generator().manual_seed(0))
    x = sde.perturb(torch.full((n, 1), 3.0), torch.full((n,), 0.3), eps)
    level = sde.at(0.3)
    assert x.mean().item() == pytest.approx(3 * level.alpha, abs=5 * level.sigma / n**0.5)
    assert x.std().item() == pytest.approx(level.sigma, rel=5 / (2 * n) ** 0.5)


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (lambda: VESDE(sigma_min=50.0, sigma_max=1.0), "sigma_max: 1.0"),
        (lambda: EDMSDE(sigma_min=1.0, sigma_max=1.0), "sigma_max: 1.0"),
        (lambda: VESDE(sigma_min=0.0), "sigma_min: 0.0"),
        (lambda: VPSDE(beta_min=-1.0), "beta_min: -1.0"),
        (lambda: VPSDE(beta_max=float("nan")), "beta_max: nan"),
        (lambda: VPSDE(T=-1.0), "T: -1.0"),
        (lambda: VPSDE(T=0.0), r"^T: 0\.0 .* give a number > 0"),
        (lambda: VPSDE(T=math.inf), "^T: inf"),
        (lambda: VPSDE(beta_min=2.0, beta_max=2.0), r"^beta_max: 2\.0 .* > beta_min = 2\.0"),
        (lambda: VESDE(sigma_min=2.0, sigma_max=2.0), r"^sigma_max: 2\.0 .* > sigma_min = 2\.0"),
        (lambda: VPSDE(t_min=2.0), "t_min: 2.0"),
        (lambda: SubVPSDE(t_train=0.5), "t_train: 0.5"),
        (lambda: CosineSDE(T=1.0), "T: 1.0"),
        (lambda: CosineSDE(offset=-0.1), "offset: -0.1"),
        (lambda: RectifiedSDE(T=1.0), "T: 1.0"),
    ],
)
def test_impossible_parameters_are_named(make, culprit):
    with pytest.raises(InputError, match=culprit):
        make()
