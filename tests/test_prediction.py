"""A prediction says the same whichever quantity it was made from; outputs that do not fit are refused."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import PATHS, SDES, exact_model, sde_named
from torch import Tensor, nn

from scoresde import SDE, InputError, Prediction, Sampler, ScoreModel
from scoresde.dynamics import reverse_drift
from scoresde.sampling import Heun

QUANTITIES = ["x0", "eps", "v", "velocity", "score"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def times(sde: SDE) -> list[float | Tensor]:
    """One time for all, and one for each of five samples."""
    return [float(sde.t_of_lam(torch.tensor(0.4))), sde.t_of_lam(torch.linspace(-2, 2, 5, dtype=torch.float64))]


def made(name: str, x: Tensor, sde: SDE, t: float | Tensor, x0: Tensor) -> Prediction:
    """The prediction x0, made from another quantity of it."""
    return Prediction.of(x, sde, t, **{name: getattr(Prediction.of(x, sde, t, x0=x0), name)})


def same(a: Prediction, b: Prediction) -> None:
    for name in QUANTITIES:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("name", QUANTITIES)
def test_the_quantity_that_is_given_comes_back_and_all_others_follow(name: str, sde: str) -> None:
    path, x, x0 = sde_named(sde), draw(5, 3), draw(5, 3, seed=1)
    for t in times(path):
        prediction = made(name, x, path, t, x0)
        same(prediction, Prediction.of(x, path, t, x0=x0))
        each = torch.as_tensor(t, dtype=torch.float64).expand(5)
        torch.testing.assert_close(path.perturb(prediction.x0, each, prediction.eps), x)
        for copied in (copy.deepcopy(prediction), pickle.loads(pickle.dumps(prediction))):
            same(copied, prediction)


@pytest.mark.parametrize("sde", SDES)
def test_velocity_is_that_of_the_probability_flow(sde: str) -> None:
    path, x = sde_named(sde), draw(5, 2)
    for t in times(path):
        prediction = exact_model(path)(x, t)
        a, b, _ = (torch.as_tensor(c).reshape(-1, 1) for c in reverse_drift(path, t, 0.0))
        torch.testing.assert_close(prediction.velocity, a * x + b * prediction.eps, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5, torch.tensor([0.0, 1.0, -0.5, 2.0, 7.5])])
@pytest.mark.parametrize("sde", ["vp", "ve", "rectified"])
@pytest.mark.parametrize("other", QUANTITIES)
@pytest.mark.parametrize("name", QUANTITIES)
def test_toward_another_is_linear_in_whatever_quantity_both_were_made(
    name: str, other: str, sde: str, scale: float | Tensor
) -> None:
    path, x, ends = sde_named(sde), draw(5, 3), (draw(5, 3, seed=1), draw(5, 3, seed=2))
    weight = torch.as_tensor(scale, dtype=torch.float64).reshape(-1, 1)
    for t in times(path):
        moved = made(name, x, path, t, ends[0]).toward(made(other, x, path, t, ends[1]), scale)
        same(moved, Prediction.of(x, path, t, x0=ends[0] + weight * (ends[1] - ends[0])))


def test_two_ways_to_say_the_same_stay_the_same() -> None:
    path, x, x0 = sde_named("vp"), draw(5, 3), draw(5, 3, seed=1)
    a, b = made("x0", x, path, 0.7, x0), made("eps", x, path, 0.7, x0)
    same(a.toward(b, 3.0), a)
    same(b.toward(a, 3.0), a)
    each = made("v", x, path, torch.full((5,), 0.7, dtype=torch.float64), x0)  # the same level, of each sample
    same(a.toward(each, 3.0), a)
    same(each.toward(a, 3.0), a)


def test_the_variance_is_kept() -> None:
    path, x, variance = sde_named("vp"), draw(5, 3), draw(5, 3) ** 2
    plain, known = Prediction.of(x, path, 0.5, x0=x), Prediction.of(x, path, 0.5, eps=x, variance=variance)
    assert plain.variance is None
    for prediction in (known, known.toward(plain, 2.0), plain.toward(known, 2.0)):
        assert prediction.variance is variance


def test_what_is_no_prediction_is_refused() -> None:
    path, x = sde_named("vp"), draw(5, 3)
    with pytest.raises(InputError, match="give one of x0, eps"):
        Prediction.of(x, path, 0.5)
    with pytest.raises(InputError, match=r"\['noise'\] .* give one of x0, eps"):
        Prediction.of(x, path, 0.5, noise=x)
    with pytest.raises(InputError, match=r"\['x0', 'eps'\]"):
        Prediction.of(x, path, 0.5, x0=x, eps=x)
    with pytest.raises(InputError, match=r"v returned shape \(5, 2\) for an input of shape \(5, 3\)"):
        Prediction.of(x, path, 0.5, v=x[:, :2])
    with pytest.raises(InputError, match="at the same"):
        Prediction.of(x, path, 0.5, x0=x).toward(Prediction.of(x, path, 0.4, x0=x), 2.0)


# ---- what networks return ----


class Velocity(nn.Module):
    """The exact velocity dx/dt of a path, as a network sees it."""

    def __init__(self, sde: SDE) -> None:
        super().__init__()
        self.exact, self.model = exact_model(sde), ScoreModel(nn.Identity(), sde, "velocity")

    def forward(self, scaled: Tensor, c: Tensor) -> Tensor:
        t = self.exact.sde.t_of_lam(-4 * c)
        c_in = torch.as_tensor(self.model.preconditioning(*self.model.levels(t)).c_in)
        return self.exact.forward(scaled / c_in[:, None], t).velocity  # other paths reach levels beyond its T


@pytest.mark.parametrize("other", ["edm", "rectified"])
@pytest.mark.parametrize("sde", PATHS)
def test_a_network_of_velocities_samples_its_data(sde: str, other: str) -> None:
    model = ScoreModel(Velocity(sde_named(sde)), sde_named(sde), "velocity")
    sampler = Sampler(Heun(), steps=6)
    for path in (model.sde, sde_named(other)):
        found = sampler.sample(model.under(path), (2,), 8, dtype=torch.float64).x
        exact = sampler.sample(exact_model(path), (2,), 8, dtype=torch.float64).x
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)


class Answers(nn.Module):
    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.weight, self.answer = nn.Parameter(torch.zeros(1)), answer

    def forward(self, x: Tensor, c: Tensor) -> Any:
        return self.answer(x)


@pytest.mark.parametrize(
    ("answer", "event", "says"),
    [
        (lambda x: x[:, 0], (1,), r"shape \(6,\) for an input of shape \(6, 1\)"),
        (lambda x: x[:, :1], (5,), r"shape \(6, 1\) for an input of shape \(6, 5\)"),
        (lambda x: x[:, None], (5,), r"shape \(6, 1, 5\) for an input of shape \(6, 5\)"),
        (lambda x: x[:, :1], (3, 8, 8), r"shape \(6, 1, 8, 8\) for an input of shape \(6, 3, 8, 8\)"),
        (lambda x: torch.cat((x, x), 1), (3, 8, 8), r"shape \(6, 6, 8, 8\) .* variance"),
        (lambda x: torch.cat((x, x))[:, None], (3,), r"shape \(12, 1, 3\)"),
        (lambda x: torch.cat((x, x), 2), (3, 8, 8), r"shape \(6, 3, 16, 8\)"),
        (lambda x: x[0], (3,), r"shape \(3,\) for an input of shape \(6, 3\)"),
        (lambda x: (x,), (3,), r"returned tuple where a tensor of shape \(6, 3\)"),
        (lambda x: {"sample": x}, (3,), r"returned dict"),
    ],
)
def test_an_output_of_another_shape_is_refused_wherever_a_network_is_called(
    answer: Callable[[Tensor], Any], event: tuple[int, ...], says: str
) -> None:
    model, x = ScoreModel(Answers(answer), sde_named("vp")), draw(6, *event).float()
    with pytest.raises(InputError, match=says) as error:
        model(x, 0.5)
    assert ("variance" in str(error.value)) == ("variance" in says)  # a hint where it is one
    with pytest.raises(InputError, match=says):
        Sampler(steps=4).sample(model, event, 6)
    with pytest.raises(InputError, match=says):
        model(x, torch.full((6,), 0.5))
    with pytest.raises(InputError, match=says):
        model.raw(x, model.preconditioning(*model.levels(0.5)))
