"""Every number of every command's configuration: -1, 0 and 1e308 are refused by their key, or taken for a reason."""

import copy
import re
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from scoresde import InputError
from scoresde.build import TARGET, build
from scoresde.cli.command import all_commands
from scoresde.cli.commands import tune
from scoresde.cli.commands.sample import without_path
from scoresde.cli.keys import keys
from scoresde.named import config_folder
from scoresde.runs.config import get, put
from scoresde.training.power_ema import exponent
from scoresde.workflows.classifier import KINDS as CLASSIFIER
from scoresde.workflows.job import check_parts, check_types

TYPED = {
    "train": [[], ["data=digits", "model=dit", "optimizer=muon"], ["sde=rectified", "model=ncsnpp", "loss=velocity"]],
    "sample": [["run=r", f"solver={s}"] for s in ("auto", "ancestral", "torchdiffeq", "scipy", "adaptive_sde")]
    + [["run=r", f"guidance_method={m}"] for m in ("apg", "exact")],
    "classifier": [["run=r"]],
    "compare": [["problem=mixture_2d"]],
    "evaluate": [["run=r"], ["run=r", "guidance_method=exact"]],
    "evaluate_selftest": [[]],
    "tune": [["run=r"]],
    "ema": [["run=r", "length=0.1"]],
    "doctor": [[], ["sde=ve"]],
    "convert": [["out=o", "file=f", "size=32"]],
}
ACCEPTED = {
    0: r"\w*seed|eta|guidance|mean|atol|budgets|seeds|reference\.n|iterations|"
    r"dropout|condition_dropout|condition_size|head_width|noise_shift|"
    r"moves|guidance_method\.parallel|eps|momentum|weight_decay|ema|clip|radius|warmup|restart|augment|\w+_every|auto_check",
    -1: r"mean|noise_shift|budgets|seeds",  # the mean of a logarithm; and what the plan of a comparison refuses
    1e308: r"clip",  # never clips
}


def check(command: str, values: dict[str, Any]) -> None:
    """What a command checks before it makes anything, apart from what only a run can tell."""
    all_commands()[command].settings.of(values)
    if command in ("train", "doctor"):
        check_types({k: values[k] for k in values.keys() & {"sde", "data", "model", "optimizer", *PARTS}}, ())
    if command == "evaluate_selftest":
        build(values["data"], "data")
    if command == "classifier":
        check_parts(values, (), CLASSIFIER)
    for key in PARTS:
        if command in ("train", "classifier", "compare", "evaluate", "evaluate_selftest") and values.get(key):
            build(values[key], key)
    if command in ("sample", "evaluate"):
        build(without_path(values["sampler"])[0], "sampler", run=None)
    if command in ("sample", "evaluate"):
        build(values["guidance_method"], "guidance_method")
    if command == "tune":
        build({TARGET: f"{tune.__name__}.TuneArguments", **values["tune"]}, "tune")
        build({TARGET: f"{tune.__name__}.Steps", **values["sampler"]}, "sampler")
    if command == "ema":
        exponent(values["length"])


PARTS = ("trainer", "loss", "samplers", "metrics", "reference", "problem", "logger")


def is_number(value: Any, default: str) -> bool:
    items = value if isinstance(value, list) and value else [value]
    written = re.fullmatch(r"[-+.\deE]+", default) is not None
    return written or all(isinstance(v, int | float) and not isinstance(v, bool) for v in items)


def refusals(command: str, typed: list[str]):
    """(key, value, message) of each number of a configuration; None for a value that is accepted."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = OmegaConf.to_container(compose(command, typed), resolve=True)
    for key in keys(command, typed):
        if is_number(get(cfg, key.name), key.default):
            for value in (-1, 0, 1e308):
                changed = copy.deepcopy(cfg)
                put(changed, key.name, value)
                try:
                    check(command, changed)
                except InputError as error:
                    yield key.name, value, str(error)
                else:
                    yield key.name, value, None


@pytest.mark.parametrize(("command", "typed"), [(c, t) for c, all_typed in TYPED.items() for t in all_typed])
def test_each_number_is_refused_by_its_key_or_accepted_for_a_reason(command, typed):
    found = list(refusals(command, typed))
    assert len(found) >= 3
    for key, value, message in found:
        if message is None:
            reasons = rf"(.*\.)?({ACCEPTED[value]})"
            assert re.fullmatch(reasons, key), f"{key}={value} is accepted"
        else:
            assert re.match(rf"{re.escape(key)}: |{re.escape(key.rpartition('.')[2])}: ", message), message
            assert "\n" not in message
            assert repr(value) in message or repr(float(value)) in message, message


def test_every_command_is_here():
    assert TYPED.keys() == all_commands().keys() - {"collect", "list", "status"}  # which have none
    assert sum(len(list(refusals(c, t[0]))) for c, t in TYPED.items()) > 200
