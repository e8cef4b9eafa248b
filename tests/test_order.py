"""Order of convergence of every deterministic solver on every SDE, against scipy's solution of the exact flow."""

from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from support import PATHS, SOLVERS, exact_flow, exact_model, sde_named, solver_named, with_paths

from scoresde import InputError, Sampler
from scoresde.dynamics import EtaFunction
from scoresde.noise import Noise
from scoresde.sampling import (
    DDIM,
    EulerMaruyama,
    ExponentialMultistep,
    ExponentialRungeKutta,
    GridSolver,
    Heun,
    LambdaUniform,
    ReverseDiffusion,
    RungeKutta,
)
from scoresde.sampling.coordinates import Quantity, Variable

FIRST, LAST = -2.0, 1.5  # interval of lam, inside the range of every SDE of conf/
EARLY = 4  # steps before it that make an exact history


def on_ode(name):
    """The solver of the YAML file, with its noise turned off."""
    return solver_named(name).with_eta(0.0)


# what the solvers on a fixed grid state of themselves
ORDER = {name: on_ode(name).order for name in SOLVERS if isinstance(solver_named(name), GridSolver)}
assert ORDER.pop("heun_churn") is None  # it never runs without noise
OF_TIME = ("euler_maruyama", "reverse_diffusion", "deis")  # all others are rules in lam


def start(n=8):
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return z


def error(solver, model, steps, history):
    """RMS error at LAST; with history, steps before FIRST start from the exact flow and leave their state."""
    sde, h = model.sde, (LAST - FIRST) / steps
    early = EARLY if history else 0
    lams = torch.linspace(FIRST - early * h, LAST, steps + early + 1, dtype=torch.float64)
    # the scale of the path there, whatever the SDE
    first = sde.at(float(sde.t_of_lam(lams[0])))
    x = start() * (first.alpha**2 + first.sigma**2) ** 0.5
    exact = exact_flow(model, x, torch.cat((lams[: early + 1], lams[-1:])))
    state = None
    for i, plan in enumerate(solver.plan(sde, sde.t_of_lam(lams))):
        x, state = solver.step(model, x, plan, state, lambda: pytest.fail("an ODE rule asked for noise"))
        if i < early:
            x = exact[i + 1]
            if state is not None and state[1] is not None:  # the step that a corrector will make again
                state = state[0], plan[3] * exact[i]
    return float((x - exact[-1]).square().mean().sqrt())


def slope(solver, model, steps, history=True):
    errors = [error(solver, model, n, history) for n in steps]
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def test_every_solver_on_a_fixed_grid_states_an_order():
    assert len(ORDER) >= 32
    assert None not in ORDER.values()
    assert all(solver_named(name).order == order for name, order in ORDER.items())  # with noise: that of the drift
    published = {"ddim": 1, "euler": 1, "heun": 2, "dpmpp_2m": 2, "dpmpp_3s": 3, "unipc_2": 3, "rk4": 4, "dopri5": 5}
    assert {name: ORDER[name] for name in published} == published


@pytest.mark.parametrize(("name", "sde"), with_paths(ORDER, OF_TIME))
def test_order_from_a_fresh_start(name, sde):
    # a first step of order p costs O(h^(p+1)) once; a corrector makes that p = 2
    first = 2 if getattr(on_ode(name), "corrector", 0) else 1
    # fine enough for the leading error to lead, coarse enough for it to stand above that of the reference
    steps = (40, 80) if ORDER[name] == 5 else (160, 320)
    measured = -slope(on_ode(name), exact_model(sde_named(sde)), steps, history=False)
    assert min(ORDER[name], first + 1) - 0.2 < measured < ORDER[name] + 0.2


@pytest.mark.parametrize(("name", "sde"), with_paths(ORDER, OF_TIME))
def test_limit_is_the_exact_flow_and_the_order_what_it_states(name, sde):
    """Richardson's extrapolation removes the leading error, so a wrong coefficient has nowhere to hide."""
    model, solver, order = exact_model(sde_named(sde)), on_ode(name), ORDER[name]
    steps = (40, 80) if order == 5 else (320, 640)
    coarse, fine = (error(solver, model, n, history=True) for n in steps)
    assert abs(2**order * fine - coarse) < (0.05 if order < 4 else 0.13) * coarse  # the order to 0.08, or 0.2
    assert fine < 0.02


