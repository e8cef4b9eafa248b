"""Step for step equality with the schedulers of diffusers, each rule with the weights that they publish.

Their levels, sigma / alpha, are read from the scheduler and given to ours as times of a VP path (every VP path through
the same levels is the same). The same exact score and the same noise go into both.
"""

import inspect

import pytest
import torch
from support import exact_model

from scoresde import EDMSDE, VPSDE
from scoresde.noise import Noise
from scoresde.sampling import DDIM, Ancestral, ExponentialMultistep, Heun

diffusers = pytest.importorskip("diffusers", reason="diffusers is installed with the extra dev")

pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]
STEPS = 12
BETAS = {"num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}


class Fed:
    """Random numbers: those that ours asks for, in the order in which theirs will want them."""

    def __init__(self, monkeypatch, scheduler):
        self.noise = Noise(7)
        self.calls = 0
        monkeypatch.setitem(inspect.unwrap(type(scheduler).step).__globals__, "randn_tensor", self.theirs)

    def number(self, step, shape):
        return self.noise.normal("solver", step, shape, "cpu", torch.float64)

    def theirs(self, shape, generator=None, device=None, dtype=None, layout=None):
        self.calls += 1
        return self.number(self.calls - 1, shape)

    def normal(self, purpose, step, shape, device="cpu", dtype=torch.float64):
        return self.number(step, shape)


def start():
    return torch.randn(6, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def levels(scheduler):
    """lam = log(alpha / sigma) of all levels of a scheduler that are above zero noise, float64."""
    sigmas = scheduler.sigmas.double()
    return -torch.log(sigmas[sigmas > 0])


def model_and_times(lam):
    model = exact_model(VPSDE(beta_max=25.0))  # which has all of their levels
    return model, model.sde.t_of_lam(lam)


def theirs(scheduler, model, times, x, scale=lambda sigma: 1.0):
    """All states of a scheduler that is fed the exact eps, in its own coordinates."""
    states = [x]
    for i, t in enumerate(scheduler.timesteps[: len(times) - 1]):
        inner = x * scale(float(times[i]))
        x = scheduler.step(model(inner, float(times[i])).eps, t, x).prev_sample
        states.append(x)
    return torch.stack(states[1:])


def ours(solver, model, times, x, noise=None):
    return torch.stack([x for _, x in solver.integrate(model, times, x, noise or Noise(0))])


CASES = {
    "ddim": ("DPMSolverMultistepScheduler", {"solver_order": 1}, DDIM()),
    "2m": ("DPMSolverMultistepScheduler", {"solver_order": 2}, ExponentialMultistep(weights="dpmpp")),
    "2m heun is the exact rule": (
        "DPMSolverMultistepScheduler",
        {"solver_order": 2, "solver_type": "heun"},
        ExponentialMultistep(),
    ),
    "3m": ("DPMSolverMultistepScheduler", {"solver_order": 3}, ExponentialMultistep(predictor=3, weights="dpmpp")),
    "dpm-solver-2": (
        "DPMSolverMultistepScheduler",
        {"solver_order": 2, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
        ExponentialMultistep("eps", weights="dpmpp"),
    ),
    "dpm-solver-3": (
        "DPMSolverMultistepScheduler",
        {"solver_order": 3, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
        ExponentialMultistep("eps", predictor=3, weights="dpmpp"),
    ),
    "deis": (
        "DEISMultistepScheduler",
        {"solver_order": 2},
        ExponentialMultistep("eps", predictor=2),
    ),
    "deis-3": ("DEISMultistepScheduler", {"solver_order": 3}, ExponentialMultistep("eps", predictor=3)),
    **{
        f"unipc-{order} {kind} {'x0' if x0 else 'eps'}": (
            "UniPCMultistepScheduler",
            {"solver_order": order, "solver_type": kind, "predict_x0": x0},
            ExponentialMultistep("x0" if x0 else "eps", predictor=order, corrector=order + 1, weights=f"unipc_{kind}"),
        )
        for order in (1, 2, 3)
        for kind in ("bh1", "bh2")
        for x0 in (True, False)
    },
    "unipc-2 without corrector": (
        "UniPCMultistepScheduler",
        {"solver_order": 2, "disable_corrector": list(range(STEPS))},
        ExponentialMultistep(weights="unipc_bh2"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_deterministic_rules(case):
    name, settings, solver = CASES[case]
    scheduler = getattr(diffusers, name)(**BETAS, **settings, lower_order_final=False)
    scheduler.set_timesteps(STEPS)
    scheduler.sigmas = scheduler.sigmas.double()  # or float32 hides what is compared
    model, times = model_and_times(levels(scheduler))
    torch.testing.assert_close(
        ours(solver, model, times, start()), theirs(scheduler, model, times, start()), rtol=1e-5, atol=1e-5
    )


STOCHASTIC = {
    "sde 1": ("DPMSolverMultistepScheduler", {"solver_order": 1, "algorithm_type": "sde-dpmsolver++"}, Ancestral()),
    "sde 2m": (
        "DPMSolverMultistepScheduler",
        {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"},
        ExponentialMultistep(eta=1.0, weights="dpmpp"),
    ),
    "sde 2m heun is the exact rule": (
        "DPMSolverMultistepScheduler",
        {"solver_order": 2, "algorithm_type": "sde-dpmsolver++", "solver_type": "heun"},
        ExponentialMultistep(eta=1.0),
    ),
    **{
        f"sa-solver {p} {c}": (
            "SASolverScheduler",
            {"predictor_order": p, "corrector_order": c, "tau_func": lambda t: torch.tensor(0.8)},
            ExponentialMultistep(predictor=p, corrector=c, eta=0.8, weights="unipc_bh1"),
        )
        for p, c in ((1, 2), (2, 2), (3, 3), (3, 4))
    },
}


@pytest.mark.parametrize("case", STOCHASTIC)
def test_stochastic_rules(case, monkeypatch):
    name, settings, solver = STOCHASTIC[case]
    scheduler = getattr(diffusers, name)(**BETAS, **settings, lower_order_final=False)
    scheduler.set_timesteps(STEPS)
    scheduler.sigmas = scheduler.sigmas.double()
    model, times = model_and_times(levels(scheduler))
    noise = Fed(monkeypatch, scheduler)
    expected = theirs(scheduler, model, times, start())
    assert noise.calls == len(times) - 1
    torch.testing.assert_close(ours(solver, model, times, start(), noise), expected, rtol=1e-5, atol=1e-5)


def test_their_stochastic_third_order_has_a_wrong_sign(monkeypatch):
    """sde-dpmsolver++ of order 3 subtracts 1/2 in the weight of the quadratic term where the integral has + 1/2.

    For k = 1 + eta^2 half of the exact weight is 1/2 - 1/(kh) + (1 - e^-kh)/(kh)^2, which vanishes with h; theirs tends
    to -1. So the difference of the two steps is alpha_s times the second divided difference of x0.
    """
    settings = {"solver_order": 3, "algorithm_type": "sde-dpmsolver++", "lower_order_final": False}
    scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS, **settings)
    scheduler.set_timesteps(STEPS)
    scheduler.sigmas = scheduler.sigmas.double()
    lam = levels(scheduler)
    model, times = model_and_times(lam)
    noise = Fed(monkeypatch, scheduler)
    expected = theirs(scheduler, model, times, start())
    actual = ours(ExponentialMultistep(predictor=3, eta=1.0, weights="dpmpp"), model, times, start(), noise)
    torch.testing.assert_close(actual[:2], expected[:2], rtol=1e-5, atol=1e-5)
    x0 = [model(x, float(t)).x0 for x, t in zip((start(), *expected[:2]), times[:3], strict=True)]
    h = float(lam[3] - lam[2])
    r0, r1 = float(lam[2] - lam[1]) / h, float(lam[1] - lam[0]) / h
    quadratic = ((x0[2] - x0[1]) / r0 - (x0[1] - x0[0]) / r1) / (r0 + r1)
    alpha = model.sde.at(float(times[3])).alpha
    assert float(quadratic.abs().max()) > 0.01
    torch.testing.assert_close(actual[2] - expected[2], alpha * quadratic, rtol=1e-4, atol=1e-6)


DISCRETE = {
    "ddpm is ancestral sampling": ("DDPMScheduler", {}, Ancestral()),
    **{f"ddim {eta}": ("DDIMScheduler", {"eta": eta}, DDIM(eta)) for eta in (0.0, 0.4, 1.0)},
}


@pytest.mark.parametrize("case", DISCRETE)
def test_rules_on_discrete_levels(case, monkeypatch):
    name, settings, solver = DISCRETE[case]
    scheduler = getattr(diffusers, name)(**BETAS, clip_sample=False)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(STEPS)
    # one of them steps to t - 1000 // 12 whatever comes next in its list, so take a list in which that is next
    scheduler.timesteps = steps = torch.arange(996, -1, -(1000 // STEPS))[:STEPS]
    level = scheduler.alphas_cumprod[steps]
    model, times = model_and_times(0.5 * (torch.log(level) - torch.log1p(-level)))
    noise, x, expected = Fed(monkeypatch, scheduler), start(), []
    for t, time in zip(steps[:-1], times[:-1].tolist(), strict=True):
        x = scheduler.step(model(x, time).eps, int(t), x, **settings).prev_sample
        expected.append(x)
    torch.testing.assert_close(ours(solver, model, times, start(), noise), torch.stack(expected), rtol=1e-5, atol=1e-5)


SIGMAS = {
    "EulerDiscreteScheduler": DDIM(),
    "LMSDiscreteScheduler": ExponentialMultistep("eps", "ratio", predictor=4),
    "EulerAncestralDiscreteScheduler": Ancestral(),
}


@pytest.mark.parametrize("name", SIGMAS)
def test_rules_in_sigma(name, monkeypatch):
    """They work on x / alpha with levels sigma / alpha, which is our EDM path."""
    scheduler = getattr(diffusers, name)(**BETAS)
    scheduler.set_timesteps(STEPS)
    scheduler.sigmas = scheduler.sigmas.double()
    scheduler.is_scale_input_called = True
    model, times = exact_model(EDMSDE(sigma_max=200.0)), scheduler.sigmas[:-1]
    noise = Fed(monkeypatch, scheduler)
    x = start() * times[0]
    expected = theirs(scheduler, model, times, x)
    torch.testing.assert_close(ours(SIGMAS[name], model, times, x, noise), expected, rtol=1e-5, atol=1e-5)


def test_heun_in_sigma():
    scheduler = diffusers.HeunDiscreteScheduler(**BETAS)
    scheduler.set_timesteps(STEPS)
    scheduler.sigmas = scheduler.sigmas.double()
    scheduler.is_scale_input_called = True
    model, x, expected = exact_model(EDMSDE(sigma_max=200.0)), start() * scheduler.sigmas[0], []
    times = scheduler.sigmas.unique().flip(0)[:-1]
    inner = x
    for i in range(2 * (len(times) - 1)):  # they take each step in two calls
        sigma = float(times[(i + 1) // 2])
        inner = scheduler.step(model(inner, sigma).eps, scheduler.timesteps[i], inner).prev_sample
        if i % 2:
            expected.append(inner)
    torch.testing.assert_close(ours(Heun(), model, times, x), torch.stack(expected), rtol=1e-5, atol=1e-5)
