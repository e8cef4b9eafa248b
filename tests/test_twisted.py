"""Twisted sampling against the exact law and evidence of the chain that it weighs."""

import pytest
import torch
from support import PATHS, gaussian, mixture, sde_named

from scoresde import ExactModel, GaussianMixture, InputError, Sampler, ScoreModel
from scoresde.nets import ResidualMLP
from scoresde.noise import Noise
from scoresde.observation import Projection
from scoresde.posterior import Posterior, Twisted, populations
from scoresde.sampling import DPMSolverPP2M, EulerMaruyama, Heun, Langevin

A, Y = torch.tensor([[0.8, -0.6]]), torch.tensor([0.4])


def posterior(method, prior=None, path="vp", sigma_y=0.3, y=Y):
    observation = Projection((2,), matrix=A, sigma_y=sigma_y)
    return Posterior(ExactModel(prior or mixture(), sde_named(path)), observation, y, method)


def chain(sampler, model):
    """The Gaussian of the samples that `sampler` draws of Gaussian data: each step is affine, with its own noise."""
    grid = sampler.times(model, event_shape=(2,))
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    mean, covariance = torch.zeros(2).double(), torch.eye(2).double() * model.sde.prior_std**2

    def carried(function, mean, covariance, std):
        shift, *columns = function(points)
        slope = torch.stack([column - shift for column in columns], dim=1)
        return slope @ mean + shift, slope @ covariance @ slope.T + std**2 * torch.eye(2)

    for plan in sampler.solver.plan(model.sde, grid):

        def step(x, z=torch.zeros_like, plan=plan):
            return sampler.solver.step(model, x, plan, None, lambda k=0: z(x)).x

        std = float((step(points, torch.ones_like) - step(points))[0, 0])
        mean, covariance = carried(step, mean, covariance, std)
    clean = carried(lambda x: model(x, float(grid[-1])).x0, mean, covariance, 0.0)
    return GaussianMixture([1.0], *(part[None] for part in clean))


@pytest.mark.parametrize(("path", "twist", "share"), [("vp", "mmps", 1.0), ("vp", "pigdm", 0.0), ("edm", "mmps", 0.5)])
def test_evidence_and_law_are_those_of_the_chain_however_few_its_steps(path, twist, share):
    """The estimate of p(y) is unbiased, so its mean over populations is exact; so is a mean that it weighs."""
    count, particles, far = 3000, 32, torch.tensor([1.8])  # where a density changes fast with every number
    method = Twisted(particles, particles, twist=twist, share=share)
    model, solver = posterior(method, gaussian(), path, y=far), EulerMaruyama() if path == "vp" else None
    sampler = Sampler(solver, steps=16).suited(model)
    with populations() as found:
        x = sampler.sample(model, n=count * particles, batch_size=count * particles).x
    plain = Sampler(sampler.solver.inner, sampler.grid, steps=16)
    exact = chain(plain, ExactModel(gaussian(), sde_named(path)))
    evidence = (found[0].log_evidence - exact.observed(A, 0.3).log_prob(far[None])).exp()
    error = float(evidence.std()) / count**0.5
    assert abs(float(evidence.mean()) - 1) < 3 * error < 0.01
    law = exact.posterior(A, far, 0.3)
    means = evidence[:, None] * (x.reshape(count, particles, 2).mean(1) - law.means)  # unbiased: zero
    assert (means.mean(0).abs() < 4 * means.std(0) / count**0.5).all()


@pytest.mark.parametrize(
    ("prior", "sigma_y", "twist", "share"),
    [("gaussian", 10.0, "mmps", 0.5), ("gaussian", 10.0, "pigdm", 1.0), ("mixture", 30.0, "pigdm", 1.0)],
)
def test_the_evidence_is_that_of_bayes_rule_with_every_constant(prior, sigma_y, twist, share):
    """Many numbers with much noise: 1 % of 2 pi or of the number of particles is 10 % of p(y), and estimates vary by 3.

    The law of the chain of the Gaussian is known; that of the mixture differs from it by less than 1 %.
    """
    data, n = {"gaussian": gaussian(), "mixture": mixture()}[prior], 200
    rows = Noise(0).normal("rows", 0, (20, 2), dtype=torch.float64)
    seen = Projection((2,), matrix=rows, sigma_y=sigma_y)
    y = seen.measure(data.sample(1, 7), Noise(1))[0]
    model = Posterior(ExactModel(data, sde_named("vp")), seen, y, Twisted(8, 8, twist=twist, share=share))
    sampler = Sampler(steps=20 if prior == "gaussian" else 60).suited(model)
    with populations() as found:
        sampler.sample(model, n=8 * n, batch_size=8 * n, dtype=torch.float64)
    if prior == "gaussian":
        data = chain(Sampler(sampler.solver.inner, sampler.grid, steps=20), model.model)
    ratio = (found[0].log_evidence - data.observed(rows, sigma_y).log_prob(y[None])).exp()
    error = float(ratio.std()) / n**0.5
    assert abs(float(ratio.mean()) - 1) < 3 * error + (0.01 if prior == "mixture" else 0.0) < 0.03


