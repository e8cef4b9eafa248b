"""Time grids: laws of spacing, the published discrete levels, and what is refused."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from support import SDES, built, exact_model, options, sde_named

from scoresde import VPSDE, InputError, Sampler
from scoresde.sampling import DDIM, ContinuousGrid, Cosine, Discrete, Explicit, LambdaUniform, Quadratic, TimeUniform

GRIDS = options("grid")
CONTINUOUS = [name for name in GRIDS if name != "list" and isinstance(built("grid", name), ContinuousGrid)]

# the variable in which each grid takes equal steps, as a function of an SDE and times
VARIABLES = {
    "time": lambda sde, t: t,
    "quadratic": lambda sde, t: t.sqrt(),
    "lambda": lambda sde, t: sde.lam(t),
    "noise_share": lambda sde, t: sde.sigma(t) / (sde.alpha(t) + sde.sigma(t)),
    "karras": lambda sde, t: (sde.sigma(t) / sde.alpha(t)) ** (1 / 7),
    "cosine": lambda sde, t: torch.arccos(
        (1 - 2 * (sde.lam(t) - sde.lam(sde.T)) / (sde.lam(sde.t_min) - sde.lam(sde.T))).clamp(-1, 1)
    ),
}

# Lin et al. 2023 (arXiv 2305.08891), table 2, T = 1000 and S = 10, copied by hand; and its formulas for other S
PUBLISHED = {
    "leading": [1, 101, 201, 301, 401, 501, 601, 701, 801, 901],
    "linspace": [1, 112, 223, 334, 445, 556, 667, 778, 889, 1000],
    "trailing": [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000],
}
FORMULAS = {  # in exact fractions, since in floating point arange and linspace miss a level here and there
    "leading": lambda n, s: [1 + i * (n // s) for i in range(n)][:s],  # alone it has more where s does not divide n
    "linspace": lambda n, s: [round(1 + Fraction(n - 1, s - 1) * i) for i in range(s)],
    "trailing": lambda n, s: [round(n - Fraction(n, s) * i) for i in range(s)][::-1],
}


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("grid", CONTINUOUS)
def test_grids_fall_from_the_prior_to_the_cut_off(grid, sde):
    path = sde_named(sde)
    for points in range(2, 101):
        times = built("grid", grid)(path, points)
        assert (len(times), times.dtype) == (points, torch.float64)
        assert times[0] == path.T
        assert times[-1] == path.t_min
        assert (times.diff() < 0).all()
    assert built("grid", grid)(path, 1).tolist() == [path.T]


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("grid", CONTINUOUS)
def test_grids_take_equal_steps_in_their_variable(grid, sde):
    path = sde_named(sde)
    steps = VARIABLES[grid](path, built("grid", grid)(path, 30)).diff()
    torch.testing.assert_close(steps, steps.mean().expand(29), rtol=1e-6, atol=0)


@pytest.mark.parametrize("ends", [(0.8, 0.2), (0.2, 0.8), (0.3, 0.31)])
@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("grid", CONTINUOUS)
def test_grids_run_between_any_two_levels_in_either_direction(grid, sde, ends):
    path = sde_named(sde)
    start, end = (u * path.T for u in ends)
    times = built("grid", grid)(path, 9, start, end)
    assert (float(times[0]), float(times[-1])) == (start, end)
    torch.testing.assert_close(times, built("grid", grid)(path, 9, end, start).flip(0), rtol=1e-9, atol=0)
    assert (times.diff() * (end - start) > 0).all()


@pytest.mark.parametrize("spacing", PUBLISHED)
def test_discrete_grids_take_their_levels_too(spacing):
    sde, grid = sde_named("vp"), Discrete(spacing)
    assert (grid(sde, 5, 0.2, 0.6) * 1000).round().tolist() == [200, 300, 400, 500, 600]
    assert (grid(sde, 5, 0.6, 0.2) * 1000).round().tolist() == [600, 500, 400, 300, 200]
    if spacing == "leading":
        with pytest.raises(InputError, match="does not begin at level 600"):
            grid(sde, 5, 0.6)
    else:
        assert float(grid(sde, 6, 0.6)[0]) == 0.6
        assert float(grid(sde, 6, 0.6)[-1]) == pytest.approx({"trailing": 0.1, "linspace": 0.001}[spacing])
    with pytest.raises(InputError, match=r"start: 0\.50049 .* 100 levels, such as 0\.5$"):
        Discrete(spacing, 100)(sde, 5, 0.50049)
    if spacing != "leading":
        in_float32 = float(torch.tensor(0.6))  # 0.60000002
        assert float(grid(sde, 6, in_float32)[0]) == in_float32


def test_discrete_levels_may_lie_at_the_smallest_time_and_a_prior_may_differ_by_a_tenth():
    assert Discrete("linspace", 100_000)(sde_named("vp"), 5)[-1] == sde_named("vp").t_train
    leading = Discrete("leading", 2)  # with one point it begins at T / 2
    assert leading(VPSDE(beta_max=13.5), 1).tolist() == [0.5]  # where sigma is 0.907
    with pytest.raises(InputError, match="use trailing or linspace"):
        leading(VPSDE(beta_max=12.6), 1)  # and 0.895
    assert Discrete()(VPSDE(beta_max=2.0), 5)[0] == 1.0  # at T there is nothing better


def test_karras_grid_in_closed_form_for_edm():
    sde = sde_named("edm")
    ramp = np.linspace(0, 1, 18)
    published = (80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(built("grid", "karras")(sde, 18).numpy(), published, rtol=1e-9)


def test_cosine_points_are_where_a_chebyshev_polynomial_is_extreme():
    """At them T_N is +1 and -1 in turn, and nowhere larger; here in time."""
    sde, n = sde_named("vp"), 12
    unit = 2 * (Cosine("time")(sde, n + 1) - sde.t_min) / (sde.T - sde.t_min) - 1
    values = np.polynomial.chebyshev.Chebyshev.basis(n)(unit.numpy())
    np.testing.assert_allclose(values, (-1.0) ** np.arange(n + 1), atol=1e-9)


def test_quadratic_is_the_sub_sequence_of_ddim():
    """tau_i proportional to i^2, of which the first is t_min here."""
    sde = sde_named("vp")
    times = Quadratic()(sde, 9).flip(0)
    shifted = np.sqrt(times.numpy())
    np.testing.assert_allclose(np.diff(times.numpy(), 2), 2 * (shifted[1] - shifted[0]) ** 2, rtol=1e-9)


@pytest.mark.parametrize("spacing", PUBLISHED)
def test_discrete_levels_are_the_published_ones(spacing):
    assert Discrete(spacing).numbers(10)[::-1] == PUBLISHED[spacing]
    for levels in (1000, 999, 250):
        for points in range(2, 101):
            expected = FORMULAS[spacing](levels, points)
            assert Discrete(spacing, levels).numbers(points)[::-1] == expected, (levels, points)


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("spacing", PUBLISHED)
def test_discrete_times_are_levels_of_the_sde(spacing, sde):
    """Every number of steps gives levels of the SDE's own time, or is refused where the prior would be wrong."""
    path = sde_named(sde)
    for points in range(1, 101):
        first = path.sigma(path.T * Discrete(spacing).numbers(points)[0] / 1000)
        if abs(first / path.prior_std - 1) > 0.1:
            assert spacing == "leading"
            assert sde in ("ve", "edm") or points < 10
            with pytest.raises(InputError, match="use trailing or linspace"):
                Discrete(spacing)(path, points)
            continue
        times = Discrete(spacing)(path, points)
        assert len(times) == points
        assert (times.diff() < 0).all()
        assert times[-1] >= path.t_train
        level = times / path.T * 1000
        torch.testing.assert_close(level, level.round(), rtol=1e-12, atol=0)
        assert (times[0] == path.T) == (spacing != "leading")


