"""The README's Python runs as it stands there, and its commands name things that exist."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_first_example_draws_samples():
    assert len(BLOCKS[0].strip().splitlines()) < 10
    names = {}
    exec(BLOCKS[0], names)
    result = names["result"]
    assert result.nfe == 30
    torch.testing.assert_close(result.x.mean(0), torch.tensor([0.1, 0.7]), atol=0.15, rtol=0)


def test_own_sde_is_one():
    names = {}
    exec(BLOCKS[1], names)
    sde = names["OrnsteinUhlenbeck"]()
    assert float(sde.f(1.0)) == pytest.approx(-0.5)


@pytest.mark.parametrize("group", ["sde", "data", "loss", "solver", "experiment"])
def test_table_lists_the_options_that_exist(group):
    row = next(line for line in README.splitlines() if line.startswith(f"| `{group}` |"))
    options = sorted(p.stem for p in (ROOT / "conf" / group).glob("*.yaml"))
    assert sorted(re.findall(r"`(\w+)`", row)[1:]) == options


def test_every_command_composes():
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    commands = re.findall(r"^scoresde (train|sample|compare|tune|doctor|ema|convert)([^#\n]*)", README, re.MULTILINE)
    assert len(commands) > 8
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for command, rest in commands:
            overrides = [word for word in rest.split() if word != "-m"]
            first = [re.sub(r"(=[^,\[]+),.*", r"\1", word) for word in overrides]  # the first job of a sweep
            config = compose(command, overrides=first)
            for word in first:
                key, value = word.lstrip("+").split("=", 1)
                if "." in key:  # what the command sets is what the program gets
                    assert str(OmegaConf.select(config, key)).lower().replace(" ", "") == value.lower()
