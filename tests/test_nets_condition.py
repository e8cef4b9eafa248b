"""Laws of conditions: every network hears them, a missing one is a dropped one, and wrong ones are refused."""

from typing import Any

import pytest
import torch
from nets_support import CASES, TYPICAL, made
from torch import Tensor

from scoresde.errors import InputError
from scoresde.nets import ResidualMLP
from scoresde.nets.condition import Condition, conditions

SIZE = 3
KINDS = ("class", "vector", "tokens", "image")
every_kind = pytest.mark.parametrize("kind", KINDS)
every_net = pytest.mark.parametrize("case", TYPICAL)


def values(kind: str, x: Tensor) -> Tensor:
    """Conditions of the samples x."""
    n = len(x)
    if kind == "class":
        return torch.arange(n) % SIZE
    shape = {"vector": (n, SIZE), "tokens": (n, 4, SIZE), "image": (n, SIZE, *x.shape[2:])}[kind]
    return torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=x.dtype)


def asked(kind: str, dropout: float = 0.0) -> dict[str, object]:
    return {"condition": kind, "condition_size": SIZE, "condition_dropout": {kind: dropout}}


@every_kind
@every_net
def test_each_sample_hears_its_own_condition(case: str, kind: str) -> None:
    """Changing the condition of one sample changes its output and no other; none at all is another one."""
    net, x, c = made(case, **asked(kind))
    cond = values(kind, x)
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
    cond = values(kind, x)
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
    cond = values(kind, x)
    ((net(x, c, cond) + net(x, c)) * torch.randn_like(x)).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or p.grad.norm() < 1e-8] == []


def test_drop_out_has_its_probability() -> None:
    condition = Condition("class", "class", SIZE, 0.2, 4).train()
    torch.manual_seed(0)
    vectors = condition(torch.zeros(20_000, dtype=torch.int64), torch.zeros(20_000, 1)).vector
    share = float((vectors == condition.null).all(1).double().mean())
    assert abs(share - 0.2) < 4 * (0.2 * 0.8 / 20_000) ** 0.5


def test_drop_out_goes_by_the_global_generator() -> None:
    condition, classes = Condition("class", "class", SIZE, 0.5, 4).train(), torch.zeros(40, dtype=torch.int64)
    seen = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        seen.append(condition(classes, torch.zeros(40, 1)).vector)
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


def test_tokens_have_no_order_and_repeating_them_changes_nothing() -> None:
    net, x, c = made("ncsnpp", **asked("tokens"))
    cond = values("tokens", x)
    out = net(x, c, cond)
    assert (net(x, c, cond.flip(1)) - out).abs().max() < 1e-12 * out.abs().max()
    assert (net(x, c, cond.repeat(1, 2, 1)) - out).abs().max() < 1e-12 * out.abs().max()
    assert (net(x, c, cond[:, :2]) - out).abs().max() > 1e-6 * out.abs().max()


@every_kind
def test_conditions_do_not_touch_the_generator_outside_of_training(kind: str) -> None:
    condition = Condition("any", kind, SIZE, 0.5, 4).double().eval()
    x, before = torch.zeros(6, 1, dtype=torch.float64), torch.get_rng_state()
    condition(values(kind, x), x)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("kind", "cond", "message"),
    [
        ("class", torch.tensor([0, 3, 1]), r"cond: 3 is not allowed; give classes from 0 to 2"),
        ("class", torch.tensor([0, -1, 1]), r"cond: -1 is not allowed; give classes from 0 to 2"),
        ("class", torch.zeros(3), r"cond: torch.float32 of shape \(3,\) .* integers of shape \(3,\)"),
        ("class", torch.zeros(2, dtype=torch.int64), r"cond: .* of shape \(2,\) .* integers of shape \(3,\)"),
        ("vector", torch.zeros(3, 4), r"cond: .* of shape \(3, 4\) .* give vectors of shape \(3, 3\)"),
        ("tokens", torch.zeros(3, 3), r"cond: .* of shape \(3, 3\) .* give tokens of shape \(3, L, 3\)"),
        ("tokens", torch.zeros(3, 0, 3), r"cond: .* give tokens of shape \(3, L, 3\)"),
        ("image", torch.zeros(3, 3), r"cond: .* of shape \(3, 3\) .* give images of shape \(3, 3, 4\)"),
        ("image", torch.zeros(3, 1, 4), r"cond: .* of shape \(3, 1, 4\) .* give images of shape \(3, 3, 4\)"),
        ("vector", {"text": torch.zeros(3, 3)}, r"cond: 'text' is not allowed; give some of vector"),
        (None, torch.zeros(3), r"cond: this network takes no condition"),
    ],
)
def test_a_condition_that_does_not_fit_is_refused(kind: str | None, cond: Any, message: str) -> None:
    net = ResidualMLP((2, 4), 8, condition=kind, condition_size=3 if kind else 0)
    with pytest.raises(InputError, match="^" + message):
        net(torch.zeros(3, 2, 4), torch.zeros(3), cond)