def test_all_levels_are_1_to_n():
    for spacing in PUBLISHED:
        assert Discrete(spacing, 40).numbers(40) == list(range(40, 0, -1))


def test_times_of_ones_own_are_the_steps_of_the_sampler():
    model = exact_model(sde_named("vp"))
    times = [1.0, 0.5, 0.1]
    assert Explicit(times)(model.sde, 3).tolist() == times
    assert Sampler(DDIM(), Explicit(times), steps=3).sample(model, (2,), n=2).nfe == 3
    assert Sampler(DDIM(), Explicit(times), steps=2, denoise=False).sample(model, (2,), n=2).nfe == 2
    for other in ([1.0], [1.0, 1e-3], [1.0, 0.5, 0.5 - 1e-9]):
        assert Explicit(other)(model.sde, len(other)).tolist() == other


def test_between_the_times_of_training_any_two_are_fine():
    """Also below t_min, where a grid to t_min rises."""
    sde = sde_named("vp")
    assert (LambdaUniform()(sde, 5, 5e-4).diff() > 0).all()
    assert LambdaUniform()(sde, 5, 1.0, 5e-4)[-1] == 5e-4


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda sde: built("grid", "karras", rho=0.0), "rho"),
        (lambda sde: Cosine("sigma"), "variable: 'sigma' is not allowed; give one of lambda, ratio, noise_share"),
        (lambda sde: Discrete("middle"), "spacing: 'middle'"),
        (lambda sde: Discrete(levels=0), "levels: 0"),
        (lambda sde: Discrete(levels=20)(sde, 50), "levels: 20 are fewer than the 50 points"),
        (lambda sde: Discrete("linspace", levels=1_000_000)(sde, 50), "levels: 1000000 put .* give at most 99999"),
        (lambda sde: Explicit([]), "at least one time"),
        (lambda sde: Explicit([1.0, 0.2, 0.2]), r"times: 0\.2, 0\.2 follow each other"),
        (lambda sde: Explicit([1.0, float("nan")]), "times: 1, nan follow each other"),
        (lambda sde: Explicit([0.9, 0.2])(sde, 2), r"times: 0\.9 is not allowed; the first must be T = 1"),
        (lambda sde: Explicit([1.0, 1e-6])(sde, 2), r"times: 1e-06 .* not be below t_train = 1e-05"),
        (lambda sde: Explicit([0.1, 0.5, 0.3]), r"times: 0\.5, 0\.3 follow each other; give times that all fall"),
        (lambda sde: Explicit([0.1, 0.5])(sde, 2, 0.1, 0.6), r"times: 0\.5 .* the end 0\.6"),
        (lambda sde: LambdaUniform()(sde, 5, 1.5), r"start: 1\.5 .* T = 1"),
        (lambda sde: LambdaUniform()(sde, 5, 1.0, 0.0), r"end: 0\.0 .* t_train = 1e-05"),
        (lambda sde: LambdaUniform()(sde, 5, 0.5, 0.5), "coincide"),
        (lambda sde: Explicit([1.0, 0.5, 0.1])(sde, 50), "times: 3 are given, but .* ask for 50; use steps=3"),
    ],
)
def test_bad_grids_are_named(make, text):
    with pytest.raises(InputError, match=text):
        make(sde_named("vp"))


def test_points_that_coincide_are_refused():
    class Stuck(TimeUniform):
        def time(self, sde, w):
            return torch.full_like(w, sde.T)

    with pytest.raises(InputError, match="5 points of Stuck coincide on VPSDE"):
        Stuck()(sde_named("vp"), 5)
