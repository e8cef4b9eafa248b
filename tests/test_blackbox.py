"""Integrators of torchdiffeq and scipy: as exact as their tolerances, on every SDE, and what they refuse."""

import numpy as np
import pytest
import torch
from support import SDES, exact_flow, exact_model, sde_named
from torch import nn

from scoresde import InputError, Sampler, ScoreModel, count_evaluations
from scoresde.noise import Noise
from scoresde.sampling import AdaptiveRungeKutta, AdaptiveSDE, Langevin, SciPy, TorchDiffEq, adaptive, blackbox
from scoresde.sampling.solver import check_tolerances

FIRST, LAST = -2.0, 1.5  # interval of lam, inside the range of every SDE of conf/
METHODS = ("RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA")


def start(n=8):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def ends(sde):
    return torch.tensor([sde.T, sde.t_min], dtype=torch.float64)


def last_of(solver, model, times, x):
    *_, (_, last) = solver.integrate(model, times, x, Noise(0))
    return last


FIXED = (("euler", 1, 100), ("midpoint", 2, 100), ("rk4", 4, 20))


@pytest.mark.parametrize(("sde", "rule"), [(sde, FIXED[i % 3]) for i, sde in enumerate(SDES)])
def test_fixed_step_methods_of_torchdiffeq(sde, rule):
    """They see our velocity field on our grid, and reach the order they have on any smooth field."""
    method, order, coarse = rule
    path = sde_named(sde)
    model, errors = exact_model(path), []
    lams = torch.tensor([FIRST, LAST], dtype=torch.float64)
    level = path.at(float(path.t_of_lam(FIRST)))
    x = start() * (level.alpha**2 + level.sigma**2) ** 0.5
    exact = exact_flow(model, x, lams)[-1]
    for steps in (coarse, 2 * coarse):
        times = path.t_of_lam(torch.linspace(FIRST, LAST, steps + 1, dtype=torch.float64))
        *_, (_, last) = TorchDiffEq(method).integrate(model, times, x, Noise(0))
        errors.append(float((last - exact).square().mean().sqrt()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("sde", SDES)
def test_adaptive_black_box_is_as_exact_as_its_tolerance(sde):
    path = sde_named(sde)
    model, lams = exact_model(path), torch.tensor([FIRST, LAST], dtype=torch.float64)
    level = path.at(float(path.t_of_lam(FIRST)))
    x = start() * (level.alpha**2 + level.sigma**2) ** 0.5
    exact = exact_flow(model, x, lams)[-1]
    for method, tolerance in (("dopri5", 1e-5), ("dopri5", 1e-9), ("bosh3", 1e-5), ("dopri8", 1e-8)):
        solver = TorchDiffEq(method, rtol=tolerance, atol=tolerance)
        *_, (_, last) = solver.integrate(model, path.t_of_lam(lams), x, Noise(0))
        assert float((last - exact).abs().max()) < 100 * tolerance


@pytest.mark.parametrize("method", ["dopri5", "dopri8"])
def test_what_an_adaptive_method_passes_changes_nothing(method):
    """The path at the times of the grid lies on the flow, and its end is what it is without the path."""
    model = exact_model(sde_named("vp"))
    times = model.sde.t_of_lam(torch.linspace(FIRST, LAST, 9, dtype=torch.float64))
    solver = TorchDiffEq(method, rtol=1e-7, atol=1e-7)
    path = list(solver.integrate(model, times, start(), Noise(0)))
    assert [t for t, _ in path] == times[1:].tolist()
    exact = exact_flow(model, start(), model.sde.lam(times))
    torch.testing.assert_close(torch.stack([x for _, x in path]), exact[1:], rtol=0, atol=5e-5)
    assert torch.equal(path[-1][1], last_of(solver, model, times[[0, -1]], start()))


@pytest.mark.parametrize(("sde", "method"), [(sde, METHODS[i % 6]) for i, sde in enumerate(SDES)])
def test_scipy_is_as_exact_as_its_tolerance_from_prior_to_cut_off(method, sde):
    model = exact_model(sde_named(sde))
    x = start() * model.sde.prior_std
    exact = exact_flow(model, x, model.sde.lam(ends(model.sde)))[-1]
    for tolerance in (1e-4, 1e-6):
        last = last_of(SciPy(method, rtol=tolerance, atol=tolerance), model, ends(model.sde), x)
        assert float((last - exact).abs().max()) < 30 * tolerance


def test_scipy_needs_the_same_work_on_every_sde():
    """The angle makes one equation of all of them: the same steps, but for where they begin and end."""
    spent = []
    for name in SDES:
        model = exact_model(sde_named(name))
        with count_evaluations() as count:
            last_of(SciPy(), model, ends(model.sde), start() * model.sde.prior_std)
        spent.append(count.samples / 8)
    assert max(spent) < 1.25 * min(spent)


def test_an_angle_beyond_the_ends_is_the_time_of_the_nearest():
    """Older scipy looks there for its first step, where cosine or sine may be negative."""
    sde = sde_named("vp")
    flow = blackbox._Flow(exact_model(sde), sde.T, sde.t_min, start())
    assert [flow.time(phi) for phi in (-0.5, 1.7, 5.3)] == [sde.t_min, sde.T, sde.T]


def test_an_angle_is_a_time_to_all_digits():
    sde = sde_named("vp")
    flow = blackbox._Flow(exact_model(sde), sde.T, sde.t_min, start())
    for t in (0.9, 0.3, 0.01):
        assert flow.time(flow.angle(t)) == pytest.approx(t, rel=1e-12)


@pytest.mark.parametrize("method", ["RK45", "Radau", "LSODA", "dopri5"])
def test_tolerances_are_handed_on_as_what_they_are(method, monkeypatch):
    import scipy.integrate
    import torchdiffeq

    seen = {}

    def spied(inner):
        def call(*args, **named):
            seen.update(named)
            return inner(*args, **named)

        return call

    module, name = (torchdiffeq, "odeint") if method == "dopri5" else (scipy.integrate, method)
    monkeypatch.setattr(module, name, spied(getattr(module, name)))
    solver = (TorchDiffEq if method == "dopri5" else SciPy)(method, rtol=1e-3, atol=1e-4)
    model = exact_model(sde_named("vp"))
    last_of(solver, model, ends(model.sde), start())
    assert (seen["rtol"], seen["atol"], seen.get("method", method)) == (1e-3, 1e-4, method)


def test_a_large_batch_keeps_the_end_of_an_adaptive_method_and_all_steps_of_a_fixed_one(monkeypatch):
    monkeypatch.setattr(blackbox, "_MOST_KEPT", 10)
    model = exact_model(sde_named("vp"))
    times = model.sde.t_of_lam(torch.linspace(FIRST, LAST, 9, dtype=torch.float64))
    for method, wanted in (("rk4", times[1:]), ("dopri5", times[-1:])):
        assert [t for t, _ in TorchDiffEq(method).integrate(model, times, start(), Noise(0))] == wanted.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_scipy_stays_between_the_ends(method):
    """Also where a model with a step in time provokes rejected and tiny steps."""
    seen = []

    class Jumping(type(exact_model(sde_named("ve")))):
        def forward(self, x, t, cond=None):
            seen.append(t)
            prediction = super().forward(x, t)
            return prediction if t > 0.3 else super().forward(x * 1.01, t)

    sde = sde_named("ve")
    model = Jumping(exact_model(sde).data, sde)
    path = list(SciPy(method, rtol=1e-3, atol=1e-3).integrate(model, ends(sde), start() * sde.prior_std, Noise(0)))
    assert min(seen) >= sde.t_min
    assert max(seen) <= sde.T
    assert path[-1][0] == sde.t_min


@pytest.mark.parametrize("method", METHODS)
def test_what_scipy_passes_changes_nothing(method):
    model = exact_model(sde_named("ve"))
    times = model.sde.t_of_lam(torch.linspace(FIRST, LAST, 9, dtype=torch.float64))
    x = start() * model.sde.at(float(times[0])).sigma
    solver, spent = SciPy(method, rtol=1e-7, atol=1e-7), []
    for grid in (times, times[[0, -1]]):
        with count_evaluations() as count:
            path = list(solver.integrate(model, grid, x, Noise(0)))
        spent.append((count.samples, path[-1][1]))
        if grid is times:
            passed = torch.tensor([float(times[0]), *(t for t, _ in path)], dtype=torch.float64)
            exact = exact_flow(model, x, model.sde.lam(passed))[1:]
            torch.testing.assert_close(torch.stack([x for _, x in path]), exact, rtol=0, atol=2e-5)
            assert method == "DOP853" or torch.equal(passed, times)
    assert spent[0][0] == spent[1][0]
    assert torch.equal(spent[0][1], spent[1][1])


@pytest.mark.parametrize("method", ["Radau", "BDF", "LSODA"])
def test_implicit_methods_work_in_single_precision(method):
    model = exact_model(sde_named("vp"))
    x = start()
    exact = exact_flow(model, x, model.sde.lam(ends(model.sde)))[-1]
    with count_evaluations() as in_double:
        double = last_of(SciPy(method, rtol=1e-4, atol=1e-4), model, ends(model.sde), x)
    with count_evaluations() as in_single:
        single = last_of(SciPy(method, rtol=1e-4, atol=1e-4), model, ends(model.sde), x.float())
    assert single.dtype == torch.float32
    assert float((double - exact).abs().max()) < 3e-3
    assert float((single - exact).abs().max()) < 3e-3
    assert in_single.samples < 1.5 * in_double.samples


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 5e-3)])
@pytest.mark.parametrize("pack", ["sparse", "banded"])
def test_derivatives_are_those_of_autograd(pack, dtype, atol):
    from scoresde.sampling.blackbox import _Flow

    model, (b, d) = exact_model(sde_named("vp")), (3, 2)
    flow, u = _Flow(model, 1.0, 1e-3, start(b).to(dtype)), 0.3 * start(b)
    u[0, 0], u[1, 1] = 0.0, 8.0  # the differences are of the size of a value where it is large, and of one elsewhere
    level = model.sde.at(flow.time(0.6))
    rho = float(np.hypot(level.alpha, level.sigma))

    def rate(u):
        prediction = model(u * rho, flow.time(0.6))
        return np.cos(0.6) * prediction.eps - np.sin(0.6) * prediction.x0

    full = torch.autograd.functional.jacobian(rate, u).reshape(b * d, b * d).numpy()
    if pack == "sparse":
        found = flow.sparse(0.6, u.numpy().ravel()).toarray()
    else:
        rows = flow.banded(0.6, u.numpy().ravel())
        found = np.zeros((b * d, b * d))
        for i in range(b * d):
            for j in range(b * d):
                if abs(i - j) < d:
                    found[i, j] = rows[i - j + d - 1, j]
    np.testing.assert_allclose(found, full, atol=atol)


