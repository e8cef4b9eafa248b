"""The Gaussian chain of 2015: its reverse step, its rates, and its place among score models."""

import copy

import pytest
import torch
from support import sde_named
from torch import Tensor, nn

from scoresde import Ancestral, Discrete, DiscreteVPSDE, InputError, Sampler
from scoresde.chains import GaussianChain
from scoresde.loss import Batch, VariationalBound
from scoresde.loss.bound import Chain
from scoresde.nets import ResidualMLP
from scoresde.noise import Noise

N = 12
PATH = DiscreteVPSDE("harmonic", N, 0.01)
TIMES = (torch.arange(N, dtype=torch.float64) / (N - 1)).tolist()


class Net(nn.Module):
    """Smooth functions of x and the noise level, with twice the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return torch.cat((torch.tanh(x + c[:, None]), torch.sin(3 * x) * self.scale), 1)


def chain(learn_rates: bool = True) -> GaussianChain:
    return GaussianChain(Net(), PATH, learn_rates).double()


def moved(model: GaussianChain, size: float = 0.5) -> GaussianChain:
    """With other rates than those to begin with."""
    with torch.no_grad():
        model.logits += size * torch.sin(torch.arange(N - 1.0))
    return model


@pytest.mark.parametrize("size", [0.0, 0.5])
@torch.no_grad()
def test_the_reverse_step_is_the_one_of_the_paper_and_predicts_v(size: float) -> None:
    model, x = moved(chain(), size), torch.randn(5, 2, dtype=torch.float64)
    steps = Ancestral().plan(model.sde, torch.tensor(TIMES[::-1], dtype=torch.float64))
    for k in range(1, N):
        beta = model.rates[k].detach()
        f, g = model.net(x, torch.full((5,), -float(model.sde.lam(TIMES[k])) / 4, dtype=torch.float64)).chunk(2, 1)
        drawn = Ancestral().step(model, x, steps[N - 1 - k], None, lambda k=0: torch.zeros_like(x)).x
        torch.testing.assert_close(drawn, (1 - beta).sqrt() * x + beta.sqrt() * f, rtol=1e-6, atol=1e-7)
        prediction = model(x, TIMES[k])
        assert prediction.learned is not None
        log_variance = prediction.learned.log(float("nan"), float(beta.log()))
        torch.testing.assert_close(log_variance.exp(), torch.sigmoid(torch.logit(beta) + g / N**0.5))
        ratios = prediction.v / f
        torch.testing.assert_close(ratios, ratios[:1, :1].expand(5, 2))
        assert (ratios < 0).all()


def test_the_levels_are_those_of_the_rates_and_move_with_them() -> None:
    model = chain()
    torch.testing.assert_close(model.sde.alpha(torch.tensor(TIMES)), PATH.alpha(torch.tensor(TIMES)))
    average = copy.deepcopy(model)
    before, first = average.sde.alpha(0.5), model.rates[0]
    moved(model)
    alpha2 = torch.cumprod(1 - model.rates, 0)
    torch.testing.assert_close(model.sde.alpha(torch.tensor(TIMES, dtype=torch.float64)) ** 2, alpha2)
    assert model.rates[0] == first
    assert average.sde.alpha(0.5) == before
    average.load_state_dict(model.state_dict())
    sampler = Sampler(Ancestral(), Discrete(), steps=N)
    assert torch.equal(sampler.sample(average, (2,), 4).x, sampler.sample(model, (2,), 4).x)


def test_the_rates_are_trained_through_the_bound_with_the_noise_held() -> None:
    model, noise = moved(chain()), Noise(0)
    x0 = noise.normal("x0", 0, (64, 2), dtype=torch.float64)
    batch = Batch(x0, noise.uniform("u", 0, 64), noise.normal("eps", 0, (64, 2), dtype=torch.float64))
    VariationalBound()(model, batch).loss.mean().backward()
    gradient, h = model.logits.grad, 1e-5
    assert gradient is not None
    for k in (0, 4, N - 2):
        ends = []
        for side in (h, -h):
            near = copy.deepcopy(model)
            with torch.no_grad():
                near.logits[k] += side
                ends.append(VariationalBound()(near, batch).loss.mean())
        assert float(gradient[k]) == pytest.approx(float((ends[0] - ends[1]) / (2 * h)), rel=1e-5, abs=1e-8)
    fixed = chain(learn_rates=False)
    VariationalBound()(fixed, batch).loss.mean().backward()
    assert fixed.logits.grad is None


def test_without_the_pull_towards_the_origin_values_grow_and_with_it_they_stay() -> None:
    """The forward step keeps unit variance, and the path between its levels is one step after another."""
    model = moved(chain())
    levels, rates = Chain.of(model.sde), model.rates
    kept, grown = torch.ones((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    for k in range(N):
        kept, grown = (1 - rates[k]) * kept + rates[k], grown + rates[k]
        torch.testing.assert_close(levels.alpha[k] ** 2 + levels.sigma[k] ** 2, kept)
    assert float(grown.detach()) > 2


@pytest.mark.parametrize("fused", [True, False])
def test_the_levels_follow_every_optimizer(fused: bool) -> None:
    model = chain()
    optimizer = torch.optim.Adam([model.logits], lr=0.1, fused=fused)
    for _ in range(3):
        model.train()
        before = model.sde.alpha(1.0).detach()
        VariationalBound()(model, torch.ones(4, 2), torch.full((4,), 0.5), torch.ones(4, 2)).loss.sum().backward()
        optimizer.step()
        for mode in (True, False):
            after = model.train(mode).sde.alpha(1.0).detach()
            assert after != before
            torch.testing.assert_close(after**2, torch.prod(1 - model.rates.detach()))


def test_what_is_no_chain_is_refused() -> None:
    with pytest.raises(InputError, match=r"sde: VPSDE has no levels.*sde=discrete"):
        GaussianChain(Net(), sde_named("vp"))
    with pytest.raises(InputError, match="sdes: GaussianChain works under its own path"):
        chain().under(sde_named("vp"))
    with pytest.raises(InputError, match=r"twice the channels.*outputs=2"):
        GaussianChain(ResidualMLP((2,), width=8, blocks=1), PATH)(torch.zeros(3, 2), 1.0)
    with pytest.raises(InputError, match="levels: 1"):
        DiscreteVPSDE("harmonic", 1, 0.01)
