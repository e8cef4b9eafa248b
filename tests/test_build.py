"""From mappings to objects: what may be named, what may be given, and what a mistake says."""

import sys

import pytest
import torch
from torch import nn

from scoresde import SDE, VPSDE, InputError, Sampler, ScoreModel
from scoresde.build import build, check, resolve
from scoresde.nets import ResidualMLP

S = "scoresde.sampling."
HEUN = {"_target_": S + "Heun"}


class Network(nn.Module):
    """A network of the user's own."""

    def __init__(self, event_shape: tuple[int, ...], width: int = 3, scales: list[float] | None = None) -> None:
        super().__init__()
        self.event_shape, self.width, self.scales = event_shape, width, scales


class Wrong:
    """A constructor with a fault of its own."""

    def __init__(self, width: int) -> None:
        raise ValueError("width: too wide" if width > 1 else "just wrong")


HERE = Network.__module__


def message(cfg, path="", **keywords):
    with pytest.raises(InputError) as caught:
        build(cfg, path, **keywords)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_builds_nested_objects_with_converted_values():
    cfg = {"a": {"_target_": S + "Sampler", "solver": HEUN, "steps": 7, "grid": {"_target_": S + "Karras", "rho": 5}}}
    sampler = build(cfg)["a"]
    assert isinstance(sampler, Sampler)
    assert sampler.steps == 7
    assert type(sampler.grid.rho) is float


def test_lists_become_what_the_constructor_wants():
    cfg = {"_target_": f"{HERE}.Network", "event_shape": [1, 2], "scales": [1, 2.5]}
    network = build(cfg, allow=[HERE])
    assert network.event_shape == (1, 2)
    assert network.scales == [1.0, 2.5]


def test_passes_plain_values_through():
    cfg = {"a": [1, {"b": None}], "c": "text"}
    assert build(cfg) == cfg


def test_an_empty_mapping_is_none_where_none_is_allowed():
    assert build({"_target_": S + "Sampler", "solver": HEUN, "corrector": {}}).corrector is None
    assert "is not an integer" in message({"_target_": S + "Sampler", "steps": {}})


def test_runtime_objects_fill_what_is_left_out_at_any_depth():
    sde = VPSDE()
    cfg = {"_target_": "scoresde.ScoreModel", "net": {"_target_": "scoresde.nets.ResidualMLP", "width": 8, "blocks": 1}}
    model = build(cfg, "model", expect=ScoreModel, sde=sde, event_shape=(3,))
    assert model.sde is sde
    assert model.net(torch.zeros(2, 3), torch.zeros(2)).shape == (2, 3)


def test_a_given_value_wins_over_a_runtime_object():
    cfg = {"_target_": f"{HERE}.Network", "event_shape": [5]}
    assert build(cfg, allow=[HERE], event_shape=(3,)).event_shape == (5,)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.open",
        "numpy.load",
        "torch.load",
        "torch.nn.functional.torch.load",
        "torch.utils.data.DataLoader",
        "torch.nn.modules.module.partial",
        "scoresde.build.importlib.import_module",
        "scoresde.runs.run.Path",
        "scoresde.load",
        "scoresde.sampling",
        "scoresdeevil.Class",
        "scoresde",
        "eval",
        "scoresde..VPSDE",
        "scoresde.VPSDE.__class__",
        3,
        None,
    ],
)
def test_refuses_what_must_not_be_named(target):
    assert message({"_target_": target}, "model.net").startswith("model.net._target_: ")


