"""The kernel Stein discrepancy against automatic derivatives, zero for exact draws of a posterior, and its p-value."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from support import PATHS, gaussian, mixture, sde_named

from scoresde import ExactModel, GaussianMixture, InputError, load
from scoresde.checks import KernelStein, Target
from scoresde.cli.main import main
from scoresde.data import Dataset, Transform
from scoresde.metrics import kernel_stein, stein_test
from scoresde.observation import Inpaint, Projection, in_units

RUN = Path(__file__).parent / "fixtures/d14582e/run"


def score_of(distribution, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(distribution.log_prob(x).sum(), x)[0]


def test_it_is_that_of_automatic_derivatives():
    x = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    s = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def k(a, b):
        return (0.7**2 + (a - b).square().sum()) ** -0.5

    a, b = x
    of_a, of_b = (torch.func.grad(k, argnums=i)(a, b) for i in (0, 1))
    trace = torch.func.jacrev(torch.func.grad(k, argnums=0), argnums=1)(a, b).trace()
    wanted = s[0] @ s[1] * k(a, b) + s[0] @ of_b + s[1] @ of_a + trace
    assert kernel_stein(x, s, 0.7).value == pytest.approx(float(wanted), rel=1e-12)


def test_it_is_zero_on_average_for_exact_draws_of_a_posterior_and_else_positive():
    """The score is that of the prior plus grad log p(y | x)."""
    prior, a, y, sigma_y = mixture(), torch.tensor([[0.8, -0.6]]).double(), 0.4, 0.3
    exact = prior.posterior(a, [y], sigma_y)

    def score(x):
        return score_of(prior, x) + (y - x @ a.T) @ a / sigma_y**2

    found = [kernel_stein(x, score(x)) for x in (exact.sample(100, seed) for seed in range(100))]
    values = torch.tensor([one.value for one in found])
    assert abs(float(values.mean())) < 4 * float(values.std()) / 10
    assert sum(abs(one.value) < one.half for one in found) >= 89  # fewer of 100 have a chance of 1 % at 95 %
    for wrong in (1.1 * exact.sample(2000), exact.sample(2000) + 0.1, prior.sample(2000)):
        one = kernel_stein(wrong, score(wrong))
        assert one.value > one.half


def of_the_plane(n=100):
    """Draws of a Gaussian and their scores."""
    exact = gaussian()
    for seed in range(150):
        x = exact.sample(n, seed)
        yield x, score_of(exact, x), x.mean(0), exact


def test_the_p_value_is_uniform_of_right_samples_and_small_of_wrong_ones():
    right, narrow = [], []
    for seed, (x, score, mean, exact) in enumerate(of_the_plane()):
        right.append(stein_test(x, score, resamples=99, seed=seed)[1])
        if seed < 40:
            wrong = mean + 0.7 * (x - mean)
            narrow.append(stein_test(wrong, score_of(exact, wrong), resamples=99, seed=seed)[1])
    jitter = np.random.default_rng(0).uniform(0, 0.01, len(right))
    assert stats.kstest(np.array(right) - jitter, "uniform").pvalue > 1e-3
    assert np.mean(np.array(narrow) <= 0.05) > 0.8
    x, score, *_ = next(of_the_plane())
    assert stein_test(x, score)[0] == kernel_stein(x, score)
    assert stein_test(torch.linspace(1, 2, 20)[:, None], torch.ones(20, 1))[1] == 1 / 1000


def test_it_is_blind_to_the_weights_of_modes():
    """Half of the samples in a mode of 5 %: the scores within both modes are right."""
    own = GaussianMixture([0.05, 0.95], [[-4.0], [4.0]], [[[0.1]]] * 2)
    wrong = GaussianMixture([0.5, 0.5], own.means, [[[0.1]]] * 2)
    values = [stein_test(x, score_of(own, x), resamples=99)[1] for x in (wrong.sample(200, k) for k in range(20))]
    assert np.mean(values) > 0.3


A, Y = torch.tensor([[0.8, -0.6]]), torch.tensor([0.4])


@pytest.mark.parametrize("path", PATHS)
def test_of_gaussian_data_the_score_of_a_posterior_is_exact_at_any_level(path):
    sde = sde_named(path)
    exact = ExactModel(gaussian().posterior(A, Y, 0.3), sde)
    t = float(sde.t_of_lam(torch.tensor(0.5)))
    seen, draws = Projection((2,), matrix=A, sigma_y=0.3), exact.data.sample(9)
    x, score = Target(ExactModel(gaussian(), sde), seen, Y)(draws, t, 0)
    torch.testing.assert_close(score, exact(x, t).score, rtol=1e-9, atol=1e-9)
    alpha, sigma, _ = sde.at(t)
    z = (x - alpha * draws) / sigma
    torch.testing.assert_close(z, Target(exact)(torch.zeros(9, 2), t, 0)[0] / sigma)
    noise = Target(exact)(torch.zeros(20_000, 2), t, 1)[0]
    assert abs(float(noise.std() / sigma) - 1) < 4 / (2 * noise.numel()) ** 0.5


def test_near_the_data_the_score_is_that_of_the_noised_posterior_of_a_mixture():
    sde, prior = sde_named("vp"), mixture()
    exact = ExactModel(prior.posterior(A, Y, 0.3), sde)
    x, score = Target(ExactModel(prior, sde), Projection((2,), matrix=A, sigma_y=0.3), Y)(
        exact.data.sample(50), sde.t_min, 0
    )
    torch.testing.assert_close(score, exact(x, sde.t_min).score, rtol=0, atol=1e-3)


def test_exact_samples_of_a_mixture_pass_and_those_of_the_prior_do_not():
    sde, prior = sde_named("vp"), mixture()
    metric = KernelStein(resamples=199)
    metric.target = Target(ExactModel(prior, sde), Projection((2,), matrix=A, sigma_y=0.3), Y)
    data = Dataset(prior.sample(9).float(), prior.sample(9).float(), Transform("points", (2,)))
    metric.prepare(data)
    assert metric(prior.posterior(A, Y, 0.3).sample(300).float(), data)["stein_p"].value > 0.01
    assert metric(prior.sample(300).float(), data)["stein_p"].value == 1 / 200


ASKED = ["observation=inpaint", "observation.columns=[0]", "observation.held_out=3", "observation.sigma_y=0.3"]


def test_the_command_takes_the_posterior_from_which_samples_were_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ["solver=ddim", "sampler.steps=4", "n=20"]
    assert main(["sample", f"run={RUN}", *ASKED, *few, "out=drawn"]) == 0
    assert main(["evaluate", "samples=drawn", "metrics=stein", "logger=none", "out=a"]) == 0
    run = load(RUN)
    seen = in_units(Inpaint((2,), columns=[0], sigma_y=0.3), run.transform)
    y = seen.encode(torch.from_numpy(np.load("drawn/posterior.npz")["y"])[None]).float()
    x = run.transform.encode(torch.from_numpy(np.load("drawn/samples.npz")["samples"]).float())
    found, p = stein_test(*Target(run.model, seen, y)(x, run.sde.t_min, 0))
    (row,) = json.loads(Path("a/results.json").read_text())["rows"]
    assert row["values"]["stein"] == [pytest.approx(found.value, rel=1e-9)]
    assert row["values"]["stein_p"] == [p]
    assert main(["evaluate", f"run={RUN}", *few, "metrics=stein", "logger=none", "out=b"]) == 0
    plain = run.sample(20, solver="ddim", steps=4).x
    (row,) = json.loads(Path("b/results.json").read_text())["rows"]
    wanted = stein_test(*Target(run.model)(plain, run.sde.t_min, 0))[0].value
    assert row["values"]["stein"] == [pytest.approx(wanted, rel=1e-9)]
    capsys.readouterr()
    own = ["evaluate", "samples=drawn", "metrics=stein", "logger=none", "out=c"]
    assert main([*own, "metrics.stein.at=2"]) == 2
    assert "at: 2.0 is not allowed; give a time from t_train" in capsys.readouterr().err
    summary = json.loads(Path("drawn/summary.json").read_text())
    Path("drawn/summary.json").write_text(json.dumps(summary | {"guidance": 2}))
    assert main(own) == 2
    assert "guidance: 1.0 is not that of the samples; give guidance=2" in capsys.readouterr().err
    for key in ("guide", "classifier", "guidance_interval", "guidance_method"):
        Path("drawn/summary.json").write_text(json.dumps(summary | {key: "some"}))
        assert main(own) == 2
        assert f"guided by {key}, so their score is not known" in capsys.readouterr().err
    Path("drawn/summary.json").write_text(json.dumps(summary))
    Path("drawn/posterior.npz").unlink()
    assert main(own) == 2
    assert "has no posterior.npz" in capsys.readouterr().err
    assert not Path("c").exists()


def test_bad_input_is_named():
    with pytest.raises(InputError, match="stein in scoresde evaluate"):
        KernelStein().prepare(None)
    with pytest.raises(InputError, match=r"score: \(3, 1\) .* \(3, 2\)"):
        kernel_stein(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(InputError, match=r"x: .* two samples"):
        kernel_stein(torch.zeros(1, 2), torch.zeros(1, 2))