@pytest.mark.parametrize("variable", get_args(Variable))
@pytest.mark.parametrize("predict", get_args(Quantity))
def test_order_of_every_quantity_in_every_variable(predict, variable):
    solver = ExponentialMultistep(predict, variable, predictor=3)
    measured = -slope(solver, exact_model(sde_named("subvp")), steps=(160, 320))
    assert measured == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("corrector", range(5))
@pytest.mark.parametrize("predictor", range(1, 5))
def test_every_predictor_and_corrector_has_the_order_that_it_states(predictor, corrector):
    solver = ExponentialMultistep(predictor=predictor, corrector=corrector)
    measured = -slope(solver, exact_model(sde_named("vp")), steps=(320, 640))
    assert measured == pytest.approx(solver.order, abs=0.2)


@pytest.mark.parametrize("weights", ["dpmpp", "unipc_bh1", "unipc_bh2", "constant_step"])
@pytest.mark.parametrize("predict", ["x0", "eps"])
def test_published_weights_have_the_order_that_they_state(predict, weights):
    for predictor, corrector in ((2, 0), (3, 0), (2, 3), (2, 2), (3, 4)):
        solver = ExponentialMultistep(predict, predictor=predictor, corrector=corrector, weights=weights)
        measured = -slope(solver, exact_model(sde_named("vp")), steps=(160, 320))
        assert measured > solver.order - 0.25, (predictor, corrector)
        if not corrector:
            assert measured == pytest.approx(solver.order, abs=0.25)


def test_a_rule_that_ramps_down_has_the_order_that_it_states():
    solver = ExponentialMultistep(predictor=3, ramp_down=True)
    assert -slope(solver, exact_model(sde_named("vp")), steps=(160, 320)) == pytest.approx(solver.order, abs=0.25)


def test_order_with_a_corrector_of_the_new_value_alone():
    """The implicit rule of order 1, whose error is that of the explicit one with the other sign."""
    model = exact_model(sde_named("vp"))
    implicit, explicit = ExponentialMultistep(predictor=1, corrector=1), ExponentialMultistep(predictor=1)
    assert -slope(implicit, model, (160, 320), history=False) == pytest.approx(1, abs=0.2)
    times = model.sde.t_of_lam(torch.linspace(FIRST, LAST, 161, dtype=torch.float64))
    ends = [list(s.integrate(model, times, start(), Noise(0)))[-1][1] for s in (implicit, explicit)]
    exact = exact_flow(model, start(), torch.tensor([FIRST, LAST], dtype=torch.float64))[-1]
    apart = [(end - exact).flatten() for end in ends]
    assert torch.nn.functional.cosine_similarity(*apart, dim=0) < -0.9


@pytest.mark.parametrize("sde", PATHS)
def test_second_order_multistep_is_exact_for_linear_predictions(sde):
    """If x0_hat is linear in lam, order 2 with exact history makes no error, at eta 0 and 1, in a single step."""
    path = sde_named(sde)

    class Line(type(exact_model(path))):
        def forward(self, x, t, cond=None):
            from scoresde import Prediction

            level = self.sde.at(t)
            return Prediction.of(x, self.sde, t, x0=torch.full_like(x, 0.3 + 0.7 * level.lam))

    model = Line(exact_model(path).data, path)
    lams = torch.tensor([-2.0, -0.7, 0.9], dtype=torch.float64)
    times = path.t_of_lam(lams)
    for eta in (0.0, 1.0):
        solver = ExponentialMultistep(predictor=2, eta=eta)
        plans = solver.plan(path, times)
        x = start()
        _, state = solver.step(model, x, plans[0], None, lambda: torch.zeros_like(x))
        coarse = solver.step(model, x, plans[1], state, lambda: torch.zeros_like(x)).x
        # the mean of the linear equation, integrated by a fine rule of order 1 over the same interval
        fine_times = path.t_of_lam(torch.linspace(-0.7, 0.9, 4_001, dtype=torch.float64))
        fine, one = x, ExponentialMultistep(predictor=1, eta=eta)
        for plan in one.plan(path, fine_times):
            fine = one.step(model, fine, plan, None, lambda: torch.zeros_like(x)).x
        torch.testing.assert_close(coarse, fine, rtol=5e-4, atol=5e-4)


def edm_algorithm_1(denoise, sigmas, x):
    """Karras et al. 2022 (arXiv 2206.00364), algorithm 1, written from the paper for sigma(t) = t."""
    for i in range(len(sigmas) - 1):
        d = (x - denoise(x, sigmas[i])) / sigmas[i]
        ahead = x + (sigmas[i + 1] - sigmas[i]) * d
        if sigmas[i + 1] != 0:
            d_ahead = (ahead - denoise(ahead, sigmas[i + 1])) / sigmas[i + 1]
            ahead = x + (sigmas[i + 1] - sigmas[i]) * (d + d_ahead) / 2
        x = ahead
    return x


