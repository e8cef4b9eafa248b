"""Laws of conditions: every network hears them, a missing one is a dropped one, and wrong ones are refused."""

import pytest
import torch
from nets_support import CASES, TYPICAL, made
from torch import Tensor

from scoresde.errors import InputError
from scoresde.nets import ResidualMLP
from scoresde.nets.condition import Condition

SIZE = 3
KINDS = ("class", "vector", "tokens")
every_kind = pytest.mark.parametrize("kind", KINDS)
every_net = pytest.mark.parametrize("case", TYPICAL)


def conditions(kind: str, n: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    if kind == "class":
        return torch.arange(n) % SIZE
    return torch.randn((n, SIZE) if kind == "vector" else (n, 4, SIZE), generator=generator, dtype=dtype)


def asked(kind: str, dropout: float = 0.0) -> dict[str, object]:
    return {"condition": kind, "condition_size": SIZE, "condition_dropout": dropout}


@every_kind
@every_net
def test_each_sample_hears_its_own_condition(case: str, kind: str) -> None:
    """Changing the condition of one sample changes its output and no other; none at all is another one."""
    net, x, c = made(case, **asked(kind))
    cond = conditions(kind)
    other = cond.clone()
    other[2] = cond[3]
    out, changed, without = net(x, c, cond), net(x, c, other), net(x, c)
    difference = (changed - out).abs().flatten(1).amax(1) / out.abs().max()
    assert difference[2] > 1e-6
    assert difference[[0, 1, 3, 4, 5]].max() < 1e-12
    assert ((without - out).abs().flatten(1).amax(1) / out.abs().max()).min() > 1e-6


@every_kind
@every_net
def test_a_missing_condition_is_a_dropped_one(case: str, kind: str) -> None:
    """In training every sample is either as told or as if nothing were told; the first with probability 1 - dropout."""
    net, x, c = made(case, **asked(kind, 0.5))
    cond = conditions(kind)
    told, without = net.eval()(x, c, cond), net(x, c)
    torch.manual_seed(1)
    seen = net.train()(x, c, cond)
    scale = told.abs().max()
    as_told = (seen - told).abs().flatten(1).amax(1) < 1e-12 * scale
    as_dropped = (seen - without).abs().flatten(1).amax(1) < 1e-12 * scale
    assert (as_told ^ as_dropped).all()
    assert as_told.any()
    assert as_dropped.any()
    torch.manual_seed(1)
    assert (net(x, c, cond) - seen).abs().max() < 1e-12 * scale  # the global generator decides


@every_kind
@every_net
def test_gradient_reaches_every_parameter_of_a_condition(case: str, kind: str) -> None:
    net, x, c = made(case, **asked(kind))
    cond = conditions(kind)
    ((net(x, c, cond) + net(x, c)) * torch.randn_like(x)).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or p.grad.norm() < 1e-8] == []


def test_drop_out_has_its_probability() -> None:
    condition = Condition("class", SIZE, 0.2, 4).train()
    torch.manual_seed(0)
    vectors = condition(torch.zeros(20_000, dtype=torch.int64), 20_000).vector
    share = float((vectors == condition.null).all(1).double().mean())
    assert abs(share - 0.2) < 4 * (0.2 * 0.8 / 20_000) ** 0.5


def test_drop_out_goes_by_the_global_generator() -> None:
    condition, classes = Condition("class", SIZE, 0.5, 4).train(), torch.zeros(40, dtype=torch.int64)
    seen = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        seen.append(condition(classes, 40).vector)
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


def test_tokens_have_no_order_and_repeating_them_changes_nothing() -> None:
    net, x, c = made("ncsnpp", **asked("tokens"))
    cond = conditions("tokens")
    out = net(x, c, cond)
    assert (net(x, c, cond.flip(1)) - out).abs().max() < 1e-12 * out.abs().max()
    assert (net(x, c, cond.repeat(1, 2, 1)) - out).abs().max() < 1e-12 * out.abs().max()
    assert (net(x, c, cond[:, :2]) - out).abs().max() > 1e-6 * out.abs().max()


@every_kind
def test_conditions_do_not_touch_the_generator_outside_of_training(kind: str) -> None:
    condition = Condition(kind, SIZE, 0.5, 4).double().eval()
    before = torch.get_rng_state()
    condition(conditions(kind), 6)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("kind", "cond", "message"),
    [
        ("class", torch.tensor([0, 3, 1]), r"cond: 3 is not allowed; give classes from 0 to 2"),
        ("class", torch.tensor([0, -1, 1]), r"cond: -1 is not allowed; give classes from 0 to 2"),
        ("class", torch.zeros(3), r"cond: torch.float32 of shape \(3,\) .* integers \(3,\)"),
        ("class", torch.zeros(2, dtype=torch.int64), r"cond: .* of shape \(2,\) .* integers \(3,\)"),
        ("vector", torch.zeros(3, 4), r"cond: .* of shape \(3, 4\) .* give vectors \(3, 3\)"),
        ("tokens", torch.zeros(3, 3), r"cond: .* of shape \(3, 3\) .* give tokens \(3, L, 3\)"),
        ("tokens", torch.zeros(3, 0, 3), r"cond: .* give tokens \(3, L, 3\)"),
        (None, torch.zeros(3), r"cond: this network takes no condition"),
    ],
)
def test_a_condition_that_does_not_fit_is_refused(kind: str | None, cond: Tensor, message: str) -> None:
    net = ResidualMLP((2,), 8, condition=kind, condition_size=3 if kind else 0)
    with pytest.raises(InputError, match="^" + message):
        net(torch.zeros(3, 2), torch.zeros(3), cond)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"condition": "label"}, "condition: 'label' is not allowed; give class"),
        ({"condition": "class"}, "condition_size: 0 .* the number of classes"),
        ({"condition_size": 4}, "condition_size: 4 .* condition=class"),
        ({"condition": "class", "condition_size": 2, "condition_dropout": 1.0}, "condition_dropout: 1.0"),
    ],
)
@pytest.mark.parametrize("case", ["digits", "vector", "ncsnpp"])
def test_wrong_arguments_of_a_condition_are_named(case: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match="^" + message):
        CASES[case][1](**changes)
