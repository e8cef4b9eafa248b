"""Exact guidance: weights whose mean is a known integral, and samples of the tilted distribution."""

import pytest
import torch
from support import exact_model, sde_named

from scoresde import Conditioned, GaussianMixture, InputError, Sampler
from scoresde.conditional import ConditionalMixture, ExactConditional
from scoresde.control import ClassifierGuided, Guided
from scoresde.noise import Noise
from scoresde.posterior import Exact
from scoresde.posterior.tilted import _Cloud
from scoresde.sampling import Heun, Langevin, Terminal

UNEQUAL = GaussianMixture([0.2, 0.5, 0.3], [[-1.5], [1.5], [1.2]], [[[0.04]], [[0.09]], [[0.25]]])
DATA = ConditionalMixture(UNEQUAL, [0, 0, 1])


@pytest.mark.parametrize("sde", ["vp", "edm", "rectified"])
@pytest.mark.parametrize("scale", [0.5, 1.5, 3.0])
def test_the_weights_are_the_normaliser_of_the_tilted_gaussian(sde: str, scale: float) -> None:
    """For two Gaussians of one width the integral of p_1^w p_0^(1 - w) is exp(w (w - 1) |m_1 - m_0|^2 / (2 v))."""
    width, means = 0.5, ([0.3, -0.2], [1.1, 0.4])
    square = [[width**2, 0.0], [0.0, width**2]]
    weak, strong = (exact_model(sde_named(sde), GaussianMixture([1.0], [m], [square])) for m in means)
    guided, x = Guided(strong, weak, scale, None, Exact(4, 0)), torch.zeros(3, 2, dtype=torch.float64)
    times = Terminal(low=0.001)(guided.sde, 400)
    cloud = _Cloud(Exact(4, 0), guided, x, float(times[0]), Noise(0))
    for i, s in enumerate(times.tolist()[1:]):
        cloud.step(i, s)
    total = cloud.log_weights
    apart = (torch.tensor(means[1]) - torch.tensor(means[0])).square().sum()
    expected = scale * (scale - 1) * float(apart) / (2 * width**2)
    torch.testing.assert_close(total, torch.full_like(total, expected), rtol=4e-3, atol=1e-12)


def test_a_move_keeps_the_law_of_its_level() -> None:
    """Of N(0, 1), the law of every level under VP: a move is x <- a x + b z, and a^2 + b^2 is 1 to order snr^4."""
    snr, model = 0.05, exact_model(sde_named("vp"), GaussianMixture([1.0], [[0.0]], [[[1.0]]]))
    method = Exact(1, 1, snr)
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    cloud = _Cloud(method, Guided(model, model, 2.0, None, method), x, 0.6, Noise(0))
    z = cloud._normal("move 0", 0)
    cloud.move(0, evaluate=False)
    b = cloud.x[0] / z[0]
    a = cloud.x[1] - b * z[1]
    assert abs(float(a**2 + b**2) - 1) <= 4 * snr**4 < 0.01 * float(b**2)


def guided(scale: float, method: Exact | None = None) -> Guided:
    model = ExactConditional(DATA, sde_named("vp"))
    return Guided(Conditioned(model, [0]), Conditioned(model, [0], 0.0), scale, None, method)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_samples_are_of_the_tilted_distribution(scale: float) -> None:
    n, real = 500, DATA.tilted(0, scale, 40_000)
    x = Sampler(steps=60).sample(guided(scale, Exact()), n=n, dtype=torch.float64).x
    share, found = (float((each < 0).double().mean()) for each in (real, x))
    assert abs(found - share) < 3 * (share * (1 - share) / n) ** 0.5
    for side in (-1, 1):  # within a mode
        mine, theirs = (each[side * each > 0] for each in (x, real))
        spread = theirs.std()
        assert abs(mine.mean() - theirs.mean()) < 4 * spread / len(mine) ** 0.5
        assert abs(mine.std() / spread - 1) < 4 / (2 * len(mine)) ** 0.5


def test_samples_depend_on_seed_and_index_alone_and_evaluations_count() -> None:
    model, sampler = guided(3.0, Exact(5, 1)), Sampler(steps=6)
    whole = sampler.sample(model, n=7, dtype=torch.float64)
    torch.testing.assert_close(sampler.sample(model, n=7, batch_size=3, dtype=torch.float64).x, whole.x)
    assert whole.nfe == 2 * (5 * (1 + 2 * 5 - 1) + 1)  # at first, after 5 steps and 5 moves but the last, at the end
    images = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[[0.1]]] * 2)
    exact = ExactConditional(ConditionalMixture(images, [0, 1]), sde_named("edm"))
    x = sampler.sample(ClassifierGuided(exact, exact.data, [0, 1], 2.0, None, Exact()), n=8).x
    assert ((x[:, 0] > 0) == (torch.arange(8) % 2 == 1)).all()


def test_what_has_no_target_is_refused() -> None:
    with pytest.raises(InputError, match=r"guidance_interval: .* leave it out"):
        Guided(*(guided(2.0).model,) * 2, 2.0, [0.2, 3.0], Exact())
    with pytest.raises(InputError, match=r"corrector: .* corrector=none"):
        Sampler(Heun(), corrector=Langevin()).sample(guided(2.0, Exact()), n=2)