def test_heun_on_edm_is_the_published_algorithm():
    from scoresde.sampling import Karras

    sde = sde_named("edm")
    model, sampler = exact_model(sde), Sampler(Heun(), Karras(), steps=10)
    ramp = torch.linspace(0, 1, 10, dtype=torch.float64)
    sigmas = (80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    x = 80 * start()
    expected = edm_algorithm_1(lambda x, s: model(x, float(s)).x0, [*sigmas.tolist(), 0.0], x)
    *_, (t, actual) = sampler.path(model, x, Noise(0))
    assert t == 0.0
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


IN_LAM = [name for name in ORDER if name not in OF_TIME]
WITH_NOISE = [name for name in IN_LAM if "eta" in vars(solver_named(name))]


@pytest.mark.parametrize(("name", "eta"), [*product(IN_LAM, [0.0]), *product(WITH_NOISE, [1.0])])
def test_rules_in_lam_are_the_same_map_in_every_coordinate(name, eta):
    """On VP and on VE, matched by log-SNR, they draw the same samples up to the scale alpha, with the same noise."""
    z, results = start(), {}
    for path in PATHS:
        sde = sde_named(path)
        level = sde.at(float(sde.t_of_lam(FIRST)))
        times = sde.t_of_lam(torch.linspace(FIRST, LAST, 11, dtype=torch.float64))
        # the same x / alpha at the start: noise alone would be another state in each
        *_, (t, x) = solver_named(name).with_eta(eta).integrate(exact_model(sde), times, level.sigma * z, Noise(0))
        results[path] = x / sde.at(t).alpha
    for x in results.values():
        torch.testing.assert_close(x, results["vp"], rtol=1e-8, atol=1e-8)


def test_names_that_mean_the_same_rule():
    """UniPC of order 1 without corrector is DDIM; Euler's rule in sigma/alpha too; SDE-2M at eta 0 is 2M."""
    model, z = exact_model(sde_named("vp")), start()

    def drawn(solver):
        return list(Sampler(solver, steps=9).path(model, z, Noise(0)))[-1][1]

    unipc = ExponentialMultistep(predictor=1, weights="unipc_bh2")
    torch.testing.assert_close(drawn(unipc), drawn(DDIM()), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(drawn(RungeKutta("euler")), drawn(DDIM()), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(drawn(ExponentialMultistep("eps", predictor=1)), drawn(DDIM()), rtol=1e-10, atol=1e-10)
    assert torch.equal(drawn(on_ode("sde_dpmpp_2m")), drawn(solver_named("dpmpp_2m")))


@pytest.mark.parametrize("name", ["heun", "torchdiffeq"])
def test_an_ode_rule_refuses_noise(name):
    with pytest.raises(InputError, match=r"eta: 0\.5 is not possible with"):
        Sampler(solver_named(name), LambdaUniform(), eta=0.5)


class Linear(EtaFunction):
    """A noise level that is another one everywhere."""

    def __call__(self, lam):
        return 0.5 + 0.1 * (lam + 6)


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        (lambda eta: ExponentialMultistep(predictor=1, eta=eta), 0.5),
        (lambda eta: ExponentialMultistep(predictor=1, predict="eps", eta=eta), 0.5),
        (lambda eta: ExponentialRungeKutta(eta=eta), 0.5),
        (lambda eta: EulerMaruyama(eta), 0.0),
        (lambda eta: ReverseDiffusion(eta), 0.0),
    ],
)
def test_where_in_a_step_a_noise_level_is_taken(rule, part):
    """In the middle in lam where the step is exact in between, at the beginning where the rule is Euler's."""
    sde, eta = sde_named("vp"), Linear()
    times = sde.t_of_lam(torch.tensor([-3.0, -1.0], dtype=torch.float64))
    at = float(eta(torch.tensor(-3.0 + 2 * part)))
    torch.testing.assert_close(numbers(rule(eta).plan(sde, times)), numbers(rule(at).plan(sde, times)))


def numbers(plan):
    """All coefficients of a plan in one list."""
    if isinstance(plan, float | int):
        return torch.tensor([plan], dtype=torch.float64)
    return torch.cat([numbers(one) for one in plan if not (isinstance(one, tuple | list) and not one)])