class Broken(nn.Module):
    def forward(self, x, c):
        return x * float("nan")


@pytest.mark.parametrize("solver", [*map(SciPy, METHODS), TorchDiffEq(), TorchDiffEq("rk4")], ids=repr)
def test_a_model_that_returns_nan_is_named_with_the_time(solver):
    with pytest.raises(InputError, match="returns NaN or infinity at t = 1"):
        Sampler(solver).sample(ScoreModel(Broken(), sde_named("vp")), (2,), n=3)


@pytest.mark.parametrize("method", METHODS)
def test_scipy_says_when_it_is_stuck(method):
    class Fickle(nn.Module):
        calls = 0

        def forward(self, x, c):
            self.calls += 1
            return torch.full_like(x, 1e16 * float(np.sin(self.calls**2)))

    with pytest.raises(InputError, match=f"{method} of scipy is stuck at t = .*may be too small"):
        Sampler(SciPy(method, 1e-13, 1e-13)).sample(
            ScoreModel(Fickle(), sde_named("vp")), (1,), n=1, dtype=torch.float64
        )


BELOW_ROUNDING = (TorchDiffEq(rtol=1e-13, atol=1e-13), SciPy(rtol=1e-13, atol=1e-13), AdaptiveRungeKutta(1e-13, 1e-13))


