"""Every YAML file says what its class says, every choice composes, and every preset trains."""

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from support import write_mnist

from scoresde import InputError
from scoresde.build import RUNTIME, TARGET, check, resolve
from scoresde.cli.arguments import parted
from scoresde.cli.command import all_commands
from scoresde.cli.commands.sample import without_path
from scoresde.cli.keys import keys, listing
from scoresde.cli.main import main
from scoresde.constraints import signature
from scoresde.named import config_folder
from scoresde.runs.config import leaves

CONF = Path(__file__).parents[1] / "conf"
FILES = sorted(p.relative_to(CONF).with_suffix("").as_posix() for p in CONF.rglob("*.yaml"))
GROUPS = [f for f in FILES if "/" in f]
NAMED = [f for f in GROUPS if f == "model/custom" or not f.endswith("/custom")]  # others name no class by themselves
PRESETS = ("experiment", "debug", "hparams_search", "launcher", "sweeper")
ELSEWHERE = ("solver", "grid", "corrector", "problem", "divergence")  # not of a training
ELSEWHERE += ("observation", "posterior", "guidance_method")
# where an option differs from the defaults of its class, and so has a name of its own
OWN = {
    "divergence/hutchinson": {"probes"},
    "divergence/gaussian": {"probes", "directions"},
    "divergence/orthogonal": {"probes", "directions"},
    "divergence/hadamard": {"probes", "directions", "fresh"},
    "problem/mixture_64d": {"dimension"},
    "problem/inverse_mixture_64d": {"dimension", "components", "rows"},
    "loss/edm": {"weight", "times"},
    "model/gaussian_chain": {"outputs"},
    "model/unet": {"dropout"},
    "loss/likelihood": {"weight", "times"},
    "loss/ncsn": {"times", "levels"},
    "optimizer/adam": {"fused"},
    "optimizer/adamw": {"fused"},
    "sde/trigonometric": {"offset"},
}


def family(file: str) -> list[dict[str, Any]]:
    """The options of a group that make the same class where there are several: the values are what the option is."""
    group = file.split("/")[0]
    options = {path.stem: yaml.safe_load(path.read_text()) or {} for path in (CONF / group).glob("*.yaml")}
    target = options[Path(file).name].get(TARGET)
    same = [option for option in options.values() if target and option.get(TARGET) == target]
    return same if group != "optimizer" and len(same) > 1 else []


def nodes(value: Any):
    """All mappings that name a class, at any depth."""
    if isinstance(value, dict):
        if value.get(TARGET, "???") != "???":
            yield value
        for item in value.values():
            yield from nodes(item)


def parameters(node: dict[str, Any]) -> dict[str, inspect.Parameter]:
    found = signature(resolve(node[TARGET])).parameters
    return {k: p for k, p in found.items() if k not in RUNTIME}


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def composed(name: str, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose(name, list(overrides)))


def test_the_program_finds_these_files():
    assert config_folder() == CONF


@pytest.mark.parametrize("file", GROUPS)
def test_lists_every_argument_with_its_default(file):
    if file.startswith(PRESETS):
        return
    for node in nodes(yaml.safe_load((CONF / f"{file}.yaml").read_text())):
        arguments = parameters(node)
        given = {k: v for k, v in node.items() if k != TARGET and not (isinstance(v, dict) and k == "net")}
        assert set(given) == set(arguments) - {"net"}
        siblings = family(file)
        for key, value in given.items():
            default = plain(arguments[key].default)
            if isinstance(value, dict) or value in ("measured", "???") or key in OWN.get(file, ()):
                continue
            if not siblings:
                assert value == default, f"{file}: {key}"
                assert type(value) is type(default) or value == 0, f"{file}: {key}"
            elif node[TARGET] == siblings[0][TARGET] and isinstance(default, int | float):
                assert default in [one[key] for one in siblings], f"{file}: {key}"  # one of them has the default


