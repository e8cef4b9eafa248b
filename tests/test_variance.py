"""Learned variances of reverse steps."""

from collections.abc import Callable

import pytest
import torch
from nets_support import CASES
from support import sde_named
from torch import Tensor, nn

from scoresde import InputError, ScoreModel
from scoresde.nets import ResidualMLP
from scoresde.variance import LearnedVariance, log_variances


def reverse_variance(sde: object, t: Tensor, s: Tensor, variance: float) -> Tensor:
    """Of x_s given x_t for data of this variance, from the joint covariance of the two."""
    path = sde_named("vp") if sde is None else sde
    (a, b), (c, d) = ((path.alpha(time), path.sigma(time)) for time in (t, s))  # type: ignore[attr-defined]
    of_t, of_s = a**2 * variance + b**2, c**2 * variance + d**2
    # x_t = (a / c) x_s + independent noise
    return of_s - (a / c * of_s) ** 2 / of_t


@pytest.mark.parametrize("name", ["vp", "cosine", "ve", "rectified"])
def test_the_ends_are_the_variances_of_data_that_are_a_point_and_of_unit_variance(name: str) -> None:
    sde = sde_named(name)
    t = torch.tensor([0.9, 0.7, 0.5, 0.2, 0.1], dtype=torch.float64) * sde.T
    lower, upper = log_variances(sde.sigma(t), sde.lam(t))
    torch.testing.assert_close(lower[:-1].exp(), reverse_variance(sde, t[:-1], t[1:], 0.0), rtol=1e-9, atol=0)
    assert lower[-1] == lower[-2]  # there is no noise in clean data, and its log is none
    if name in ("vp", "cosine"):
        torch.testing.assert_close(upper[:-1].exp(), reverse_variance(sde, t[:-1], t[1:], 1.0), rtol=1e-9, atol=0)
        torch.testing.assert_close(upper[-1].exp(), sde.sigma(t[-1]) ** 2)
    with pytest.raises(InputError, match=r"levels: 1 .*2 steps"):
        log_variances(sde.sigma(t[:1]), sde.lam(t[:1]))


def test_a_range_is_between_its_ends_and_a_logit_moves_beta_without_leaving_0_to_1() -> None:
    lower, upper = torch.tensor([-5.0, -3.0], dtype=torch.float64), torch.tensor([-4.0, -0.5], dtype=torch.float64)
    raw = torch.tensor([[-1.0, 0.0, 1.0]] * 2, dtype=torch.float64)
    wanted = torch.stack((lower, (lower + upper) / 2, upper), 1)
    torch.testing.assert_close(LearnedVariance("range", raw).log(lower, upper), wanted)
    beta = LearnedVariance("logit", raw).log(lower, upper).exp()
    torch.testing.assert_close(beta[:, 1], upper.exp())
    odds = beta / (1 - beta)
    torch.testing.assert_close(odds[:, 1:] / odds[:, :-1], torch.full((2, 2), 1.0, dtype=torch.float64).exp())
    far = LearnedVariance("logit", 50 * raw).log(lower, upper).exp()
    assert ((far > 0) & (far <= 1)).all()
    for kind in ("range", "logit"):  # one number for all samples is the same
        whole = LearnedVariance(kind, raw).log(lower, upper)
        torch.testing.assert_close(LearnedVariance(kind, raw[1:]).log(lower[1].item(), upper[1].item()), whole[1:])


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0]])
def test_every_network_returns_twice_the_channels(case: str) -> None:
    shape, make = CASES[case]
    net, x = make(outputs=2), torch.randn(2, *shape)
    out = net(x, torch.zeros(2))
    assert torch.equal(out, torch.zeros(2, 2 * shape[0], *shape[1:]))
    model = ScoreModel(net, sde_named("vp"), variance="range")
    learned = model(x, 0.5).learned
    assert learned is not None
    assert learned.raw.shape == x.shape


class Halves(nn.Module):
    """x, and -x in the channels behind it."""

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return torch.cat((x, -x), 1)


def test_the_first_half_predicts_and_the_second_is_carried_through_guidance() -> None:
    sde, x = sde_named("vp"), torch.randn(4, 3, dtype=torch.float64)
    plain, both = ScoreModel(nn.Identity(), sde, "v"), ScoreModel(Halves(), sde, "v", variance="range")
    plain.net.forward = lambda x, c: x  # type: ignore[method-assign]
    without, found = plain(x, 0.5), both(x, 0.5)
    torch.testing.assert_close(found.x0, without.x0, rtol=0, atol=0)
    assert without.learned is None
    assert found.learned is not None
    torch.testing.assert_close(found.learned.raw, -x * plain.preconditioning(*plain.levels(0.5)).c_in)
    assert found.toward(without, 2.0).learned is found.learned
    assert without.toward(found, 2.0).learned is found.learned


@pytest.mark.parametrize(
    ("make", "event", "says"),
    [
        (lambda: ResidualMLP((3,)), (3,), r"shape \(2, 3\) .*twice the channels.*outputs=2"),
        (lambda: ResidualMLP(()), (), r"shape \(2,\) .*twice the channels"),
    ],
)
def test_a_network_without_the_channels_is_refused(
    make: Callable[[], nn.Module], event: tuple[int, ...], says: str
) -> None:
    model = ScoreModel(make(), sde_named("vp"), variance="range")
    with pytest.raises(InputError, match=says) as error:
        model(torch.randn(2, *event), 0.5)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"outputs: 2 .*no channels"):
        ResidualMLP((), outputs=2)
    with pytest.raises(InputError, match=r"outputs: 3 .*1 or 2"):
        ResidualMLP((3,), outputs=3)