@pytest.mark.parametrize("solver", BELOW_ROUNDING, ids=repr)
def test_tolerances_that_float32_cannot_hold_are_refused(solver):
    with pytest.raises(InputError, match=r"^rtol: 1e-13 with .* torch.float32 cannot hold it: give .* 1e-10, or dtype"):
        Sampler(solver).sample(exact_model(sde_named("vp")), n=2)


def test_what_rounding_allows_is_a_thousandth_of_it():
    """wanted = rtol + atol / max |x|, against eps / 1000."""
    for dtype in (torch.float32, torch.float64):
        x, least = torch.tensor([[0.1, -8.0]], dtype=dtype), torch.finfo(dtype).eps / 1000
        for rtol, atol in ((1.0, 0.0), (0.5, 4.0)):
            check_tolerances(1.0005 * rtol * least, 1.0005 * atol * least, x)
            with pytest.raises(InputError, match=r"^rtol: "):
                check_tolerances(0.9995 * rtol * least, 0.9995 * atol * least, x)
    large = torch.full((2, 2), 1e8)
    for make in (TorchDiffEq, SciPy, AdaptiveRungeKutta):
        with pytest.raises(InputError, match=r"^rtol: 1e-13 with atol=1e-05"):
            last_of(make(rtol=1e-13, atol=1e-5), exact_model(sde_named("vp")), ends(sde_named("vp")), large)


