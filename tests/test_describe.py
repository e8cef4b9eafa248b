"""`describe` is the inverse of `build`, for every object of conf/ and for objects made in Python."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from support import CONF, options
from torch import nn

from scoresde import VESDE, VPSDE, DiscreteVPSDE, InputError, ScoreModel
from scoresde.build import TARGET, build, resolve
from scoresde.described import describe, public_name
from scoresde.nets import ResidualMLP, UNet
from scoresde.training import Muon

GROUPS = ("corrector", "data", "divergence", "grid", "logger", "loss", "metrics", "model", "optimizer", "problem")
GROUPS += ("guidance_method", "observation", "posterior", "sde", "solver")
OPTIONS = [f"{group}/{name}" for group in (*GROUPS, "trainer") for name in options(group)]


def stored(option):
    """The YAML of an option, with values where it has none."""
    cfg = yaml.safe_load((CONF / f"{option}.yaml").read_text()) or {}
    cfg = {k: 1.5 if v == "measured" else v for k, v in cfg.items()}
    if option == "grid/list":
        cfg["times"] = [1.0, 0.5, 0.1]
    if option == "metrics/frechet":
        cfg["frechet"]["features"] = {TARGET: "torch.nn.Flatten", "start_dim": 1, "end_dim": -1}
    return cfg


def made(cfg, event_shape=(3, 32, 32)):
    params = [nn.Parameter(torch.zeros(2, 2))]
    chain = cfg.get(TARGET) == "scoresde.chains.GaussianChain"
    sde = DiscreteVPSDE() if chain else VPSDE()
    return build(cfg, event_shape=event_shape, sde=sde, params=params, run=Path("/run"))


def same(described, cfg):
    """Whether a description says what a configuration says, which may name a class by another of its names."""
    if isinstance(cfg, dict):
        if TARGET in cfg and resolve(described[TARGET]) is not resolve(cfg[TARGET]):
            return False
        return all(same(described[k], v) for k, v in cfg.items() if k != TARGET)
    if cfg == {} or cfg is None:
        return described is None
    return described == cfg


@pytest.mark.parametrize("option", OPTIONS)
def test_it_gives_back_what_an_option_says(option):
    cfg = stored(option)
    shape = (2,) if option == "model/mlp" else (3, 32, 32)
    obj = made(cfg, shape)
    described = describe(obj)
    assert (described or {}) == {} if not cfg else same(described, cfg)
    assert describe(made(described, shape)) == described
    assert yaml.safe_load(yaml.safe_dump(described)) == described


def test_objects_made_in_python():
    model = ScoreModel(ResidualMLP((2,), width=8), VESDE(sigma_max=5.0), sigma_data=0.5)
    described = describe(model)
    assert described["net"]["width"] == 8
    assert "sde" not in described
    again = build(described, sde=model.sde, event_shape=(2,))
    assert describe(again) == described
    assert describe({"a": [model.sde]})["a"][0] == {TARGET: "scoresde.VESDE", **describe(model.sde)} | {
        "sigma_max": 5.0
    }


@pytest.mark.parametrize("obj", [UNet((1, 8, 8), channels=8), Muon([nn.Parameter(torch.zeros(2, 2))], lr=0.5)])
def test_copies_are_described_too(obj):
    for other in (copy.deepcopy(obj), pickle.loads(pickle.dumps(obj))):
        if isinstance(obj, nn.Module):
            assert describe(other) == describe(obj)


def test_a_name_that_moved_inside_the_package_is_the_public_one():
    assert public_name(VPSDE) == "scoresde.VPSDE"
    assert public_name(torch.optim.Adam) == "torch.optim.Adam"
    assert public_name(UNet) == "scoresde.nets.UNet"


class Forgetful(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()


def test_what_cannot_be_described_says_why():
    class Local:
        pass

    with pytest.raises(InputError, match=r"model\.net\.width: Forgetful does not keep this argument"):
        describe(ScoreModel(Forgetful(), VPSDE(), sigma_data=1.0), "model")
    with pytest.raises(InputError, match="cannot be imported by its name"):
        describe(Local(), "data")
    with pytest.raises(InputError, match=r"a\.b: inf is not allowed; give a finite"):
        describe({"a": {"b": float("inf")}})
