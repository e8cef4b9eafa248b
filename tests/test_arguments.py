"""What a person types is what the program gets: odd names, words for nothing and for yes, sweeps."""

import random
import shlex
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from scoresde import InputError, runs
from scoresde.cli.arguments import parted
from scoresde.cli.main import main
from scoresde.runs.folder import quoted

ODD = ["a b", "größe/ü", "a=b", "a#b", "a(b", "it's", "a[b", "[a]", "{a}", "a!b", "~b", "a;b", "a&b", 'a"b', "a\\"]
ODD += ["1e5", "12", "true", "no", "glob(x)", " a", "a:b", "$HOME", "a\\b", "a'b\"c", "(a)", "a|b<c>", "%d"]


def read(*typed, command="train"):
    """What Hydra reads for each setting; of a sweep the list of values."""
    parser = OverridesParser.create()
    found = [parser.parse_override(text) for text in parted(command, typed)[1]]
    return [[getattr(v, "text", v) for v in o.sweep_iterator()] if o.is_sweep_override() else o.value() for o in found]


@pytest.mark.parametrize("name", ODD)
def test_a_path_is_the_text_that_was_typed(name):
    for key in ("run", "init", "out", "data.path"):
        assert read(f"{key}={name}") == [name]
    assert read(f"run={quoted(name)}") == [name]


@pytest.mark.parametrize("name", [*ODD, "a,b", "it's, again", "null", "'a'"])
def test_the_hint_for_a_path_works_as_written(name):
    (word,) = shlex.split(runs.setting(Path(name)))
    assert read(word) == [name]


def test_any_text_in_quotes_is_itself():
    chosen, parser = random.Random(0), OverridesParser.create()
    for _ in range(500):
        text = "".join(chosen.choice("ab '\"\\,=#([{!~;:&%$ü|<>)]}?*") for _ in range(chosen.randint(0, 6)))
        assert parser.parse_override(f"run={quoted(text)}").value() == text


def test_the_program_gets_it(capsys):
    assert main(["train", "run=größe (1)#a=b", "trainer.compile=yes", "logger=null", "--cfg", "job"]) == 0
    cfg = yaml.safe_load(capsys.readouterr().out)
    assert (cfg["run"], cfg["trainer"]["compile"]) == ("größe (1)#a=b", True)
    assert cfg["logger"] == {"_target_": "scoresde.loggers.NoLogger"}


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("optimizer.lr=1e-4", 1e-4),
        ("optimizer.lr=.5", 0.5),
        ("n=1_000", 1000),
        ("trainer.compile=yes", True),
        ("trainer.compile=On", True),
        ("trainer.compile=no", False),
        ("trainer.compile=OFF", False),
        ("trainer.micro_batch=~", None),
        ("trainer.micro_batch=None", None),
        ("run=None", None),
        ("run=~", None),
        ("run=null", None),
        ("logger.project=größe", "größe"),
        ("sde.drift=-0.5*sqrt(t)", "-0.5*sqrt(t)"),
        ("solver=no", "no"),
    ],
)
def test_words_mean_what_a_person_means(typed, value):
    if typed == "solver=no":  # a group that has nothing to choose
        with pytest.raises(InputError, match=r"solver=null: it cannot be left out; give one of adaptive_bosh3"):
            read(typed, command="sample")
        return
    assert read(typed) == [value]
    assert type(read(typed)[0]) is type(value)


@pytest.mark.parametrize(
    ("command", "typed", "settings"),
    [
        ("train", "logger=null", ["logger=none"]),
        ("train", "logger=off", ["logger=none"]),
        ("sample", "corrector=~", ["corrector=none"]),
        ("train", "metrics=null", ["metrics=[]"]),
        ("train", "experiment=null", []),
        ("compare", "sde=null", []),
        ("train", "hydra.job.chdir=false", ["hydra.job.chdir=false"]),
    ],
)
def test_nothing_of_a_group(command, typed, settings):
    assert parted(command, [typed])[1] == settings


def test_each_value_of_a_sweep_is_read_so():
    assert read("data.path=größe.npy,a b.npy", "-m") == [["größe.npy", "a b.npy"]]
    assert read("sde.drift=sqrt(t),-t", "-m") == [["sqrt(t)", "-t"]]
    assert read("label=[0,1],[2]", "-m", command="sample") == [[[0, 1], [2]]]
    assert read("optimizer.lr=1e-3,1e-4", "-m") == [[1e-3, 1e-4]]
