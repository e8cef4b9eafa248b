"""Score matching without noise: minimisers on Gaussian data, sliced against implicit, and training to the end."""

import math

import pytest
import torch
from support import gaussian
from torch import Tensor, nn

from scoresde import VPSDE, InputError, OneLevelSDE, Sampler, ScoreModel, Trainer, train
from scoresde.loss import Batch, ImplicitScoreMatching, SlicedScoreMatching
from scoresde.nets import ResidualMLP
from scoresde.precond import coefficients
from scoresde.sampling import AnnealedLangevinDynamics

SDE = OneLevelSDE(0.05)


class Affine(nn.Module):
    """The score A x + b, from the scaled x that a network is given."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)

    def forward(self, scaled: Tensor, c: Tensor) -> Tensor:
        level = SDE.at(SDE.T)
        return scaled / coefficients("score", *level, 0.5).c_in @ self.a.T + self.b


class Axes:
    """Directions along each axis in turn, of the length of normal numbers: their squares have the mean of theirs."""

    def normal(self, purpose, step, shape, device, dtype):
        k = int(purpose.split()[-1])
        return math.sqrt(shape[1]) * torch.eye(shape[1], dtype=dtype)[k].expand(shape)


def batch(x: Tensor, noise=None) -> Batch:
    extra = {} if noise is None else {"noise": noise}
    return Batch(x, torch.zeros(len(x), dtype=torch.float64), torch.zeros_like(x), **extra)


def with_the_moments_of(data) -> Tensor:
    """Four points with exactly the mean and the covariance of a Gaussian in the plane."""
    root = data.axes[0] @ torch.diag(data.variances[0].sqrt())
    return torch.cat([data.means + side * math.sqrt(2) * root.T for side in (1, -1)])


LOSSES = {
    "implicit": (ImplicitScoreMatching(), None),
    "sliced": (SlicedScoreMatching(2, variance_reduced=False), Axes()),
    "variance_reduced": (SlicedScoreMatching(2), Axes()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_true_score_is_the_minimiser_on_gaussian_data(name):
    """The losses are quadratic in an affine score, so that points with the moments of the data give exact means."""
    loss, noise = LOSSES[name]
    data = gaussian()
    x = with_the_moments_of(data)
    precision = torch.linalg.inv((data.axes[0] * data.variances[0]) @ data.axes[0].T)
    model = ScoreModel(Affine(-precision, precision @ data.means[0]), SDE, "score", 0.5)
    value = loss(model, batch(x, noise)).loss.mean()
    assert value.item() == pytest.approx(-precision.trace().item() / (2 * 2), rel=1e-10)
    value.backward()
    for parameter in model.parameters():
        torch.testing.assert_close(parameter.grad, torch.zeros_like(parameter), rtol=0, atol=1e-10)
    # and the curvature is that of E |change of the score|^2 / 2, so that there is no other
    with torch.no_grad():
        model.net.b += 0.1
    assert (loss(model, batch(x, noise)).loss.mean() - value).item() == pytest.approx(0.1**2 / 2, rel=1e-8)


def random_model() -> ScoreModel:
    torch.manual_seed(0)
    net = ResidualMLP((2,), width=16, blocks=1).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.4)  # whose last layer begins at zero
    return ScoreModel(net, SDE, "score", 0.8)


def jacobians(model: ScoreModel, x: Tensor) -> Tensor:
    return torch.stack([torch.autograd.functional.jacobian(lambda y: model(y[None], SDE.T).score[0], one) for one in x])


def test_implicit_score_matching_is_its_definition():
    model, x = random_model(), gaussian().sample(6)
    trace = jacobians(model, x).diagonal(dim1=1, dim2=2).sum(1)
    expected = (trace + model(x, SDE.T).score.square().sum(1) / 2) / 2
    torch.testing.assert_close(ImplicitScoreMatching()(model, batch(x)).loss, expected)


@pytest.mark.parametrize("reduced", [False, True])
def test_the_mean_over_directions_is_the_implicit_loss(reduced):
    model, x = random_model(), gaussian().sample(3).repeat(4000, 1)
    exact = ImplicitScoreMatching()(model, batch(x[:3])).loss.detach()
    values = SlicedScoreMatching(1, variance_reduced=reduced)(model, batch(x)).loss.detach().reshape(-1, 3)
    error = (values.mean(0) - exact) / values.std(0) * math.sqrt(len(values))
    assert error.abs().max() < 4
    averaged = SlicedScoreMatching(4, variance_reduced=reduced)(model, batch(x)).loss.detach().reshape(-1, 3)
    torch.testing.assert_close(averaged.var(0), values.var(0) / 4, rtol=0.2, atol=0)
    whole = SlicedScoreMatching(2, variance_reduced=reduced)(model, batch(x[:3], Axes())).loss
    torch.testing.assert_close(whole, exact)


@pytest.mark.parametrize(
    ("sde", "precond", "words"),
    [(VPSDE(), "score", "sde: VPSDE .* use sde=one_level"), (SDE, "edm", "model.precond: 'edm' .* use model.prec")],
)
@pytest.mark.parametrize("loss", [ImplicitScoreMatching(), SlicedScoreMatching()])
def test_what_has_no_plain_score_is_refused(loss, sde, precond, words):
    with pytest.raises(InputError, match=f"^{words}[^\n]*$"):
        loss(ScoreModel(ResidualMLP((2,), width=8, blocks=1), sde, precond), batch(torch.zeros(3, 2)))


def test_a_plain_score_is_trained_and_sampled(tmp_path):
    """The network starts from no score at all, under which x walks away."""
    model = ScoreModel(ResidualMLP((2,), width=16, blocks=1), OneLevelSDE(0.5), "score", 1.0)
    sampler = Sampler(AnnealedLangevinDynamics(0.4, 1), steps=100, denoise=False)
    request = {"samplers": {"langevin": sampler}, "trainer": Trainer(auto_check=0, warmup=5, ema=0.9), "n": 8}
    request |= {"loss": "sliced", "lr": 0.01, "metrics": {}, "steps": 100, "batch_size": 256}
    run = train(gaussian().sample(600).numpy(), model=model, run=tmp_path / "run", **request)
    assert run.results is not None
    assert run.results.rows[0].error is None
    ratio = run.sample(500, sampler=sampler).x.std(0) / run.dataset().items.std(0)
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0.2, atol=0)
