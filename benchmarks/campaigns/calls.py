"""Calls of `scoresde` in children of this process: status, lines, CPU time, memory, and what they changed on disk."""

import contextlib
import importlib
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from trials import forked

from scoresde.cli.main import main

SECONDS, MEGABYTES = 3.0, 500.0
_RUN = ["train", "debug=tiny", "experiment=moons", "data.n=60", "model.net.width=8", "model.net.blocks=1", "n=6"]
START = {  # of each command: settings with which it would work, in a folder made by `prepared`
    "train": ["logger=none", "debug=tiny", "data=moons", "model=mlp"],
    "sample": ["run=run", "n=2"],
    "evaluate": ["run=run", "n=20", "logger=none"],
    "evaluate_selftest": ["data=moons", "n=20", "repeats=2"],
    "compare": ["problem=mixture_2d", "n=20", "seeds=2", "logger=none"],
    "collect": ["folder=."],
    "status": ["folder=run"],
    "list": ["folder=."],
    "tune": ["run=run"],
    "doctor": ["data=moons"],
    "ema": ["run=run", "length=0.1"],
    "convert": ["file=t.npz", "out=new"],
    "classifier": ["run=run", "logger=none", "trainer.steps=2"],
}
READERS = {  # of files of a run folder, which the command gets as its last word
    "summary.json": ["compare", "logger=none", "problem=null", "folder="],
    "results.json": ["compare", "logger=none", "problem=null", "folder="],
    "tuned/steps-5.json": ["sample", "solver=tuned", "sampler.steps=5", "run="],
    "checkpoints/best.json": ["sample", "checkpoint=best", "run="],
}


class Answer(NamedTuple):
    """What became of a call.

    Attributes:
        code: exit status; negative after a signal, such as that of a limit on CPU time or on time.
        lines: printed on both streams.
        seconds: CPU time.
        changed: names of files and folders below the working directory that were made, changed or removed.
    """

    code: int
    lines: list[str]
    seconds: float
    changed: list[str]

    @property
    def said(self) -> str:
        return "\n".join(self.lines)


def tests(name: str) -> ModuleType:
    """A module of tests/, for the lists that are there."""
    folder = str(Path(__file__).parents[2] / "tests")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


@contextlib.contextmanager
def prepared(place: Path) -> Iterator[None]:
    """A working directory with a finished run `run` and a table `t.npy`; temporary files and caches stay there too."""
    (place / "tmp").mkdir(parents=True)
    aside = dict.fromkeys(("TMPDIR", "SCORESDE_CACHE", "HF_HOME", "XDG_CACHE_HOME"), str(place / "tmp"))
    aside["WANDB_MODE"] = "disabled"
    before = {name: os.environ.get(name) for name in aside}
    os.environ.update(aside)
    tempfile.tempdir = None
    with contextlib.chdir(place):
        table = np.random.default_rng(0).normal(size=(60, 2))
        np.save("t.npy", table)
        np.savez("t.npz", a=table)
        with Path(os.devnull).open("w") as quiet, contextlib.redirect_stdout(quiet):
            assert main([*_RUN, "logger=none", "run=run"]) == 0
        yield
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
    tempfile.tempdir = None


def copied(name: str) -> Path:
    """A copy of the run, of this name, which may be changed."""
    return Path(shutil.copytree("run", name))


def typed(command: str, *words: str) -> list[str]:
    """A call that is right without its last words."""
    own = {word.partition("=")[0] for word in words}
    if "run" in own and "run=run" not in START[command]:  # it has its own data and network
        own |= {"data", "model", "debug", "problem"}
    return [command, *(word for word in START[command] if word.partition("=")[0] not in own), *words]


def answer(words: list[str], about: Callable[[], object] = lambda: None) -> Answer:
    """Call `scoresde` with these words in a child; `about` is called there first."""

    def act() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        about()
        if code := main(words):
            sys.stdout.flush()
            os._exit(code)

    before, begun = _files(), _cpu()
    code, said = forked(act)
    after = _files()
    changed = sorted(name for name in {**before, **after} if before.get(name) != after.get(name))
    return Answer(code, said.splitlines(), _cpu() - begun, changed)


def peak() -> float:
    """Of all children so far, the most memory that one held, in MB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _files() -> dict[str, Any]:
    """Everything below the working directory; of files the size and the time of the last change."""
    found: dict[str, Any] = {}
    for folder, folders, names in os.walk("."):
        found |= {str(Path(folder, name)): None for name in folders}
        for name in names:
            path = Path(folder, name)
            about = path.lstat()
            found[str(path)] = about.st_size, about.st_mtime_ns
    return found
