"""Paths of the user's own: equality with the built-in ones, safe expressions, and mistakes that say where they are."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from support import TWINS, exact_model, mixture, sde_named

from scoresde import VPSDE, CosineSDE, DriftSDE, InputError, PathSDE, RectifiedSDE, Sampler, SubVPSDE, load
from scoresde.cli.main import main
from scoresde.sampling import DPMSolverPP2M
from scoresde.sde.expression import parse

BETA, B = "(0.1 + 19.9*t)", "(0.1*t + 9.95*t**2)"
SAME = {
    "VP, drift": (VPSDE(), lambda: DriftSDE(f"-{BETA}/2", f"sqrt{BETA}")),
    "sub-VP, drift": (SubVPSDE(), lambda: DriftSDE(f"-{BETA}/2", f"sqrt(-{BETA}*expm1(-2*{B}))")),
    "rectified, drift": (RectifiedSDE(), lambda: DriftSDE("-1/(1 - t)", "sqrt(2*t/(1 - t))", T=0.999)),
    "cosine, drift": (CosineSDE(0.0), lambda: DriftSDE("-pi/2*tan(pi*t/2)", "sqrt(pi*tan(pi*t/2))", T=0.996)),
    "VP, path": (VPSDE(), lambda: PathSDE(f"exp(-{B}/2)", f"sqrt(-expm1(-{B}))", T=1.0)),
    "rectified, path": (RectifiedSDE(), lambda: PathSDE()),
    "VP, another horizon": (VPSDE(T=7.0), lambda: DriftSDE("-(0.1 + 19.9*t/7)/14", "sqrt((0.1 + 19.9*t/7)/7)", T=7.0)),
}


@pytest.mark.parametrize("name", SAME)
def test_a_user_can_write_down_the_built_in_paths(name):
    known, make = SAME[name]
    own = make()
    u = torch.linspace(0, 1, 300, dtype=torch.float64)
    t = known.t_train * (known.T / known.t_train) ** u
    for method in ("alpha", "sigma", "f", "g2"):
        torch.testing.assert_close(getattr(own, method)(t), getattr(known, method)(t), rtol=1e-10, atol=0)
    torch.testing.assert_close(own.lam(t), known.lam(t), rtol=0, atol=1e-10)
    torch.testing.assert_close(own.t_of_lam(known.lam(t)), t, rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", TWINS)
def test_the_defaults_are_their_twins(name):
    if name == "trigonometric":  # another schedule of the same class
        return
    own, known = sde_named(name), sde_named(TWINS[name])
    times = torch.linspace(own.t_train, own.T, 50, dtype=torch.float64)
    assert (own.T, own.t_min, own.t_train) == (known.T, known.t_min, known.t_train)
    torch.testing.assert_close(own.lam(times), known.lam(times), rtol=1e-10, atol=1e-10)


def test_sigma_keeps_its_precision_at_the_smallest_times():
    """For f = 0 and g = t^k the integral is known: sigma = sqrt(t^(2k+1) / (2k+1)), here down to t = 1e-12."""
    t = torch.tensor([1e-12, 1e-9, 1e-5, 1e-2, 1.0], dtype=torch.float64)
    for k in (0, 1, 3):
        exact = torch.sqrt(t ** (2 * k + 1) / (2 * k + 1))
        torch.testing.assert_close(DriftSDE("0", f"t**{k}").sigma(t), exact, rtol=1e-13, atol=0)
    # a diffusion that is not smooth at 0: t^(1/4)
    torch.testing.assert_close(DriftSDE("0", "t**0.25").sigma(t), torch.sqrt(t**1.5 / 1.5), rtol=1e-5, atol=0)


@given(a=st.floats(0.2, 5), b=st.floats(-3, 3), w=st.floats(0.5, 60))
def test_any_smooth_drift_and_diffusion_solve_their_equations(a, b, w):
    def f(t):
        return b * math.cos(w * t) - a

    sde = DriftSDE(f"{b!r}*cos({w!r}*t) - {a!r}", f"{a!r} + exp(sin({w!r}*t))")
    first = sde.at(sde.t_min)

    def rate(t, y):
        return [f(t) * y[0], 2 * f(t) * y[1] + (a + math.exp(math.sin(w * t))) ** 2]

    end = solve_ivp(rate, (sde.t_min, 1), [first.alpha, first.sigma**2], method="DOP853", rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose([sde.at(1.0).alpha, sde.at(1.0).sigma ** 2], end.y[:, -1], rtol=1e-8)


def test_callables_need_not_be_of_torch():
    """A table of measured values, interpolated by numpy; its slope is that of the equation."""
    knots, values = np.array([0.0, 0.3, 1.0]), np.array([0.5, 3.0, 8.0])

    def g(t):
        return torch.from_numpy(np.interp(t.numpy(), knots, values))

    sde = DriftSDE(lambda t: -2.0, g)
    t = torch.tensor([0.1, 0.3, 0.9], dtype=torch.float64)
    torch.testing.assert_close(sde.g(t), g(t), rtol=1e-9, atol=0)
    torch.testing.assert_close(sde.alpha(t), torch.exp(-2 * t), rtol=1e-12, atol=0)
    end = solve_ivp(lambda t, y: -4 * y + np.interp(t, knots, values) ** 2, (0, 0.9), [0], rtol=1e-11, max_step=0.01)
    assert float(sde.sigma(0.9)) ** 2 == pytest.approx(end.y[0, -1], rel=1e-7)


@pytest.mark.parametrize("name", TWINS)
def test_samples_of_a_mixture(name):
    x = Sampler(DPMSolverPP2M(), steps=60).sample(exact_model(sde_named(name)), (2,), 4000, batch_size=4000).x.double()
    data = mixture().sample(100_000, seed=9)
    torch.testing.assert_close(x.mean(0), data.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(torch.cov(x.T), torch.cov(data.T), rtol=0, atol=0.12)


# ---- expressions ----

CALCULATOR = {k: getattr(math, k) for k in ("exp", "log", "sqrt", "sin", "cos", "tan", "tanh", "expm1", "log1p")}


@pytest.mark.parametrize(
    "text",
    [
        "1 - t",
        " -t**2 + 3*t/2 ",
        "2**-t**2",
        "-(0.1+19.9*t)*expm1(-2*t)",
        "exp(sin(pi*t))**0.5 - e",
        "1e-3*log(t) + log1p(t)/sqrt(t)",
        "+tan(t) - -tanh(t)*cos(t)",
        "7",
    ],
)
def test_expressions_mean_what_they_mean_in_python(text):
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    names = {**CALCULATOR, "pi": math.pi, "e": math.e}
    expected = [eval(text.strip(), {"__builtins__": {}}, {**names, "t": u}) for u in t.tolist()]
    np.testing.assert_allclose(parse(text, "f")(t).numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("__import__('os').system('true')", "__import__"),
        ("t.__class__", "t.__class__"),
        ("open('x')", "open"),
        ("().__class__.__bases__", "__bases__"),
        ("[t for t in (1,)]", "for t in"),
        ("lambda: t", "lambda"),
        ("exp(t, 2)", "exp(t, 2)"),
        ("exp(x=t)", "exp(x=t)"),
        ("exp", "'exp'"),
        ("x + 1", "'x'"),
        ("t if t else 1", "if t else"),
        ("True", "'True'"),
        ("'t'", "'t'"),
        ("1j", "1j"),
        ("t // 2", "t // 2"),
        ("t ^ 2", "write ** for a power"),
        ("t = 1", "is not an expression"),
        ("sqrt(t", "is not an expression"),
        ("", "is not an expression"),
        ("2t", "is not an expression"),
        ("(" * 220 + "t" + ")" * 220, "is not an expression"),
        ("1 + " * 500 + "t", "too many"),
    ],
)
def test_nothing_else_is_read(text, culprit):
    with pytest.raises(InputError, match=r"^f: ") as error:
        parse(text, "f")
    assert culprit in str(error.value)
    assert "\n" not in str(error.value)


def test_an_expression_cannot_keep_the_machine_busy():
    assert float(parse("9**9**9**9", "f")(torch.tensor(0.0, dtype=torch.float64))) == math.inf
    assert float(parse("-" * 499 + "t", "f")(torch.tensor(2.0, dtype=torch.float64))) == -2


# ---- mistakes ----


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PathSDE("cos(6*t)"), r"alpha_of_t: alpha is -?[\d.e-]+ at t = 0\.26\d+; it must be finite and > 0"),
        (lambda: PathSDE(sigma_of_t="t - 0.5"), r"sigma_of_t: sigma is -0\.49999 at t = 1e-05"),
        (lambda: PathSDE(sigma_of_t="log(t)"), "sigma_of_t: sigma is -11"),
        (lambda: PathSDE("1 - 1.01*t", T=1.0), r"alpha_of_t: alpha is -[\d.e-]+ at t = 0\.99"),
        (
            lambda: PathSDE("1", "t*(1.2 - t)"),
            r"sigma_of_t: alpha / sigma does not fall .* t = 0\.(59|60)\d* and 0\.999",
        ),
        (lambda: PathSDE("1", "1"), "sigma_of_t: alpha / sigma does not fall"),
        (lambda: DriftSDE("-1/(1 - t)"), "drift: f or g varies too wildly near t = 1;"),
        (lambda: DriftSDE("1/(t - 0.5)"), r"drift: f or g varies too wildly near t = 0\.(5|49)"),
        (lambda: DriftSDE(diffusion="log(t - 0.3)"), r"diffusion: nan at t = 0\.00248188; it must be finite"),
        (lambda: DriftSDE(diffusion="0"), "diffusion: sigma is 0 at t = 1e-05"),
        (lambda: DriftSDE("800", "1"), "drift: alpha is inf at t = 0"),
        (lambda: DriftSDE("import"), "drift: 'import' is not an expression"),
    ],
)
def test_a_path_that_cannot_be_says_where(make, words):
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize("option", ["cosine", "trigonometric", "rectified", "path", "drift"])
def test_every_new_path_trains(option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("t.npy", np.random.default_rng(0).normal(size=(60, 2)))
    small = ["data=array", "data.path=t.npy", "model=mlp", "model.net.width=8", "logger=none", "trainer.steps=4"]
    if option != "rectified":  # one path with all samplers, the others with one
        small += ["~samplers.predictor_corrector", "~samplers.dopri5"]
    assert main(["train", "debug=tiny", f"sde={option}", *small, "run=run"]) == 0
    summary = json.loads(Path("run/summary.json").read_text())
    assert not [row["error"] for row in summary["results"]["rows"] if row.get("error")]
    assert isinstance(load("run").sde, type(sde_named(option)))


def test_expressions_are_typed_without_further_quotes(capsys):
    typed = ["sde=drift", "sde.drift=-0.5*(0.1+19.9*t)", "sde.diffusion=sqrt(0.1+19.9*t)"]
    assert main(["train", *typed, "--cfg", "job", "-p", "sde"]) == 0
    cfg = yaml.safe_load(capsys.readouterr().out)
    assert (cfg["drift"], cfg["diffusion"]) == ("-0.5*(0.1+19.9*t)", "sqrt(0.1+19.9*t)")
    for value, expected in (("'exp(-t)'", "exp(-t)"), ("0", "0"), ("1 - t", "1 - t")):
        assert main(["train", "sde=path", f"sde.alpha_of_t={value}", "--cfg", "job", "-p", "sde"]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["alpha_of_t"] == expected


def test_a_bad_expression_is_one_line_on_the_command_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "sde=drift", "sde.drift=__import__(t)", "logger=none"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: sde.drift: '__import__(t)' in '__import__(t)' is not allowed; give numbers, t, pi, e")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
