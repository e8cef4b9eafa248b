"""Every posterior and guidance method: on every SDE, with every solver, observation and event shape of conf/."""

from typing import Any

import pytest
import torch
from support import SOLVERS, built, options, sde_named, solver_named

from scoresde import Conditioned, ExactModel, GaussianMixture, InputError, Sampler, Wrapper
from scoresde.conditional import ConditionalMixture, ExactConditional
from scoresde.control import Guided
from scoresde.named import named
from scoresde.noise import Noise
from scoresde.observation import Projection
from scoresde.posterior import Posterior
from scoresde.sampling import DDIM, Ancestral

EVERY_SDE = [name for name in options("sde") if name != "one_level"]
EVENTS = {"vector": (4,), "series": (2, 8), "image": (3, 4, 4), "volume": (2, 4, 2, 4)}
FEWER: dict[str, dict[str, Any]] = {"daps": {"langevin": 3}, "twisted": {"particles": 4}, "population": {"first": 4}}
METHODS = options("posterior")
D, SIGMA = 3, 0.3
A, Y = torch.tensor([[1.0, 0.5, -0.25], [0.0, 1.0, 2.0]]).double(), torch.tensor([0.4, -0.8]).double()
MIXTURE = GaussianMixture([1.0], [[0.2, -0.4, 0.1]], torch.diag(torch.tensor([0.3, 0.6, 1.2]).double())[None])
SEEN = Projection((D,), matrix=A, sigma_y=SIGMA)
CLASSES = ConditionalMixture(GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [1.0, 0.0]], [[[0.2, 0], [0, 0.1]]] * 2), [0, 1])


def method(name: str) -> Any:
    return built("posterior", name, **FEWER.get(name, {}))


class Spy(Wrapper):
    """Counts by itself the samples of which it is asked a prediction."""

    spent = 0

    def forward(self, x, t, cond=None):
        Spy.spent += len(x)
        return self.model(x, t, cond)


def drawn(sampler: Sampler, model: Any, n: int, **asked: Any) -> torch.Tensor:
    """Samples, finite, of the right shape and type, whose evaluations are those that the model saw."""
    Spy.spent = 0
    found = sampler.sample(model, n=n, **asked)
    assert found.nfe == pytest.approx(Spy.spent / n)
    assert found.x.shape == (n, *model.event_shape)
    assert found.x.dtype == asked.get("dtype", torch.float32)
    assert torch.isfinite(found.x).all()
    return found.x


@pytest.mark.parametrize("sde", EVERY_SDE)
def test_every_posterior_on_every_sde(sde):
    prior = Spy(ExactModel(MIXTURE, sde_named(sde)))
    for name in METHODS:
        asked, sampler = Posterior(prior, SEEN, Y, method(name)), Sampler(Ancestral(), steps=3)
        whole = drawn(sampler, asked, 3, dtype=torch.float64)
        if name != "population":  # in which a sample depends on its batch
            parts = drawn(sampler, asked, 3, dtype=torch.float64, batch_size=2)
            assert (whole - parts).abs().max() < 1e-9, name
        drawn(sampler, asked, 1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_with_every_solver_a_posterior_is_sampled_as_the_exact_one(solver):
    loose = {"rtol": 0.1, "atol": 0.1} if solver == "adaptive_sde" else {}  # which takes long
    sampler = Sampler(solver_named(solver, **loose), steps=6)
    prior, rows = ExactModel(MIXTURE, sde_named("vp")), {"n": 2, "dtype": torch.float64}
    found = drawn(sampler, Posterior(Spy(prior), SEEN, Y), **rows)
    exact = sampler.sample(ExactModel(MIXTURE.posterior(A, Y, SIGMA), prior.sde), **rows).x
    assert (found - exact).abs().max() < 1e-9


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.parametrize("observation", options("observation"))
def test_every_posterior_follows_every_observation_of_every_shape(observation, kind):
    event = EVENTS[kind]
    if observation == "grey" and kind == "vector":
        with pytest.raises(InputError, match="grey is for items with several channels"):
            named("observation", observation, runtime={"event_shape": event})
        return
    seen = named("observation", observation, runtime={"event_shape": event}, sigma_y=0.1)
    points = Noise(0).normal("points", 0, (3, *event), dtype=torch.float64)
    prior, y = Spy(ExactModel(points, sde_named("vp"))), seen(points[:1])[0]
    for name in (*METHODS[list(EVENTS).index(kind) :: len(EVENTS)], "mmps"):
        try:
            asked = Posterior(prior, seen, y, method(name))
            drawn(Sampler(Ancestral(), steps=4), asked, 2)
        except InputError as error:
            if not any(reason in str(error) for reason in ("linear", "follows from the rest")):
                raise


@pytest.mark.parametrize("sde", EVERY_SDE)
def test_every_guidance_on_every_sde(sde):
    model = Spy(ExactConditional(CLASSES, sde_named(sde)))
    strong, weak = Conditioned(model, [0, 1, 0]), Conditioned(model, [0, 1, 0], 0.0)
    x, t = Noise(0).normal("x", 0, (3, 2), dtype=torch.float64), 0.4 * model.sde.T
    sampler = Sampler(DDIM(), steps=3)
    for name in options("guidance_method"):
        rule = built("guidance_method", name, **({"particles": 2} if name == "exact" else {}))
        plain = Guided(strong, weak, 1.0, method=rule)(x, t).x0
        assert (plain - strong(x, t).x0).abs().max() < 1e-10, name  # with scale 1 the conditional model
        guided = Guided(strong, weak, 2.0, method=rule)
        whole = drawn(sampler, guided, 3, dtype=torch.float64)
        assert (whole - drawn(sampler, guided, 3, dtype=torch.float64, batch_size=2)).abs().max() < 1e-9, name
        assert (whole - drawn(sampler, strong, 3, dtype=torch.float64)).abs().max() > 1e-3, name