@pytest.mark.parametrize("file", GROUPS)
def test_says_what_it_is_and_where_it_goes(file):
    lines = (CONF / f"{file}.yaml").read_text().splitlines()
    comments = [line for line in lines[:2] if line.startswith("# ") and not line.startswith("# @")]
    assert comments, f"{file} has no line that says what it is"
    headers = [line.split()[-1] for line in lines if line.startswith("# @package")]
    if headers and headers != [file.split("/")[0]]:  # Hydra reads it in front of everything else only
        assert lines[0] == f"# @package {headers[0]}"


@pytest.mark.parametrize("name", ["train", "sample"])
def test_the_commands_list_every_argument_of_a_sampler(name):
    cfg = composed(name)
    samplers = cfg["samplers"].values() if name == "train" else [without_path(cfg["sampler"])[0]]
    for sampler in samplers:
        assert set(sampler) - {TARGET} == set(parameters(sampler))
        assert sampler["eta"] is None
        assert sampler["denoise"] is True


@pytest.mark.parametrize("option", [f for f in NAMED if not f.startswith((*PRESETS, *ELSEWHERE))])
def test_every_choice_of_a_training_passes_the_checks(option):
    group, name = option.split("/")
    extra = {
        "model/custom": ["model.net._target_=torch.nn.Linear"],
        "metrics/frechet": ["metrics.frechet.features._target_=torch.nn.Flatten"],
    }.get(option, [])
    cfg = composed("train", f"{group}={name}", *extra)
    for key in ("sde", "data", "loss", "optimizer", "trainer", "metrics", "logger", "samplers"):
        stand_in = {k: 1.0 if v == "measured" else v for k, v in cfg[key].items()}
        check(stand_in, key)
        parts = [stand_in] if TARGET in stand_in else [part for part in stand_in.values() if isinstance(part, dict)]
        for part in parts:  # and the check has looked: it would not pass anything
            with pytest.raises(InputError, match="no_such_key"):
                check({**part, "no_such_key": 1}, key)


@pytest.mark.parametrize("option", [f for f in NAMED if f.startswith(("solver", "grid", "corrector"))])
def test_every_choice_of_a_sampler_lands_in_it(option):
    group, name = option.split("/")
    given = {"times": [1.0, 0.5, 0.1]} if option == "grid/list" else {}
    cfg = composed("sample", f"{group}={name}", *(f"sampler.{group}.{k}={v}" for k, v in given.items()))
    check(without_path(cfg["sampler"])[0], "sampler")
    own = yaml.safe_load((CONF / f"{option}.yaml").read_text()) or {}
    assert cfg["sampler"][group] == {**own, **given}


def test_a_preset_wins_over_the_choices_of_the_command():
    assert composed("train", "experiment=digits_ve")["sde"][TARGET] == "scoresde.VESDE"
    assert composed("train", "experiment=digits_ve", "sde=vp")["sde"][TARGET] == "scoresde.VPSDE"
    assert composed("train", "experiment=moons", "debug=tiny")["trainer"]["batch_size"] == 16


def test_the_digits_preset_is_what_happens_without_any():
    assert composed("train", "experiment=digits") == composed("train")


@pytest.mark.parametrize("option", [f for f in NAMED if f.startswith(("problem", "metrics", "sde", "logger"))])
def test_every_choice_of_a_comparison_passes_the_checks(option):
    group, name = option.split("/")
    extra = ["metrics.frechet.features._target_=torch.nn.Flatten"] if name == "frechet" else []
    cfg = composed("compare", f"{group}={name}", *extra)
    check({k: 1.0 if v == "measured" else v for k, v in cfg[group].items()}, group)
    check(cfg["reference"], "reference")


@pytest.mark.parametrize("row", all_commands().values(), ids=lambda row: row.name)
def test_a_command_and_its_configuration_have_the_same_keys(row):
    assert set(composed(row.name)) == set(row.keys)


