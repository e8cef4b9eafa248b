"""Any level to any level: up and down again returns to the start, at the order of the rule or within its tolerance."""

from typing import get_args

import numpy as np
import pytest
import torch
from support import PATHS, SOLVERS, built, exact_flow, exact_model, options, sde_named, solver_named, with_paths

from scoresde import InputError, Sampler
from scoresde.noise import Noise
from scoresde.sampling import AdaptiveExponential, AdaptiveRungeKutta, AdaptiveSDE, LambdaUniform, SciPy, TorchDiffEq
from scoresde.sampling.coordinates import Variable

LOW, HIGH = 1.5, -2.0  # lam of the two levels, inside the range of every SDE of conf/
NO_ODE = {"annealed_langevin", "heun_churn", "restart", "reverse_diffusion"}  # at any noise level


def on_ode(name):
    return solver_named(name).with_eta(0.0)


RULES = [name for name in SOLVERS if on_ode(name).order and not on_ode(name).adaptive and name not in NO_ODE]
OF_TIME = ("euler_maruyama", "deis")  # all others are rules in lam
ADAPTIVE = {
    "bosh3": lambda tol: AdaptiveRungeKutta(tol, tol),
    "bosh3 time": lambda tol: AdaptiveRungeKutta(tol, tol, variable="time"),
    "dopri5": lambda tol: AdaptiveRungeKutta(tol, tol, pair="dopri5"),
    "exponential x0": lambda tol: AdaptiveExponential(tol, tol),
    "exponential eps": lambda tol: AdaptiveExponential(tol, tol, predict="eps"),
    "sde": lambda tol: AdaptiveSDE(tol, tol, eta=0.0),
    **{f"scipy {m}": lambda tol, m=m: SciPy(m, tol, tol) for m in ("RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA")},
    **{f"torchdiffeq {m}": lambda tol, m=m: TorchDiffEq(m, tol, tol) for m in ("dopri5", "bosh3", "dopri8")},
}