def test_more_particles_are_nearer_to_the_posterior():
    prior = mixture()
    exact = prior.posterior(A, Y, 0.3)
    mean, errors = exact.weights @ exact.means, []
    for particles in (16, 256):
        model = posterior(Twisted(particles, particles, twist="pigdm"))
        n = 64 * particles
        x = Sampler(steps=30).sample(model, n=n, batch_size=n).x
        errors.append(float((x.reshape(64, particles, 2).mean(1) - mean).square().sum(1).mean()))
    assert 6 < errors[0] / errors[1] < 40  # 16, as 1 / particles
    total, spread = torch.cov(x.double().T), exact.means - mean
    within = exact.axes @ torch.diag_embed(exact.variances) @ exact.axes.mT
    wanted = torch.einsum("k,kde->de", exact.weights, within + spread[:, :, None] * spread[:, None])
    torch.testing.assert_close(total, wanted, rtol=0.06, atol=0.02)


@pytest.mark.parametrize("path", PATHS)
def test_samples_are_finite_and_counted_on_every_path(path):
    found = Sampler(steps=6).sample(posterior(Twisted(8, 2), path=path), n=4)
    assert found.x.shape == (4, 2)
    assert (found.nfe, found.products) == (4 * 6 + 1, 4 * 5)


def test_samples_depend_on_their_population_alone():
    method = Twisted(8, 4, share=1.0)
    model, sampler = posterior(method), Sampler(steps=6)
    whole = sampler.sample(model, n=12, seed=3).x
    assert torch.equal(sampler.sample(model, n=12, seed=3, batch_size=4).x, whole)
    assert torch.equal(sampler.sample(model, rows=range(8, 12), seed=3).x, whole[8:])
    assert not torch.equal(sampler.sample(model, n=12, seed=4).x, whole)


def test_each_sample_may_have_its_own_observation():
    y, sampler = torch.tensor([[0.4], [-1.0]]), Sampler(steps=6)
    both = sampler.sample(posterior(Twisted(8), y=y), n=4).x
    for k in (0, 1):
        alone = sampler.sample(posterior(Twisted(8), y=y[k]), n=4).x
        torch.testing.assert_close(alone[k::2], both[k::2])


def test_a_rule_with_a_memory_is_weighed_too():
    prior = mixture()
    exact = prior.posterior(A, Y, 0.3)
    x = Sampler(DPMSolverPP2M(eta=1.0), steps=30).sample(posterior(Twisted(4000, 4000)), n=4000, batch_size=4000).x
    torch.testing.assert_close(x.mean(0).double(), exact.weights @ exact.means, rtol=0, atol=0.05)


@pytest.mark.parametrize(("network", "twist", "other"), [(True, "pigdm", "mmps"), (False, "mmps", "pigdm")])
def test_a_network_is_guided_at_one_product_for_each_evaluation(network, twist, other):
    exact = ExactModel(mixture(), sde_named("vp"))
    model = ScoreModel(ResidualMLP((2,), width=8, blocks=1), exact.sde) if network else exact
    y = torch.tensor([0.4, 0.1])

    def drawn(method):
        seen = Projection((2,), matrix=torch.tensor([[0.8, -0.6], [0.0, 1.0]]), sigma_y=0.3)
        return Sampler(steps=5).sample(Posterior(model, seen, y, method), n=8)

    found, same, unlike = (drawn(Twisted(8, 8, **more)) for more in ({}, {"twist": twist}, {"twist": other}))
    assert torch.equal(found.x, same.x)
    assert not torch.equal(found.x, unlike.x)
    assert found.products == same.products == unlike.products * (0.5 if network else 2)


def test_a_collapse_is_said(capsys):
    Sampler(steps=3).sample(posterior(Twisted(2, twist="pigdm"), sigma_y=0.001), n=4)
    said = capsys.readouterr().err
    assert "collapsed" in said
    assert "raise posterior.particles" in said


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Twisted(8, 3), "draws: 3 .* 8 particles"),
        (lambda: Twisted(1), "particles: 1"),
        (lambda: Sampler(Heun()).sample(posterior(Twisted(8)), n=2), "solver: .* Heun .* ancestral"),
        (lambda: Sampler(steps=3).sample(posterior(Twisted(8, 4)), n=6), "n: 6 samples .* multiple"),
        (lambda: Sampler(corrector=Langevin()).sample(posterior(Twisted(8)), n=2), "corrector: .*none"),
        (lambda: Sampler(steps=3).sample(posterior(Twisted(8, 4), y=torch.rand(2, 1)), n=4), "draws: .* draws=1"),
        (lambda: posterior(Twisted(8), sigma_y=0.0), "sigma_y: 0.0 .* Twisted"),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InputError, match=text):
        make()
