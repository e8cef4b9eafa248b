"""The command line before Hydra sees it: flags are checked and parted from settings (`key=value`)."""

import itertools
import re
from collections.abc import Sequence

from scoresde.build import did_you_mean
from scoresde.errors import InputError, refuse
from scoresde.named import config_folder, options
from scoresde.runs.folder import quoted

# Hydra's flags and how many words follow them. Left out: --experimental-rerun, which loads a pickle.
_FLAGS = {
    **dict.fromkeys(("--help", "-h", "--hydra-help", "--resolve", "--run", "-r", "--multirun", "-m"), 0),
    **dict.fromkeys(("--cfg", "-c", "--package", "-p", "--config-dir", "-cd"), 1),
    **dict.fromkeys(("--info", "-i"), 1),
}
_SWEEP = {"--multirun", "-m"}

# Settings whose values are expressions in t, with parentheses that Hydra would take for a function of its own.
_EXPRESSION = re.compile(r"sde\.(?:drift|diffusion|alpha_of_t|sigma_of_t)")
_FILES = r"data\.(?:path|folder|cache)|observation\.(?:item|measured|mask|kernel|matrix)"
PLACE = re.compile(rf"run|guide|classifier|init|out|folder|file|samples|config|{_FILES}")  # settings that are paths
_WORDS = {"~": "null", "None": "null"} | dict.fromkeys(("yes", "on"), "true") | dict.fromkeys(("no", "off"), "false")
# Settings of Hydra for whoever writes a program with it: they name classes that it makes, or files that it writes.
_INNER = re.compile(r"[+~]*hydra\b(?![./](launcher|sweeper|sweep\.dir|job\.chdir)\b)|[+~]*hydra[./].*_target_")
_STAYS = "paths are seen from the working directory, which scoresde never leaves; leave this out"


def parted(command: str, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The flags with the words that belong to them, and the settings as Hydra reads what was meant.

    Flags may stand anywhere, so that `solver=heun,ddim -m sampler.steps=10,20` works as typed.

    Raises:
        InputError: there is no such flag; names the nearest right one.
    """
    flags: list[str] = []
    settings: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("-"):
            settings.append(_with_key(command, word, settings))
            continue
        name, equals, _ = word.partition("=")
        if name not in _FLAGS:
            near = did_you_mean(name, [flag for flag in _FLAGS if flag.startswith("--")])
            hint = near or f"; settings are written key=value, see scoresde {command} --help"
            raise InputError(f"{name}: no such flag{hint}")
        flags += [word, *itertools.islice(rest, 0 if equals else _FLAGS[name])]
    sweep = not _SWEEP.isdisjoint(flags)
    meant = (_meant(command, setting, sweep) for setting in settings)
    return flags, [setting for setting in meant if setting is not None]


def _with_key(command: str, word: str, before: Sequence[str]) -> str:
    """A setting; a word without a key is the folder that a command is about, as in `scoresde collect runs/SWEEP`."""
    if "=" in word or word.startswith("~"):
        return word
    about = re.search(r"^folder:", (config_folder() / f"{command}.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    refuse(about is not None and any(s.startswith("folder=") for s in before), f"{word}: one folder is given already")
    return f"folder={word}" if about else word


def _meant(command: str, setting: str, sweep: bool) -> str | None:
    """A setting in the grammar of Hydra: `run=a(b` as `run='a(b'`, `logger=null` as `logger=none`; None for none.

    Raises:
        InputError: the program cannot do what is asked.
    """
    key, equals, value = setting.partition("=")
    refuse(_INNER.match(setting) is not None, f"{key}: it is set by scoresde; leave it out")
    if not equals or re.fullmatch(r"(['\"]).*\1", value):
        return setting
    if not PLACE.fullmatch(key) or value in ("~", "None"):
        value = _WORDS.get(value, _WORDS.get(value.lower(), value))
    if value in ("null", "false") and (config_folder() / key).is_dir():
        return _without(command, key)
    if value and (config_folder() / key).is_dir() and not re.search(r"[a-z_\[{]", value, re.IGNORECASE):
        return f"{key}={quoted(value)}"  # a number, which is the name of no option
    solver = f"solvers=[{value}]" if command == "compare" else f"solver={value}"
    refuse(key == "sampler" and command != "train", f"{setting}: a sampler has several parts; write {solver}")
    refuse((key, value.lower()) == ("hydra.job.chdir", "true"), f"{setting}: {_STAYS}")
    return f"{key}={_in_grammar(key, value, sweep)}"


def _without(command: str, group: str) -> str | None:
    """The setting that chooses nothing of a group; None if that is the default."""
    defaults = (config_folder() / f"{command}.yaml").read_text(encoding="utf-8")
    if re.search(rf"^  - {group}: null\b", defaults, re.MULTILINE):
        return None
    if group == "metrics":
        return "metrics=[]"
    known = options(group)
    refuse("none" not in known, f"{group}=null: it cannot be left out; give one of {', '.join(known)}")
    return f"{group}=none"


def _in_grammar(key: str, value: str, sweep: bool) -> str:
    """A value, in quotes if Hydra would refuse it, or would read an expression or a path as something else."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    expression = bool(_EXPRESSION.fullmatch(key))
    text = (expression or PLACE.fullmatch(key) is not None) and value != "null" and "${" not in value
    try:
        read = OverridesParser.create().parse_override(f"{key}={value}")
        fits = not text or read.value() == value or (read.is_sweep_override() and (sweep or "," in value))
    except HydraException:
        fits = value[:1] in ("[", "{") and not text
    if fits:
        return value
    return ",".join(map(quoted, value.split(","))) if sweep or expression else quoted(value)
