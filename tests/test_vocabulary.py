"""The words of other programs lead to settings and options that exist."""

import re

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from scoresde import InputError, solver, vocabulary
from scoresde.cli.command import all_commands
from scoresde.named import config_folder, options
from scoresde.runs.config import get


def test_every_key_is_one_of_a_command():
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        known = [OmegaConf.to_container(compose(name)) for name in all_commands()]
    for word, names in vocabulary._KEYS.items():
        for name in names:
            path = name.rpartition("@")[2]
            parent, _, last = path.rpartition(".")
            there = any(last in ((get(cfg, parent) if parent else cfg) or {}) for cfg in known)
            assert there or (config_folder() / path).is_dir(), word


@pytest.mark.parametrize("group", vocabulary._OPTIONS)
def test_every_option_composes(group):
    command = "sample" if group == "solver" else "train"
    for word, settings in vocabulary._OPTIONS[group].items():
        assert word not in options(group)
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            assert compose(command, settings.split())
    assert all(re.fullmatch(r"[a-z0-9_]+", word) for word in vocabulary._OPTIONS[group])


def test_names_in_python_too():
    with pytest.raises(InputError, match=r"there is no solver DPM\+\+; did you mean solver=dpmpp_2m\?"):
        solver("DPM++")