@pytest.mark.parametrize("row", all_commands().values(), ids=lambda row: row.name)
def test_help_lists_groups_and_ten_examples_that_compose(row, capsys):
    assert main([row.name, "--help"]) == 0
    text = capsys.readouterr().out
    assert row.summary in text
    defaults = [str(entry) for entry in yaml.safe_load((CONF / f"{row.name}.yaml").read_text())["defaults"]]
    for group in {f.split("/")[0] for f in GROUPS}:
        chosen = any(f"'{group}':" in entry or f"'{group}@" in entry for entry in defaults)
        assert not chosen or re.search(rf"^  {group}: \w", text, re.MULTILINE)
    assert len(row.examples) == 10
    for example in row.examples:
        settings = [word.strip("'").partition("=") for word in example.split()[2:] if "=" in word]
        ends = (  # of the values of a sweep
            tuple(f"{k}={v}" if v[0] == "[" else f"{k}={v.split(',')[end]}" for k, _, v in settings) for end in (0, -1)
        )
        for typed in {*ends}:
            composed(row.name, *parted(row.name, typed)[1])


@pytest.mark.parametrize("name", all_commands())
def test_help_has_every_key_with_its_default_and_meaning(name):
    rows = {key.name: key for key in keys(name)}
    there = {key: value for key, value in leaves(composed(name)) if not key.endswith(TARGET) and value != {}}
    assert set(rows) == set(there)
    for key, value in there.items():
        assert rows[key].default == "required" if value == "???" else yaml.safe_load(rows[key].default) == value
        assert re.search(r"[a-z]{2}", rows[key].meaning), f"{key} has no comment"
    text = " ".join(listing(keys(name)).split())
    assert all(f"{row.name} {row.default} {row.meaning}" in text for row in rows.values())


def test_every_option_says_what_each_key_means():
    for file in (f for f in GROUPS if not f.startswith(PRESETS)):
        group, option = file.split("/")
        silent = [key.name for key in keys("train", [f"{group}={option}"]) if not key.meaning]
        assert not silent, file


def test_help_follows_the_options_that_are_typed(capsys):
    assert main(["train", "sde=ve", "logger=none", "--help"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^  sde\.sigma_max +measured +", text, re.MULTILINE)
    assert "beta_max" not in text
    assert "logger.project" not in text
    assert max(map(len, text.partition("keys,")[2].splitlines())) <= 120


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (20 + i, 24, 3), dtype=np.uint8)).save(photos / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("name", [f.split("/")[1] for f in GROUPS if f.startswith("experiment/")])
def test_every_experiment_trains_and_samples(name, here, capsys):
    write_mnist(here / "clothes", side=8)
    small = ["trainer.steps=4", "trainer.batch_size=4", "n=8", "logger=none"]
    cfg = composed("train", f"experiment={name}")
    samplers = {key for key, sampler in cfg["samplers"].items() if sampler[TARGET]}
    small += [f"samplers.{key}.steps=5" for key in samplers]
    mlp = "width" in cfg["model"]["net"]
    small += [] if mlp else ["model.net.channels=8", "model.net.groups=4", "model.net.blocks=1"]
    small += ["data.path=photos", "data.size=8"] if name == "folder" else []
    small += ["data.folder=clothes"] if name.startswith("fashion_mnist") else []
    small += ["data.n=100", "metrics.modes.accuracy=0"] if name == "stacked_digits" else []
    langevin = "samplers.annealed_langevin.solver"
    small += [f"{langevin}.steps=1", f"{langevin}.least_overlap=0"] if name.startswith("ncsn") else []
    assert main(["train", f"experiment={name}", "debug=tiny", *small]) == 0
    out = capsys.readouterr().out
    assert samplers
    assert all(sampler in out for sampler in samplers)
    (run,) = (here / "runs").iterdir()
    assert {p.name for p in (run / "samples").iterdir()} >= {f"{key}.png" for key in samplers}
