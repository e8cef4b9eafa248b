"""The doctor: healthy paths are healthy, and every kind of illness is named."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from support import SDES, built, mixture, sde_named
from torch.distributions import MultivariateNormal, kl_divergence

from scoresde import SDE, VESDE, VPSDE, InputError, RectifiedSDE, runs
from scoresde.cli.doctor_run import _summary
from scoresde.cli.main import main
from scoresde.doctor import examine, measure, prior_divergence
from scoresde.doctor.path import visited


@pytest.fixture(scope="module")
def digits():
    return built("data", "digits").load()


def verdicts(sde, data=None):
    return {finding.check: finding.verdict for finding in examine(sde, data)}


def ill(sde, data=None):
    return {check: verdict for check, verdict in verdicts(sde, data).items() if verdict != "ok"}


@pytest.mark.parametrize("name", SDES)
def test_every_option_is_healthy_on_digits(name, digits):
    sde = built("sde", "ve", sigma_max=digits.sigma_max) if name == "ve" else sde_named(name)
    assert ill(sde, digits) == {}
    assert ill(sde, digits.train) == {}  # the same of the bare items
    assert ill(sde) == {}
    assert len(examine(sde, digits)) == (10 if name in ("ve", "edm") else 9)


# ---- broken paths ----


class Broken(VPSDE):
    """A class whose one defect is that of its subclass."""


class RisesInTheMiddle(Broken):
    def sigma(self, t):
        return super().sigma(t) * (1 + 0.5 * torch.exp(-(((t - 0.4) / 0.05) ** 2)))


class WrongInverse(Broken):
    def t_of_lam(self, lam):
        return 1.01 * super().t_of_lam(lam)


class NaNAtTheEnd(Broken):
    def alpha(self, t):
        return torch.sqrt(0.9999999 - t) + 0 * t


class NoNoise(Broken):
    def sigma(self, t):
        return super().sigma((t - 0.01).clamp(min=0))


class DetachedAlpha(Broken):
    def alpha(self, t):
        return super().alpha(t.detach())


class NumpySigma(Broken):
    def sigma(self, t):
        return torch.from_numpy(super().sigma(t).detach().numpy())


class NegativeAtTheEnd(Broken):
    def alpha(self, t):
        return 1 - 1.01 * t


class ZeroBeforeTheEnd(Broken):
    def alpha(self, t):
        return torch.cos(1.5 * torch.pi * t)

    def sigma(self, t):
        return torch.sin(1.5 * torch.pi * t).abs()


class AnotherDrift(Broken):
    def f(self, t):  # final, but Python does not mind
        return -0.5 * (0.1 + 20 * torch.as_tensor(t))


class AnotherDiffusion(Broken):
    def g2(self, t):
        return 0.1 + 19 * torch.as_tensor(t, dtype=torch.float64)


@pytest.mark.parametrize(
    ("cls", "checks", "words"),
    [
        (RisesInTheMiddle, {"lam falls", "diffusion", "t_of_lam"}, "does not fall everywhere between t = 0.4"),
        (WrongInverse, {"t_of_lam"}, "off by 1 %"),
        (NaNAtTheEnd, {"finite path"}, "alpha is nan at t = 1"),
        (NegativeAtTheEnd, {"finite path"}, "alpha is -0.01 at t = 1;"),
        (ZeroBeforeTheEnd, {"finite path"}, "it must be finite and > 0"),
        (NoNoise, {"finite path"}, "sigma is 0 at t = 0.00"),
        (DetachedAlpha, {"drift", "diffusion"}, "f is 0 at t = "),
        (NumpySigma, {"diffusion"}, "but the path needs"),
        (AnotherDrift, {"drift"}, "but alpha'/alpha is"),
        (AnotherDiffusion, {"diffusion"}, "but the path needs"),
    ],
)
def test_a_broken_class_is_named(cls, checks, words, digits):
    wrong = [finding for finding in examine(cls(), digits) if finding.verdict == "wrong"]
    assert {finding.check for finding in wrong} == checks
    assert any(words in finding.message for finding in wrong), [finding.message for finding in wrong]
    assert all(finding.remedy for finding in wrong)


@pytest.mark.parametrize(
    ("sde", "expected"),
    [
        (VPSDE(beta_max=5.0), {"prior": "warning"}),
        (VPSDE(beta_max=2.0), {"prior": "wrong", "signal at T": "warning"}),
        (VPSDE(t_min=0.05), {"t_min": "wrong"}),
        (VPSDE(t_min=0.01), {"t_min": "warning"}),
        (VPSDE(t_train=1e-16), {"t_train": "warning"}),
        (RectifiedSDE(T=0.99999), {"signal at T": "warning"}),
        (RectifiedSDE(T=1 - 1e-9), {}),  # whose samplers start where some signal is left
        (VESDE(sigma_max=5000.0), {"sigma_max": "warning"}),
        (VESDE(sigma_max=4.0), {"sigma_max": "warning", "prior": "warning"}),
        (VESDE(sigma_max=1.0), {"sigma_max": "wrong", "prior": "wrong", "signal at T": "wrong"}),
        (VESDE(sigma_min=0.3, sigma_max=10.0), {"t_min": "wrong"}),
    ],
)
def test_times_and_noise_that_do_not_fit_the_data_are_named(sde, expected, digits):
    assert ill(sde, digits) == expected


def test_the_last_step_is_measured_against_the_data(digits):
    assert verdicts(VPSDE(), digits)["t_min"] == "ok"
    assert verdicts(VPSDE(), digits.train / 100)["t_min"] == "wrong"


def left(sde, t):
    """Noise over signal at a time."""
    level = sde.at(t)
    return level.sigma / level.alpha


VP, VE = VPSDE(), VESDE(sigma_max=50.0)
# of a check at two items +-std: the std at which it has a value, that value, and the verdicts below and above it
BOUNDS = [
    ("t_min", VP, lambda v: left(VP, VP.t_min) / v, 0.05, "ok", "warning"),
    ("t_min", VP, lambda v: left(VP, VP.t_min) / v, 0.3, "warning", "wrong"),
    ("t_train", VP, lambda v: left(VP, VP.t_train) / v, 2.0**-21, "warning", "ok"),
    ("signal at T", VP, lambda v: math.sqrt(v) * left(VP, VP.T), 1e-8, "warning", "ok"),
    ("signal at T", VP, lambda v: math.sqrt(v) * left(VP, VP.T), 0.09, "ok", "warning"),
    ("signal at T", VP, lambda v: math.sqrt(v) * left(VP, VP.T), 0.25, "warning", "wrong"),
    ("sigma_max", VE, lambda v: 50 / (2 * v), 0.2, "wrong", "warning"),
    ("sigma_max", VE, lambda v: 50 / (2 * v), 0.5, "warning", "ok"),
    ("sigma_max", VE, lambda v: 50 / (2 * v), 50.0, "ok", "warning"),
]


@pytest.mark.parametrize(("check", "sde", "std", "value", "below", "above"), BOUNDS)
def test_each_verdict_changes_at_its_bound(check, sde, std, value, below, above):
    for near, verdict in ((0.999 * value, below), (1.001 * value, above)):
        items = std(near) * torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
        (found,) = (finding for finding in examine(sde, items) if finding.check == check)
        assert (found.verdict, bool(found.remedy)) == (verdict, verdict != "ok")
        assert found.value == pytest.approx(near)


@pytest.mark.parametrize(
    ("d", "bound", "grades"),
    [
        *((d, bound, ("ok", "warning")) for d, bound in ((1, 0.01), (10, 0.1), (40, 0.2))),
        *((d, bound, ("warning", "wrong")) for d, bound in ((1, 0.1), (10, 1.0), (40, 2.0))),
    ],
)
def test_the_prior_may_be_off_by_a_total_and_by_a_share_of_each_dimension(d, bound, grades):
    items = torch.randn(60, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = brentq(lambda a: prior_divergence(VP, measure(a * items)) - bound, 1, 1e4)
    below, above = (verdicts(VP, factor * scale * items)["prior"] for factor in (0.999, 1.001))
    assert (below, above) == grades


@pytest.mark.parametrize(("drop", "checked"), [(0.0, True), (0.009, True), (0.011, False)])
def test_only_of_an_exploding_path_the_noise_must_reach_from_item_to_item(drop, checked):
    class Mine(SDE):
        def __init__(self):
            super().__init__(T=1.0, t_min=1e-3, t_train=1e-5)

        def alpha(self, t):
            return 1 - drop * t

        def sigma(self, t):
            return 10 * t

    assert ("sigma_max" in verdicts(Mine(), torch.tensor([[-1.0], [1.0]]))) == checked


@pytest.mark.parametrize(("error", "verdict"), [(0.95, "ok"), (1.05, "wrong")])
def test_identities_hold_to_their_bounds(error, verdict):
    class Inverse(VPSDE):
        def t_of_lam(self, lam):
            return (1 + 1e-6 * error) * super().t_of_lam(lam)

    class Drift(VPSDE):
        def f(self, t):
            return (1 + 1e-4 * error) * super().f(t)

    class Diffusion(VPSDE):
        def g2(self, t):
            return (1 + 1e-4 * error) * super().g2(t)

    for cls, check in ((Inverse, "t_of_lam"), (Drift, "drift"), (Diffusion, "diffusion")):
        assert verdicts(cls())[check] == verdict


def test_the_times_that_are_checked_are_even_in_t_and_in_its_logarithm():
    times = visited(VP)
    even, early = np.linspace(VP.t_train, 1, 200), np.geomspace(VP.t_train, 1, 200)
    assert times.numpy() == pytest.approx(np.unique(np.concatenate([even, early]).round(14)), abs=1e-13)


# ---- divergence from the prior ----


@pytest.mark.parametrize("sde", [VPSDE(beta_max=5.0), VESDE(sigma_max=3.0), RectifiedSDE(T=0.9)])
@pytest.mark.parametrize("shape", [(300, 7), (5, 40)])
def test_divergence_is_that_of_two_gaussians(sde, shape):
    generator = torch.Generator().manual_seed(0)
    n, d = shape  # more items than dimensions and the other way round
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    data = torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing + 0.7
    level = sde.at(sde.T)
    covariance = level.alpha**2 * torch.cov(data.T, correction=0) + level.sigma**2 * torch.eye(d).double()
    ours = MultivariateNormal(level.alpha * data.mean(0), covariance)
    prior = MultivariateNormal(torch.zeros(d, dtype=torch.float64), sde.prior_std**2 * torch.eye(d).double())
    assert prior_divergence(sde, measure(data)) == pytest.approx(float(kl_divergence(ours, prior)), rel=1e-9)


def test_the_gaussian_stands_for_the_law_of_a_mixture():
    """KL(p_T || prior) of a mixture by sampling, where p_T is known exactly."""
    sde, data, n = VPSDE(beta_max=5.0), mixture(), 400_000
    level, moments = sde.at(1.0), measure(data.sample(n, seed=1))
    eps = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    x = sde.perturb(data.sample(n, seed=2), torch.ones(n), eps)
    prior = -0.5 * (x.square() + math.log(2 * math.pi)).sum(1)
    ratio = data.log_prob(x, level.alpha, level.sigma) - prior
    error = ratio.std().item() / math.sqrt(n)
    assert prior_divergence(sde, moments) == pytest.approx(ratio.mean().item(), abs=5 * error)
    assert error < 0.05 * ratio.mean().item()


def test_moments_of_images_have_all_their_values(digits):
    moments = measure(digits.train)
    flat = digits.train.flatten(1).double()
    assert moments.variances.sum().item() == pytest.approx(flat.var(0, correction=0).sum().item(), rel=1e-9)
    assert moments.diameter == pytest.approx(digits.sigma_max, rel=1e-5)
    wide = torch.randn(50, 3000, generator=torch.Generator().manual_seed(0))  # the covariance is never made
    total = wide.double().var(0, correction=0).sum().item()
    assert measure(wide).variances.sum().item() == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("items", [torch.ones(5, 2), torch.ones(1, 2), torch.tensor([[1.0], [math.nan]])])
def test_data_that_say_nothing_are_refused(items):
    with pytest.raises(InputError, match=r"^data: "):
        examine(VPSDE(), items)


def test_what_the_gaussian_cannot_see_the_signal_does():
    """Standardised data in two clumps have the moments of the prior, and p_T far from it."""
    data = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]]) + 0.01 * torch.arange(4.0)[:, None]
    sde = VPSDE(beta_max=2.0)
    assert verdicts(sde, data)["prior"] == "ok"
    assert verdicts(sde, data)["signal at T"] == "wrong"


# ---- the command ----


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")  # of the terminal, which decides where the table breaks its lines
    return tmp_path


def test_the_command_says_it_in_a_table_and_writes_nothing(here, capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("sde    VPSDE(")
    assert sum(line.startswith("ok ") for line in out.splitlines()) == 9
    assert out.endswith("all 9 checks are ok\n")
    assert not list(here.iterdir())


def test_something_wrong_is_exit_code_1(here, capsys):
    assert main(["doctor", "sde.beta_max=2", "out=findings.json"]) == 1
    out, err = capsys.readouterr()
    assert "-> raise beta_max" in out
    assert out.splitlines()[-1] == "1 wrong, 1 warning, 7 ok; see above"
    assert err == ""
    found = json.loads(Path("findings.json").read_text())
    assert found["sde"]["beta_max"] == 2
    assert [row["check"] for row in found["findings"] if row["verdict"] == "wrong"] == ["prior"]


def test_the_largest_noise_may_be_measured(here, capsys):
    assert main(["doctor", "sde=ve", "data=moons", "data.n=500"]) == 0
    assert "is 1 times the largest distance of the data" in capsys.readouterr().out


def test_a_sweep_goes_on_after_something_wrong(here, capsys):
    assert main(["doctor", "sde.beta_max=2,20", "out=f.json", "-m"]) == 1
    out, err = capsys.readouterr()
    assert out.count("sde    VPSDE(") == 2
    assert err == "error: job 1 of 2 (sde.beta_max=2): 1 wrong, see the table\n"
    assert {p.name for p in here.iterdir()} == {"f-0.json", "f-1.json"}


def test_a_run_brings_its_own(here, capsys):
    np.save("t.npy", np.random.default_rng(0).normal(size=(60, 2)))
    config = {"sde": {"_target_": "scoresde.VPSDE", "beta_max": 2.0}, "data": {"_target_": "scoresde.data.ArrayFile"}}
    config["data"]["path"] = "t.npy"
    Path("run").mkdir()
    runs.write_config(Path("run"), config)
    assert main(["doctor", "run=run"]) == 1
    assert "beta_max=2.0" in capsys.readouterr().out
    assert main(["doctor", "run=run", "sde=ve"]) == 2
    assert capsys.readouterr().err == "error: sde: the run has its own; leave it out, or leave out run=\n"


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("sde=vpp", "sde=vpp: sde has no option vpp; did you mean vp?"),
        ("sde.betamax=3", "sde.betamax: no such key; did you mean sde.beta_max?"),
        ("run=nowhere", "run: there is no folder nowhere"),
        ("out=nowhere/f.json", "out: nowhere/f.json cannot be written"),
        ("sde.beta_min=-1", "sde.beta_min: -1.0 is not allowed; give a number > 0"),
        ("data._target_=scoresde.VPSDE", "data: VPSDE has no method load"),
        ("sde._target_=os.system", "sde._target_: os.system is not allowed"),
    ],
)
def test_a_mistake_is_one_line(here, capsys, typed, line):
    assert main(["doctor", typed]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {line}")


def test_a_class_of_the_users_own_can_be_examined():
    class Mine(SDE):
        def __init__(self):
            super().__init__(T=5.0, t_min=1e-3, t_train=1e-5)

        def alpha(self, t):
            return torch.exp(-t)

        def sigma(self, t):
            return torch.sqrt(-torch.expm1(-2 * t))

    assert ill(Mine()) == {}


def test_a_verdict_with_a_warning_does_not_say_that_all_is_well() -> None:
    assert _summary({"ok": 8, "warning": 1, "wrong": 0}) == "0 wrong, 1 warning, 8 ok; see above"
    assert _summary({"ok": 6, "warning": 0, "wrong": 2}) == "2 wrong, 0 warnings, 6 ok; see above"