def test_a_number_has_no_place_for_an_image() -> None:
    with pytest.raises(InputError, match=r"^condition: 'image' is not allowed; .* give vector$"):
        CASES["number"][1](condition="image", condition_size=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"condition": "label"}, "condition: 'label' is not allowed; give one of class"),
        ({"condition": "class"}, "condition_size: 0 .* the number of classes"),
        ({"condition_size": 4}, "condition_size: 4 .* condition=class"),
        ({"condition": "class", "condition_size": 2, "condition_dropout": 1.0}, "condition_dropout: 1.0"),
        ({"condition": {"a": "class", "b": "vector"}, "condition_size": {"a": 2}}, "condition_size: 0 .* in the"),
        ({"condition": {"a": "text"}, "condition_size": 2}, "condition: 'text' is not allowed; give class"),
        ({"condition": {"a b": "class"}, "condition_size": 2}, "condition: 'a b'"),
        ({"condition": "class", "condition_size": {"label": 2}}, "condition_size: .* the conditions are class"),
    ],
)
@pytest.mark.parametrize("case", ["digits", "vector", "ncsnpp"])
def test_wrong_arguments_of_a_condition_are_named(case: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match="^" + message):
        CASES[case][1](**changes)


# ---- several ----

ALL = {"label": "class", "text": "tokens", "style": "vector", "low": "image"}
SEVERAL: dict[str, Any] = {"condition": ALL, "condition_size": SIZE}


@every_net
def test_each_of_several_conditions_is_heard(case: str) -> None:
    """Each changes the output; all of them are more than any one; a missing one is its null."""
    net, x, c = made(case, **SEVERAL)
    cond = {name: values(kind, x) for name, kind in ALL.items()}
    out = net.eval()(x, c, cond)
    for name in ALL:
        others = {key: value for key, value in cond.items() if key != name}
        moved = {**cond, name: cond[name].roll(1, 0)}
        for changed in (others, moved):
            assert ((net(x, c, changed) - out).abs().flatten(1).amax(1) / out.abs().max()).min() > 1e-6
    assert torch.equal(net(x, c, {}), net(x, c))
    assert out.shape == x.shape


@every_net
def test_gradient_reaches_every_parameter_of_several_conditions(case: str) -> None:
    net, x, c = made(case, **SEVERAL)
    cond = {name: values(kind, x) for name, kind in ALL.items()}
    ((net(x, c, cond) + net(x, c)) * torch.randn_like(x)).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or p.grad.norm() < 1e-8] == []


def test_two_conditions_of_a_kind_add_up() -> None:
    two = conditions({"a": "vector", "b": "class", "c": "tokens", "d": "tokens"}, 3, 0.0, 4).double()
    x = torch.zeros(6, 1, dtype=torch.float64)
    a, b, tokens = values("vector", x), values("class", x), values("tokens", x)
    given = {"a": a, "b": b, "c": tokens, "d": 2 * tokens}
    vector, members = two(given, x).vector, two.members
    torch.testing.assert_close(vector, members["a"].embed(a) + members["b"].embed(b))
    assert two(given, x).tokens.shape == (6, 8, 4)
    assert two({"c": tokens}, x).tokens.shape == (6, 5, 4)  # the null of the other is one token
    assert two(None, x).vector.shape == (1, 4)


def test_conditions_of_one_probability_are_hidden_together() -> None:
    kinds = {"label": "class", "style": "vector", "low": "image", "augment": "vector"}
    two = conditions(kinds, SIZE, 0.5, 4).train()
    assert {name: m.dropout for name, m in two.members.items()} == {"label": 0.5, "style": 0.5, "low": 0, "augment": 0}
    x = torch.zeros(400, 1)
    hidden = {}
    for name in ("label", "style"):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            member = two.members[name]
            cond = {"label": torch.zeros(400, dtype=torch.int64), "style": torch.ones(400, SIZE)}
            seen = member.embedded(cond[name], x, torch.rand(400))
            hidden[name] = (seen == member.null).all(1)
    assert torch.equal(hidden["label"], hidden["style"])
    assert 0.4 < hidden["label"].double().mean() < 0.6
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        both = two({"label": cond["label"], "style": cond["style"]}, x).vector
    rest = two.eval()(None, x).vector
    assert torch.equal((both == rest).all(1), hidden["label"])
    shares = conditions(kinds, SIZE, {"low": 0.2}, 4).members
    assert {name: m.dropout for name, m in shares.items()} == {"label": 0, "style": 0, "low": 0.2, "augment": 0}


def test_an_image_that_was_not_changed_is_what_a_missing_augmentation_means() -> None:
    net = ResidualMLP((2,), 8, condition={"label": "class", "augment": "vector"}, condition_size=SIZE)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    x, c, label = torch.randn(6, 2), torch.zeros(6), torch.arange(6) % SIZE
    out = net.eval()(x, c, {"label": label, "augment": torch.zeros(6, SIZE)})
    torch.testing.assert_close(net(x, c, {"label": label}), out)
    torch.testing.assert_close(net(x, c, label), out)  # a tensor is that of the other condition
    assert (net(x, c, {"label": label, "augment": torch.ones(6, SIZE)}) - out).abs().min() > 1e-4


def test_a_tensor_that_could_be_any_of_several_is_refused() -> None:
    net = ResidualMLP((2,), 8, condition={"a": "class", "b": "vector"}, condition_size=SIZE)
    with pytest.raises(InputError, match=r"^cond: a tensor could be any of a, b; give a mapping"):
        net(torch.zeros(3, 2), torch.zeros(3), torch.zeros(3, dtype=torch.int64))


def test_the_weights_of_a_single_condition_do_not_know_its_name() -> None:
    names = []
    for condition in ("class", {"label": "class"}, {"label": "class", "other": "class"}):
        net = ResidualMLP((2,), 8, condition=condition, condition_size=2)
        names.append([name for name, _ in net.named_parameters() if name.startswith("condition")])
    assert names[0] == names[1] == ["condition.null", "condition.embed.weight"]
    assert len(names[2]) == 4
