"""What a command is: one row, from which its help, its keys, its checks and its place in the overview follow."""

import dataclasses
import importlib
import pkgutil
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from scoresde.build import did_you_mean
from scoresde.cli.keys import keys, listing
from scoresde.cli.settings import Settings
from scoresde.errors import InputError
from scoresde.named import config_folder, options

_FLAGS = """\
flags:
  -m, --multirun   run all combinations of values separated by commas, such as seed=0,1; the same again goes on with
                   what is not finished, sweep=FOLDER names the sweep, and sweep=new begins another
  --cfg job        print the configuration and stop
"""


@dataclass(frozen=True)
class Command:
    """A subcommand; its configuration is conf/<name>.yaml.

    Args:
        module: `__name__` of the module in `scoresde.cli.commands`; its last part is the name.
        doc: `__doc__` of that module, its help: the summary in one line, the usage, and examples, of which the first
            two are also in the overview.
        settings: class of the single values at the top of the configuration.
        groups: the other keys there.
        work: called as `work(settings, cfg)` with the configuration as plain values; returns the number that a sweeper
            should minimise, or None.
        rank: place in the overview.
        keeps: whether there are results on disk, so that a sweep has a folder in runs/ and can be gone on with.
        trains: whether it is a training, which saves itself when it is stopped, and has `trainer.devices`.
    """

    module: str
    doc: str | None
    settings: type[Settings]
    groups: Sequence[str]
    work: Callable[[Any, dict[str, Any]], float | None]
    rank: int
    keeps: bool = False
    trains: bool = False

    @property
    def name(self) -> str:
        """That of its module and its configuration."""
        return self.module.rpartition(".")[2]

    @property
    def words(self) -> str:
        """What is typed after `scoresde`: `evaluate selftest` of the module evaluate_selftest."""
        return self.name.replace("_", " ")

    @property
    def text(self) -> str:
        """The help; empty under `python -OO`, which keeps no documentation."""
        return self.doc or ""

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        line = self.text.partition("\n")[0].rstrip(".")
        return line[:1].lower() + line[1:]

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys at the top of the configuration."""
        return (*(f.name for f in dataclasses.fields(self.settings)), *self.groups)

    @property
    def examples(self) -> list[str]:
        """The lines of the help that show a call."""
        return re.findall(rf"^  (scoresde {self.words} .*|scoresde {self.words})$", self.text, re.MULTILINE)

    def help(self, typed: Sequence[str] = ()) -> str:
        """What `scoresde <words> --help` prints; with the keys of the options that are typed, such as `sde=ve`."""
        usage, _, examples = self.text.partition("\n")[2].strip().partition("examples")
        wrapped = textwrap.TextWrapper(120, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
        groups = [wrapped.fill(f"{group}: {', '.join(options(group))}") for group in self._groups()]
        listed = "groups, for group=option:\n{}\n\n".format("\n".join(groups)) if groups else ""
        settings = f"keys, for key=value, with their defaults:\n{listing(keys(self.name, typed))}"
        parts = (f"scoresde {self.words}: {self.summary}", f"{usage}{listed}examples{examples}", settings, _FLAGS)
        return "\n\n".join(parts)

    @property
    def choices(self) -> list[str]:
        """What stands before `=option`: a group, or one with its place, such as `solver@samplers.dopri5.solver`."""
        defaults = (config_folder() / f"{self.name}.yaml").read_text(encoding="utf-8").partition("\n\n")[0]
        return re.findall(r"^  - (\w+(?:@[\w.]+)?):", defaults, re.MULTILINE)

    def _groups(self) -> list[str]:
        """The groups from which options can be chosen."""
        in_lists = ["solver"] if "solvers" in self.keys else []
        return sorted({choice.partition("@")[0] for choice in self.choices}.union(in_lists))


def all_commands() -> dict[str, Command]:
    """Every command by its name, in the order of the overview."""
    from scoresde.cli import commands

    modules = [module.name for module in pkgutil.iter_modules(commands.__path__, f"{commands.__name__}.")]
    rows: list[Command] = [importlib.import_module(module).COMMAND for module in modules]
    return {row.name: row for row in sorted(rows, key=attrgetter("rank"))}


def named(arguments: Sequence[str]) -> list[str]:
    """The arguments with the name of the command in one word, where it was typed in two: `evaluate selftest`."""
    name = "_".join(arguments[:2])
    return [name, *arguments[2:]] if len(arguments) > 1 and name in all_commands() else list(arguments)


def command(name: str) -> Command:
    """The command of this name.

    Raises:
        InputError: there is none; names the nearest.
    """
    known = all_commands()
    if name not in known:
        near = did_you_mean(name, known, "scoresde ")
        raise InputError(f"{name}: no such command{near} (commands: {', '.join(row.words for row in known.values())})")
    return known[name]


def overview() -> str:
    """What `scoresde --help` prints."""
    rows = all_commands().values()
    width = max(len(c.words) for c in rows) + 2
    lines = [f"  {c.words:<{width}}{c.summary}" for c in rows]
    examples = [_aligned(line) for c in rows for line in c.examples[:2]]
    return _OVERVIEW.format(commands="\n".join(lines), examples="\n".join(examples))


def _aligned(example: str) -> str:
    call, *words = re.split(r"  +", example)
    return f"  {call:<63}{''.join(words)}".rstrip()


_OVERVIEW = """\
scoresde: score-based generative modelling with stochastic differential equations

usage: scoresde COMMAND [key=value ...]

commands:
{commands}

examples, where RUN is a folder made by scoresde train:
{examples}

  scoresde COMMAND --help    what can be set, with ten examples
  scoresde completion bash   completion at TAB: source <(scoresde completion bash); also zsh and fish
  scoresde --version
"""
