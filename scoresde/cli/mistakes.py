"""One line for each mistake that Hydra finds in the command line: what was typed, and the nearest right thing."""

import difflib
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scoresde.build import did_you_mean
from scoresde.cli.arguments import PLACE
from scoresde.cli.command import all_commands
from scoresde.named import options as presets
from scoresde.runs.folder import quoted
from scoresde.vocabulary import meant_key, meant_option

_CHOICE = re.compile(r"(?![+~])[^.,=]+=[^,]*")  # an option of a group or a value at the top, and no sweep
_NAMED = re.compile(r"(samplers|metrics)\.\w+")  # what the user names


def explain(error: Exception, command: str, folder: Path, typed: Sequence[str]) -> str | None:
    """The line for an error of Hydra or OmegaConf; None for a fault of the program.

    Args:
        error: what was raised.
        command: the subcommand, which is also the name of its configuration.
        folder: where the YAML files are.
        typed: the settings.
    """
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not a setting; write key=value, such as seed=1, and quote texts with ,{{}}[] in them"
    if isinstance(error, MissingConfigException) and "/" in str(error.missing_cfg_file):
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        own, extra = group.removeprefix("hydra/"), option.partition("_")[0]
        if own != group and extra in presets(own):  # a launcher or a sweeper whose plugin is missing
            return f'{own}={extra}: its plugin is not installed; pip install "scoresde[{extra}]"'
        options = sorted(error.options or presets(group.rpartition("/")[2]))
        near = meant_option(group.rpartition("/")[2], option, options) or did_you_mean(option, options)
        return f"{group}={option}: {group} has no option {option}{near} (options: {', '.join(options)})"
    if isinstance(error, ConfigCompositionException):
        return _explain_composition(error, command, folder, typed)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return " ".join(str(error).split())
    if isinstance(error, ValueError | TypeError | AssertionError) and _raised_by_hydra(error):
        return f"{' '.join(typed)}: {' '.join(str(error).split())}"
    return None


def _raised_by_hydra(error: BaseException) -> bool:
    """Such as `metrics=null`, for which Hydra has no exception of its own."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1].split(".")[0] in ("hydra", "omegaconf")


def _explain_composition(error: Exception, command: str, folder: Path, typed: Sequence[str]) -> str:
    text = " ".join(str(error).split())
    if ambiguous := re.match(r"Ambiguous value for argument '(.*?)'", text):
        return f"{ambiguous[1]}: several values; add -m to run each of them, or {_single(ambiguous[1])}"
    if unknown := re.match(r"(?:Could not override|Could not delete from config\.) '(.*?)'", text):
        key = unknown[1].split("=")[0]
        inner = re.search(rf"full_key: ({re.escape(key)}\.\S+)", str(error.__cause__))  # such as sde={betamin:1}
        key = inner[1] if inner else key
        if _NAMED.fullmatch(key):
            return f"{key}: not in the configuration; to add it write +{key}=..."
        groups, keys = _known(command, folder, typed)
        own = [group.rpartition("@")[2] for group, option in groups.items() if "custom" in str(option)]
        if any(key.startswith((f"{place}.", f"sampler.{place}.")) for place in own):
            return f"{key}: not in the configuration; to give your own class an argument write +{key}=..."
        known = [*groups, *keys]
        where = meant_key(key, known) or _inside(key, known) or _elsewhere(key, command) or _nearest(key, known)
        return f"{key}: no such key{where or f'; scoresde {command} --help lists all there are'}"
    if merged := re.fullmatch(r"Error merging override (.*?)=(.*)", text):
        return f"{merged[1]}: {merged[2]} is not of its kind; see scoresde {command.replace('_', ' ')} --help"
    return text


def _single(setting: str) -> str:
    """How to write one value with commas in it."""
    key, _, value = setting.partition("=")
    single = f"write {key}=[{value}] for one list"
    if PLACE.fullmatch(key):
        single = f'for one name write "{key}={quoted(value)}"'
    return single + (f", or {key}={value.replace(',', '')}" if re.fullmatch(r"\d{1,3}(,\d{3})+", value) else "")


def _elsewhere(key: str, command: str) -> str:
    """The other commands that have such a key, if this one has none."""
    top = key.partition(".")[0]
    having = [name for name, row in all_commands().items() if top in row.keys]
    return f" here; it belongs to scoresde {', '.join(having)}" if having and command not in having else ""


def _known(command: str, folder: Path, typed: Sequence[str]) -> tuple[Mapping[str, str], list[str]]:
    """The chosen option of each group, and all keys of the configuration with the typed choices that compose."""
    with initialize_config_dir(str(folder), version_base="1.3"):
        chosen: list[str] = []
        cfg = None
        for setting in typed:
            if _CHOICE.fullmatch(setting):
                with suppress(HydraException):
                    cfg = compose(command, [*chosen, setting], return_hydra_config=True)
                    chosen.append(setting)
        cfg = compose(command, return_hydra_config=True) if cfg is None else cfg
        choices = cfg.hydra.runtime.choices
        groups = {key: option for key, option in choices.items() if not key.startswith("hydra/")}
        return groups, [key for key in _keys(OmegaConf.to_container(cfg)) if not f"{key}.".startswith("hydra.")]


def _keys(cfg: Any, path: str = "") -> Iterator[str]:
    """All dotted keys, inner ones too."""
    if isinstance(cfg, Mapping):
        for key, value in cfg.items():
            yield f"{path}{key}"
            yield from _keys(value, f"{path}{key}.")


def _inside(key: str, known: Sequence[str]) -> str:
    """The keys in other sections that have the same last part."""
    same = [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]]
    same = [k for k in same if k.count(".") == min(k.count(".") for k in same)]  # batch_size is that of the trainer
    same = difflib.get_close_matches(key, same, n=1, cutoff=0.85) or same
    return f"; did you mean {' or '.join(same[:3])}?" if same else ""


def _nearest(key: str, known: Sequence[str]) -> str:
    """The key of nearly that spelling as a whole, or one elsewhere whose last part is spelled nearly so."""
    if whole := did_you_mean(key, known):
        return whole
    parts = {k.rpartition(".")[2]: k for k in known}
    near = difflib.get_close_matches(key.rpartition(".")[2], parts, n=1)
    return "".join(f"; did you mean {parts[part]}?" for part in near)
