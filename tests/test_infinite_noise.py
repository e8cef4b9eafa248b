"""Paths on which alpha(T) = 0, so that nothing of the data is left: zero terminal signal-to-noise ratio."""

import math

import pytest
import torch
from support import SDES, SOLVERS, exact_model, gaussian, mixture, sde_named, solver_named
from torch import nn

from scoresde import SDE, VPSDE, InputError, PathSDE, Sampler, ScoreModel
from scoresde.doctor import examine
from scoresde.loss import DenoisingScoreMatching
from scoresde.sampling import DDIM, Churn, Discrete, Explicit, LambdaUniform, TimeUniform


class Straight(SDE):
    """Rectified flow up to t = 1, without a cut-off of its own."""

    def __init__(self):
        super().__init__(T=1.0, t_min=1e-3, t_train=1e-5)

    def alpha(self, t):
        return 1 - t

    def sigma(self, t):
        return t


class Round(Straight):
    """Its alpha(T) is 6e-17, zero but for rounding."""

    def alpha(self, t):
        return torch.cos(torch.pi * t / 2)

    def sigma(self, t):
        return torch.sin(torch.pi * t / 2)


class Rescaled(Straight):
    """The VP path, shifted and scaled so that alpha(T) = 0: Lin et al. 2023 (arXiv 2305.08891), algorithm 1."""

    def alpha(self, t):
        first, last = 1.0, torch.exp(torch.tensor(-0.5 * 10.05, dtype=torch.float64))
        return (torch.exp(-0.5 * t * (0.1 + 9.95 * t)) - last) * first / (first - last)

    def sigma(self, t):
        alpha = self.alpha(t)
        return torch.sqrt((1 - alpha) * (1 + alpha))


class Exploding(Straight):
    """Infinite noise at T in place of no data."""

    def alpha(self, t):
        return torch.ones_like(t)

    def sigma(self, t):
        return torch.tan(torch.pi * t / 2)


@pytest.mark.parametrize("sde", [Straight, Round, Rescaled, Exploding])
def test_samplers_start_where_noise_is_finite(sde):
    """At sigma / alpha = e^7, from the prior of that level."""
    path = sde()
    assert float(path.lam(path.t_start)) == pytest.approx(-7, abs=1e-6)
    assert path.prior_std == path.at(path.t_start).sigma
    listed = Explicit([1.0, *torch.linspace(0.9, 0.1, 19).tolist()])
    for grid in (LambdaUniform(), TimeUniform(), Discrete(), listed):
        times = grid(path, 20)
        assert torch.isfinite(path.lam(times)).all()
        assert path.t_start <= times[0] < path.T


def test_listed_levels_beyond_the_start_are_kept():
    """990 of 1000 lies above t_start; only the last one, which has no level, is moved, half the way to it."""
    times = Discrete()(Rescaled(), 100)
    assert times[:2].tolist() == pytest.approx([0.995, 0.99])
    assert times[1] > Rescaled().t_start


def test_other_paths_start_at_the_end():
    assert all(path.t_start == path.T for path in map(sde_named, SDES))


ADAPTIVE = [name for name in SOLVERS if name.startswith("adaptive")]


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_has_the_law_of_the_data(solver):
    data, slow = mixture(), solver in ADAPTIVE
    made = solver_named(solver, **({"rtol": 0.03, "atol": 0.03} if slow else {}))
    x = Sampler(made, steps=60).sample(exact_model(Straight(), data), n=100 if slow else 1500).x
    real, far = data.sample(4000), 0.45 if slow else 0.12
    assert (x.mean(0) - real.mean(0)).abs().max() < far
    assert (x.std(0) - real.std(0)).abs().max() < far


@pytest.mark.parametrize("sde", [Round, Rescaled, Exploding])
@pytest.mark.parametrize(
    ("solver", "grid"),
    [("auto", None), ("ddim", TimeUniform()), ("ddim", Discrete()), ("ancestral", None), ("heun_churn", None)],
)
def test_every_path_has_the_law_of_the_data(sde, solver, grid):
    data = mixture()
    x = Sampler(solver_named(solver), grid, steps=100).sample(exact_model(sde(), data), n=1500).x
    real = data.sample(4000)
    assert (x.mean(0) - real.mean(0)).abs().max() < 0.12
    assert (x.std(0) - real.std(0)).abs().max() < 0.12