@pytest.mark.parametrize(
    "solver", [*BELOW_ROUNDING, SciPy("LSODA", rtol=1e-13, atol=1e-13), AdaptiveSDE(1e-6, 1e-6)], ids=repr
)
def test_solvers_that_do_not_arrive_say_where_they_are(solver, monkeypatch):
    for module in (adaptive, blackbox):
        monkeypatch.setattr(module, "MOST_STEPS", 20)
    with pytest.raises(InputError, match=rf"is stuck.* at t = 0\.\d+ .*rtol={solver.rtol}, atol={solver.atol}"):
        Sampler(solver, steps=2).sample(exact_model(sde_named("vp")), n=2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: TorchDiffEq("rk45"), "method: 'rk45'"),
        (lambda: TorchDiffEq(rtol=0.0), "rtol"),
        (lambda: TorchDiffEq(rtol=1e-14), "rtol: 1e-14 is not allowed; give a tolerance from 1e-13 to 1"),
        (lambda: SciPy("rk45"), "method: 'rk45' is not allowed; give one of RK23, RK45, DOP853, Radau, BDF, LSODA"),
        (lambda: SciPy(rtol=1e-16), "rtol"),
        (lambda: SciPy(atol=0.0), "atol"),
        (lambda: Sampler(SciPy(), eta=0.5), r"eta: 0\.5 is not possible with SciPy"),
        (lambda: Sampler(SciPy(), corrector=Langevin()), "corrector: SciPy takes its own steps and allows no"),
        (lambda: Sampler(TorchDiffEq(), corrector=Langevin()), "corrector: TorchDiffEq takes its own steps"),
        (
            lambda: Sampler(SciPy("Radau")).sample(ScoreModel(Broken(), sde_named("vp")), (3, 64, 64), n=2),
            "12288 x 12288 derivatives for each of 2 samples; use method=RK45",
        ),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError, match=text):
        make()