def test_refuses_without_importing(tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    (tmp_path / "trapdoor.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert "add allow=[trap]" in message({"_target_": "trap.Class"}, "model.net")
    assert "add allow=[trapdoor]" in message({"_target_": "trapdoor.Class"}, "model.net", allow=["trap"])
    assert not {"trap", "trapdoor"} & set(sys.modules)


def test_an_allowed_package_opens_its_own_classes_only(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from subprocess import Popen\nfrom torch.nn import Linear\nclass Net(Linear): pass"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve("mine.Net", allow=["mine"]).__name__ == "Net"
    assert resolve("mine.Linear", allow=["mine"]) is nn.Linear
    assert "subprocess.Popen, which is not allowed" in message({"_target_": "mine.Popen"}, allow=["mine"])
    assert "not the name of a package" in message({"_target_": "mine.Net"}, allow=["mine/.."])


@pytest.mark.parametrize(
    ("cfg", "line"),
    [
        ({"beta_min": "abc"}, "sde.beta_min: 'abc' is not a number > 0"),
        ({"t_min": True}, "sde.t_min: True is not a number > 0"),
        ({"t_min": None}, "sde.t_min: None is not a number > 0"),
        ({"t_min": [0.1]}, "sde.t_min: [0.1] is not a number > 0"),
        ({"betamin": 1}, "sde.betamin: scoresde.VPSDE has no such argument; did you mean sde.beta_min?"),
        ({"beta_min": -1}, "sde.beta_min: -1.0 is not allowed; give a number > 0"),
    ],
)
def test_names_the_value_that_is_wrong(cfg, line):
    assert message({"_target_": "scoresde.VPSDE", **cfg}, "sde") == line


@pytest.mark.parametrize(
    ("cfg", "line"),
    [
        ({"steps": 3.5}, "sampler.steps: 3.5 is not an integer >= 1"),
        ({"steps": "3"}, "sampler.steps: '3' is not an integer >= 1"),
        ({"steps": 1e3}, "sampler.steps: 1000.0 is not an integer >= 1; write 1000"),
        ({"denoise": 1}, "sampler.denoise: 1 is not true or false"),
        ({"eta": "x"}, "sampler.eta: 'x' is not a number or null"),
        ({"solver": 3}, "sampler.solver: 3 is not a Solver; give a mapping with _target_ or null"),
        ({"solver": {"_target_": S + "Karras"}}, f"sampler.solver._target_: {S}Karras is no Solver"),
        ({"solver": {"_target_": S + "GridSolver"}}, f"sampler.solver._target_: {S}GridSolver is abstract; "),
        (
            {"solver": {"_target_": S + "Heunn"}},
            f"sampler.solver._target_: {S[:-1]} has no Heunn; did you mean {S}Heun?",
        ),
        (
            {"solver": {"_target_": S + "Heun.chek"}},
            f"sampler.solver._target_: {S}Heun has no chek; did you mean {S}Heun.check?",
        ),
        ({"solver": {**HEUN, "eta": 0}}, f"sampler.solver.eta: {S}Heun has no such argument; it has variable"),
        ({"grid": {"_target_": S + "Karras", "rho": -1}}, "sampler.grid.rho: -1.0 is not allowed; give a number > 0"),
        (
            {"corrector": {"_target_": S + "Langevin", "rule": "nrm"}},
            "sampler.corrector.rule: 'nrm' is not one of level, norm; did you mean norm?",
        ),
        ({"eta": 1}, "sampler.eta: 1.0 is not possible with Heun"),
    ],
)
def test_names_the_value_that_is_wrong_at_any_depth(cfg, line):
    assert message({"_target_": S + "Sampler", "solver": HEUN, **cfg}, "sampler").startswith(line)


def test_lists_are_checked_item_by_item():
    cfg = {"_target_": f"{HERE}.Network", "event_shape": [1], "scales": [1.0, "a"]}
    line = "net.scales: [1.0, 'a'] is not a list of numbers or null (item 1 is 'a')"
    assert message(cfg, "net", allow=[HERE]) == line


def test_a_missing_argument_is_named():
    assert message({"_target_": S + "Explicit"}, "grid") == f"grid.times: not given, and {S}Explicit needs it"
    assert "model.sde: not given" in message({"_target_": "scoresde.ScoreModel"}, "model", net=ResidualMLP((2,)))


def test_the_expected_class_is_checked_before_anything_is_made():
    assert message(HEUN, "sde", expect=SDE) == f"sde._target_: {S}Heun is no SDE"


def test_errors_of_any_constructor_say_where():
    wrong = {"_target_": f"{HERE}.Wrong"}
    assert message({**wrong, "width": 2}, "net", allow=[HERE]) == "net.width: too wide"
    assert message({**wrong, "width": 1}, "net", allow=[HERE]) == "net: just wrong"


def test_check_finds_mistakes_without_constructing():
    check({"_target_": f"{HERE}.Wrong", "width": 2}, allow=[HERE])
    with pytest.raises(InputError, match=r"net.width: 'x' is not an integer"):
        check({"_target_": f"{HERE}.Wrong", "width": "x"}, "net", allow=[HERE])


def test_optimizers_of_torch_are_checked_too():
    cfg = {"_target_": "torch.optim.Adam", "lr": 0.1, "betas": [0.5, 0.9]}
    weight = torch.zeros(1, requires_grad=True)
    assert build(cfg, "optimizer", params=[weight]).param_groups[0]["betas"] == (0.5, 0.9)
    assert message({**cfg, "lr": "abc"}, "optimizer", params=[weight]).startswith("optimizer.lr: 'abc' is not a number")
    assert message({**cfg, "betas": [0.5]}, "optimizer", params=[weight]).startswith(
        "optimizer.betas: [0.5] is not a list of 2 numbers"
    )


def test_an_object_in_a_configuration_stands_for_itself():
    sde = VPSDE()
    assert build(sde, "sde", expect=SDE) is sde
    with pytest.raises(InputError, match=r"sampler\.solver"):
        build({"_target_": "scoresde.sampling.Sampler", "solver": sde, "steps": 3}, "sampler")