def start(model, n=6):
    """States at LOW that the data could have, x = alpha x_0 + sigma eps."""
    level = model.sde.at(float(model.sde.t_of_lam(LOW)))
    eps = torch.randn(n, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return level.alpha * model.data.sample(n, 1) + level.sigma * eps


def carry(solver, model, x, lams):
    *_, (t, x) = solver.integrate(model, model.sde.t_of_lam(lams), x, Noise(0))
    assert t == pytest.approx(float(model.sde.t_of_lam(lams[-1])), rel=1e-9)
    return x


def round_trip(solver, model, steps):
    """RMS distance from the start of where a solver returns, in units of the data."""
    x, lams = start(model), torch.linspace(LOW, HIGH, steps + 1, dtype=torch.float64)
    back = carry(solver, model, carry(solver, model, x, lams), lams.flip(0))
    return float(((back - x) / model.sde.at(float(model.sde.t_of_lam(LOW))).alpha).square().mean().sqrt())


@pytest.mark.parametrize(("name", "sde"), with_paths(RULES, OF_TIME))
def test_up_and_down_returns_at_the_order_of_the_rule(name, sde):
    """A one-step rule of even order does even better, since its leading errors up and down cancel."""
    model, solver = exact_model(sde_named(sde)), on_ode(name)
    steps = (20, 40) if solver.order == 5 else (80, 160)
    coarse, fine = (round_trip(solver, model, n) for n in steps)
    # the first steps of a multistep rule have no history: order 1, or 2 with a corrector, and one more globally
    fresh = 2 + bool(getattr(solver, "corrector", 0)) if solver.least_steps > 1 else solver.order
    assert np.log2(coarse / fine) > min(solver.order, fresh) - 0.25
    assert fine < 0.05


@pytest.mark.parametrize(("name", "sde"), with_paths(RULES, OF_TIME))
def test_up_is_the_exact_flow(name, sde):
    """Else a wrong coefficient might cancel on the way back."""
    model, solver, x = exact_model(sde_named(sde)), on_ode(name), None
    x = start(model)
    exact = exact_flow(model, x, torch.tensor([LOW, HIGH], dtype=torch.float64))[-1]
    errors = []
    for steps in (20, 40) if solver.order == 5 else (80, 160):
        end = carry(solver, model, x, torch.linspace(LOW, HIGH, steps + 1, dtype=torch.float64))
        errors.append(float((end - exact).square().mean().sqrt()))
    fresh = 2 + bool(getattr(solver, "corrector", 0)) if solver.least_steps > 1 else solver.order
    assert np.log2(errors[0] / errors[1]) > min(solver.order, fresh) - 0.25


@pytest.mark.parametrize(("name", "sde"), with_paths(ADAPTIVE, ("bosh3 time", "scipy RK45", "torchdiffeq dopri5")))
def test_an_adaptive_rule_returns_within_its_tolerance(name, sde):
    model = exact_model(sde_named(sde))
    x, lams = start(model), torch.tensor([LOW, HIGH], dtype=torch.float64)
    for tol in (1e-4,) if name == "sde" else (1e-4, 1e-6):
        solver = ADAPTIVE[name](tol)
        up = carry(solver, model, x, lams)
        assert float((up - exact_flow(model, x, lams)[-1]).abs().max()) < 300 * tol * float(up.abs().max())
        back = carry(solver, model, up, lams.flip(0))
        alpha = model.sde.at(float(model.sde.t_of_lam(LOW))).alpha
        # errors at the high level grow on the way down, by as much as two modes move apart
        assert float((back - x).abs().max()) < 3000 * tol * alpha


@pytest.mark.parametrize("name", SOLVERS)
def test_rising_times_are_followed_or_refused_in_one_line(name):
    """No solver returns NaN or anything unrelated to the flow."""
    model = exact_model(sde_named("vp"))
    x, lams = start(model), torch.linspace(LOW, HIGH, 101, dtype=torch.float64)
    solver = solver_named(name)
    if not solver.bidirectional:
        with pytest.raises(InputError, match=r"^times: \w+ runs from noise to data only[^\n]*$"):
            carry(solver, model, x, lams)
    else:
        exact = exact_flow(model, x, lams[[0, -1]])[-1]
        torch.testing.assert_close(carry(solver, model, x, lams), exact, rtol=0, atol=0.05)
    with pytest.raises(InputError, match=r"^times: \S+, \S+ follow each other; give times that all fall"):
        carry(solver, model, x, lams[[0, 50, 20, 80]])


@pytest.mark.parametrize("sde", ["vp", "rectified"])
@pytest.mark.parametrize("name", sorted({*options("grid")} - {"auto", "list", "tuned"}))
def test_a_grid_begins_and_ends_exactly_where_it_is_asked_to(name, sde):
    """In either direction, so that the way up ends at the level where the way down begins."""
    path = sde_named(sde)
    low, high = path.T * 200 / 1000, path.T * 700 / 1000  # which are levels of the numbered ones too
    variables = get_args(Variable) if name == "cosine" else ("lambda",)
    for grid in (built("grid", name, **({"variable": v} if name == "cosine" else {})) for v in variables):
        up, down = grid(path, 11, low, high), grid(path, 11, high, low)
        assert (up[0], up[-1], down[0], down[-1]) == (low, high, high, low)
        assert (up.diff() > 0).all()
        assert (down.diff() < 0).all()


def test_which_solvers_are_bidirectional():
    two_way = {name for name in SOLVERS if solver_named(name).bidirectional}
    assert {"heun", "dpmpp_2m", "unipc_3", "ddim", "auto", "scipy", "torchdiffeq", "adaptive_bosh3"} <= two_way
    assert not two_way & {*NO_ODE, "euler_maruyama", "ancestral", "sde_dpmpp_2m", "seeds_2", "adaptive_sde"}
    assert {name for name in SOLVERS if on_ode(name).bidirectional} == set(SOLVERS) - NO_ODE


@pytest.mark.parametrize("sde", PATHS)
@pytest.mark.parametrize("name", ["auto", "heun", "unipc_2", "adaptive_dopri5", "scipy"])
def test_a_sampler_encodes_and_decodes(name, sde):
    """From the data level to the prior and back, in float32 and in batches; and on from a level in between."""
    model = exact_model(sde_named(sde))
    # upward a tolerance must be well below sigma(t_min), the size of the noise that is carried up
    tight = {"rtol": 1e-5, "atol": 1e-5} if name == "adaptive_dopri5" else {}
    path, sampler = model.sde, Sampler(solver_named(name, **tight), steps=60)
    x = path.at(path.t_min).alpha * model.data.sample(7, 2).float()
    encoded = sampler.sample(model, start=x, at=path.t_min, to=path.T, batch_size=3)
    assert encoded.x.std() == pytest.approx(path.prior_std, rel=0.7)
    decoded = sampler.sample(model, start=encoded.x, at=path.T, to=path.t_min)
    torch.testing.assert_close(decoded.x, x, rtol=0, atol=0.1)
    half = float(path.t_of_lam(0.0))
    halfway = sampler.sample(model, start=encoded.x, to=half).x
    clean = sampler.sample(model, start=halfway, at=half).x
    torch.testing.assert_close(clean, x, rtol=0, atol=0.1)


def test_samples_of_chosen_rows_are_those_of_the_whole():
    model = exact_model(sde_named("vp"))
    for name in ("ancestral", "adaptive_bosh3", "heun_churn"):
        sampler = Sampler(solver_named(name), steps=6)
        whole = sampler.sample(model, n=40, seed=5, dtype=torch.float64).x
        for rows in (range(20, 40), range(3, 40, 7)):
            part = sampler.sample(model, seed=5, rows=rows, batch_size=4, dtype=torch.float64).x
            torch.testing.assert_close(part, whole[list(rows)], rtol=0, atol=1e-9)
        path = [(t, x) for t, x in sampler.trajectory(model, rows=range(20, 40), seed=5, dtype=torch.float64)]
        torch.testing.assert_close(path[-1][1], whole[20:], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "n: None"),
        ({"n": 3, "rows": range(4)}, "n: 3 .* rows has 4"),
        ({"rows": range(0)}, "rows: range"),
        ({"n": 3, "at": 0.5}, "at: 0.5 .* start="),
        ({"start": torch.zeros(3, 2), "n": 4}, r"start: \(3, 2\) .* 4 samples"),
        ({"start": torch.zeros(3, 2), "at": 2.0}, r"at: 2\.0 .* T = 1"),
        ({"start": torch.zeros(3, 2), "at": 1e-3}, r"at: 0\.001 .* above t_min = 0\.001"),
        ({"start": torch.zeros(3, 2), "at": 0.5, "to": 0.0}, r"to: 0\.0 .* t_train"),
        ({"start": torch.zeros(3, 2), "at": 0.5, "to": 0.5}, r"to: 0\.5 .* other than"),
    ],
)
def test_requests_that_cannot_be_met_are_named(request_, message):
    with pytest.raises(InputError, match=message):
        Sampler(built("solver", "heun"), LambdaUniform(), steps=4).sample(exact_model(sde_named("vp")), **request_)
