"""Every number of a configuration: what cannot be is refused with its key before anything is made."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from scoresde import InputError
from scoresde.build import RUNTIME, TARGET, check, resolve
from scoresde.cli.main import main
from scoresde.constraints import hints

CONF = Path(__file__).parents[1] / "conf"
GROUPS = ("sde", "solver", "grid", "corrector", "loss", "trainer", "metrics", "data", "problem", "model", "logger")
FAST = ["debug=tiny", "experiment=moons", "data.n=60", "model.net.width=8", "model.net.blocks=1", "logger=none", "n=6"]


def numbers(value: Any, path: tuple[str, ...] = ()):
    """(keys, class) of every number that a class of a YAML file is given."""
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, int | float) and not isinstance(item, bool):
                yield (*path, key), value.get(TARGET)
            yield from numbers(item, (*path, key))


def cases():
    for group in GROUPS:
        for file in sorted((CONF / group).glob("*.yaml")):
            content = yaml.safe_load(file.read_text())
            for keys, target in numbers(content or {}):
                if target and "???" not in file.read_text():
                    yield pytest.param(content, keys, id=f"{group}/{file.stem}:{'.'.join(keys)}")


CASES = list(cases())


def given(content: dict[str, Any], keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(content)
    place = changed
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return changed


@pytest.mark.parametrize(("content", "keys"), CASES)
def test_what_is_no_finite_number_is_refused_by_its_key(content, keys):
    for wrong in (math.nan, math.inf, -math.inf, "text", 2**70):
        if wrong == 2**70 and "float" in str(kind(content, keys)):
            continue
        with pytest.raises(InputError) as caught:
            check(given(content, keys, wrong), "part", runtime=(*RUNTIME, "measured"))
        assert str(caught.value).startswith(f"part.{'.'.join(keys)}: "), str(caught.value)
        assert "\n" not in str(caught.value)


def kind(content: dict[str, Any], keys: tuple[str, ...]) -> Any:
    for key in keys[:-1]:
        content = content[key]
    return hints(resolve(content[TARGET])).get(keys[-1])


def test_there_are_numbers():
    assert len(CASES) > 100


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("optimizer.lr=nan", "optimizer.lr: nan is not"),
        ("optimizer.lr=inf", "optimizer.lr: inf is not"),
        ("optimizer.lr=0", "optimizer.lr: 0.0 is not allowed; give a number > 0"),
        ("optimizer.lr=-1", "optimizer.lr: -1.0 is not allowed; give a number > 0"),
        ("optimizer.lr=1e308", "optimizer.lr: 1e+308 is not allowed; give at most 1e12"),
        ("optimizer.lr=fast", "optimizer.lr: 'fast' is not a number"),
        ("optimizer.betas=[0.9,1.5]", "optimizer.betas: (0.9, 1.5) is not allowed"),
        ("optimizer.eps=-1", "optimizer.eps: -1.0 is not allowed; give a number >= 0"),
        ("optimizer.weight_decay=nan", "optimizer.weight_decay: nan is not"),
        ("sde.beta_max=1e308", "sde.beta_max: 1e+308 is not allowed; give at most 1e12"),
        ("loss.mean=inf", "loss.mean: inf is not"),
        ("seed=-1", "seed: -1 is not allowed; give an integer >= 0"),
        ("data.n=1000000000000000", "data.n: 1000000000000000 is not allowed; give at most"),
        (f"run={'x' * 300}", "run: "),
    ],
)
def test_a_value_that_cannot_be_starts_nothing(tmp_path, monkeypatch, capsys, setting, line):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *FAST, setting]) == 2
    (found,) = capsys.readouterr().err.splitlines()
    assert found.startswith(f"error: {line}"), found
    assert not list(tmp_path.iterdir())


def test_a_network_beyond_any_tensor_is_one_line():
    from scoresde.runs.sizes import require_network

    net = {"_target_": "scoresde.nets.ADM", "channels": 2**40}
    state = torch.random.get_rng_state()
    with pytest.raises(InputError, match=r"^model\.net"):
        require_network({"net": net}, (3, 8, 8), "cpu", ())
    assert torch.equal(torch.random.get_rng_state(), state)