class Oracle(nn.Module):
    """The exact v of a mixture, read from the level that a network is given."""

    def __init__(self, model):
        super().__init__()
        self.exact = model

    def forward(self, scaled, c):
        sde = self.exact.sde
        t = sde.t_of_lam(-4 * c.double())
        return self.exact(scaled * torch.hypot(sde.alpha(t), sde.sigma(t))[:, None], t).v


def test_a_network_that_predicts_v_samples_and_trains():
    exact = exact_model(Rescaled())
    model = ScoreModel(Oracle(exact), Rescaled(), "v", sigma_data=1.0)
    for solver, grid in ((DDIM(), Discrete()), (DDIM(), None), (None, None), (Churn(), None)):
        sampler = Sampler(solver, grid, steps=10)
        drawn = [sampler.sample(one, (2,), 20, dtype=torch.float64).x for one in (model, exact)]
        torch.testing.assert_close(*drawn, rtol=1e-5, atol=1e-5)
    u, eps = torch.linspace(0, 1 - 1e-9, 50, dtype=torch.float64), torch.zeros(50, 2, dtype=torch.float64)
    assert torch.isfinite(DenoisingScoreMatching()(model, mixture().sample(50).double(), u, eps).loss).all()


def test_data_becomes_noise_and_comes_back():
    model, x = exact_model(Straight()), mixture().sample(20).double()
    sampler = Sampler(steps=200)
    z = sampler.sample(model, start=x, at=1e-3, to=1.0).x
    assert z.std() == pytest.approx(1, abs=0.25)
    back = sampler.sample(model, start=z, at=1.0, to=1e-3).x
    torch.testing.assert_close(back, x, rtol=0, atol=3e-3)


@pytest.mark.parametrize("sde", [Straight, Round, Rescaled, Exploding])
def test_the_doctor_finds_them_sound_and_says_where_samplers_start(sde):
    findings = {finding.check: finding for finding in examine(sde())}
    assert {finding.verdict for finding in findings.values()} == {"ok"}
    assert f"at t = {sde().t_start:.6g}, where samplers start" in findings["signal at T"].message
    assert findings["signal at T"].value == pytest.approx(math.exp(-14), rel=1e-6)


@pytest.mark.parametrize("rounding", [1e-17, -1e-17])
def test_an_alpha_that_rounds_to_zero_from_either_side_is_zero(rounding):
    class Rounded(Straight):
        def alpha(self, t):
            return 1 - t + rounding * (t == 1)

    assert Rounded().t_start == Straight().t_start
    assert torch.isfinite(Sampler(steps=5).sample(exact_model(Rounded()), n=3).x).all()


def test_a_path_given_by_expressions_may_end_in_noise():
    own = PathSDE("1 - t", "t", T=1.0)
    assert own.t_start == pytest.approx(Straight().t_start, rel=1e-9)
    x, y = (Sampler(steps=10).sample(exact_model(sde), n=20, dtype=torch.float64).x for sde in (own, Straight()))
    torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6)


def test_there_is_no_score_at_the_end():
    with pytest.raises(InputError, match=r"^t: 1.0 is not allowed; alpha\(t\) = 0 and sigma\(t\) = 1 there"):
        exact_model(Straight())(torch.ones(4, 2), 1.0)


@pytest.mark.parametrize("sde", [Rescaled, Round, VPSDE])
@pytest.mark.parametrize("solver", ["sa_solver", "sde_dpmpp_3m", "dpmpp_3m", "unipc_3", "auto"])
def test_a_polynomial_is_not_extrapolated_far_beyond_its_values(solver, sde):
    """Equal steps in time end with a step in lam four times as long as the one before: order 3 was up to 9 off."""
    data = gaussian()
    x = Sampler(solver_named(solver), TimeUniform(), steps=50).sample(exact_model(sde(), data), n=3000).x.double()
    covariance = data.axes[0] @ torch.diag(data.variances[0]) @ data.axes[0].T
    assert (x.mean(0) - data.means[0]).abs().max() < 0.06
    assert (torch.cov(x.T) - covariance).abs().max() < 0.1
