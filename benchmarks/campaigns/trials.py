"""Tiny trainings of several kinds, each in a process of its own, and what they leave in their folder."""

import csv
import json
import os
import random
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

import scoresde
from scoresde import Sampler, figures, runs
from scoresde.data import Dataset, ImageFolder, Transform
from scoresde.loss import DenoisingScoreMatching
from scoresde.nets import ResidualMLP
from scoresde.parallel import world
from scoresde.parallel.shared import Lost
from scoresde.sampling import Heun
from scoresde.training import Muon, Trainer, heldout

STEPS = 6
POINTS = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
CLOCKS = {"time", "steps_per_second", "samples_per_second", "seconds", "training_seconds", "record", "date"}
CLOCKS |= {"memory", "evaluations"}  # the latter of a tuning, which makes no pilot if one is there
_MEASURED = ("seconds", "memory")
_LAUNCHER = 20.0  # seconds after which the launcher of several processes ends what is left of them, at the latest
EDM: dict[str, Any] = {
    "condition": {"class": "class", "augment": "vector"}, "condition_size": {"class": 3, "augment": 9},
    "condition_dropout": {"class": 0.2, "augment": 0.0},
}  # fmt: skip


def images() -> Dataset:
    """Noise with classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 4, 4), dtype=np.uint8)
    transform = Transform.of_levels((1, 4, 4))
    train, held = transform.encode(pixels[8:]), transform.encode(pixels[:8])
    return Dataset(train, held, transform, *({"class": torch.arange(len(x)) % 3} for x in (train, held)))


def photos(place: Path) -> ImageFolder:
    """A folder of images, kept decoded on the disk and read from there in each step."""
    folder = place.parent / "photos"
    if not folder.exists():
        folder.mkdir()
        for k, pixels in enumerate(np.random.default_rng(1).integers(0, 256, (24, 4, 4), dtype=np.uint8)):
            Image.fromarray(pixels).save(folder / f"{k}.png")
    return ImageFolder(str(folder), mode="grey", cache=str(place / "cache"))


def _net(event: tuple[int, ...], **settings: Any) -> ResidualMLP:
    torch.manual_seed(3)
    return ResidualMLP(event, width=4, blocks=1, **settings)


KINDS: dict[str, Callable[[Path], tuple[Any, dict[str, Any], dict[str, Any]]]] = {  # data, arguments, of the trainer
    "plain": lambda place: (POINTS, {}, {}),
    "dropout, micro-batches": lambda place: (POINTS, {"model": _net((2,), dropout=0.3)}, {"micro_batch": 2}),
    "importance sampling": lambda place: (POINTS, {"loss": DenoisingScoreMatching(importance=True)}, {}),
    "averages, snapshots": lambda place: (
        POINTS, {}, {"ema": (0.9, 0.99), "ema_power": (0.05, 0.1), "snapshot_every": 2},
    ),
    "muon": lambda place: (POINTS, {"optimizer": lambda parameters: Muon(parameters)}, {}),
    "bf16": lambda place: (POINTS, {}, {"precision": "bf16"}),
    "classes, augmentation": lambda place: (images(), {"model": _net((1, 4, 4), **EDM)}, {"augment": 0.3}),
    "data on the disk": lambda place: (photos(place), {"model": _net((1, 4, 4))}, {}),
    "two processes": lambda place: (POINTS, {"model": _net((2,), dropout=0.3)}, {"micro_batch": 2}),
}  # fmt: skip
TOGETHER = {"two processes"}


@contextmanager
def pair() -> Iterator[None]:
    """Fork this process: both do what is within the block, as the two of torch.distributed; the second ends there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    second = os.fork()
    os.environ.update(RANK=str(int(not second)), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    world.cache_clear()
    try:
        yield
        world().leave()
    except BaseException:
        world().leave(failed=True)
        if second:
            raise
    finally:
        if not second:
            os._exit(0)
    os.waitpid(second, 0)


def call(kind: str, place: Path) -> None:
    """A training of this kind, by as many processes as it takes; in a process that then ends."""
    with pair() if kind in TOGETHER else nullcontext():
        train(kind, place)


def train(kind: str, place: Path, **changes: Any) -> None:
    """A training of a few steps in `place`/run, or the rest of it; `changes` are settings of the trainer."""
    data, arguments, settings = KINDS[kind](place)
    settings = {
        "steps": STEPS, "batch_size": 8, "warmup": 2, "log_every": 2, "evaluate_every": 3, "checkpoint_every": 2,
        "picture_every": 3, "keep_last": 2, "auto_check": 0, **settings, **changes,
    }  # fmt: skip
    arguments = {"model": _net((2,)), "metrics": {}, "samplers": {"heun": Sampler(Heun(), steps=2)}, **arguments}
    scoresde.train(data, trainer=Trainer(**settings), n=8, run=place / "run", device="cpu", **arguments)


@contextmanager
def cheap() -> Iterator[None]:
    """Without what takes most of the time: the wait for the disk, matplotlib, many batches; small data lie on it.

    A SIGKILL takes nothing from a file that was not flushed, as a loss of power would.
    """

    def picture(x: Any, transform: Any, path: Path, *more: Any, title: str = "", **about: Any) -> None:
        runs.write_text(path, f"{x.double().sum():.6f} {title} {more[1:]} {about}")

    def score_field(levels: Any, transform: Any, path: Path, *more: Any) -> None:
        runs.write_text(path, "score")

    def savefig(figure: Figure, path: Any, **more: Any) -> None:
        path.write(b"figure") if hasattr(path, "write") else Path(path).write_text("figure")

    with (
        mock.patch.object(os, "fsync"),
        mock.patch.object(figures, "picture", picture),
        mock.patch.object(figures, "score_field", score_field),
        mock.patch.object(Figure, "savefig", savefig),
        mock.patch.object(heldout, "_BATCHES", 1),
        mock.patch("scoresde.data.dataset._IN_MEMORY", 1000),
    ):
        yield


def forked(act: Callable[[], object], killed_after: float | None = None) -> tuple[int, str]:
    """Call a function in a child process, which shares what is imported; its exit status and what it printed.

    The status is that of `scoresde`: 2 after an InputError and where another process is lost, 1 after any other error,
    -9 after a SIGKILL.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        tqdm.set_lock(threading.RLock())  # the usual one is shared, and a killed child may hold it
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        sys.stdout = sys.stderr = os.fdopen(writing, "w")
        code = 1
        try:
            act()
            code = 0
        except (scoresde.InputError, Lost) as error:
            print(error, file=sys.stderr)
            code = 2
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    launcher = threading.Timer(_LAUNCHER, _kill, [[]])
    if killed_after is not None:
        time.sleep(killed_after)
        both = _pair(child)
        victims = random.Random(killed_after).choice([both[:1], both[1:], both]) if both[1:] else both
        _kill(victims)
        launcher = threading.Timer(_LAUNCHER, _kill, [[process for process in both if process not in victims]])
        launcher.start()
    with os.fdopen(reading, errors="replace") as stream:
        said = stream.read()
    launcher.cancel()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def _pair(child: int) -> list[int]:
    """A process, and one that it has started and waits for, if there is one."""
    with suppress(OSError):
        return [child, *map(int, Path(f"/proc/{child}/task/{child}/children").read_text().split())]
    return [child]


def _kill(processes: list[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)  # no other process has its number before it is waited for


def timeless(value: Any) -> Any:
    """Without what a clock has measured."""
    if isinstance(value, Mapping):
        return {k: timeless(v) for k, v in value.items() if k not in CLOCKS}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def content(place: Path) -> dict[str, Any]:
    """Everything in a folder and below, without what a clock has measured, times of files and their checksums."""
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        if not path.is_file():
            found[name] = "folder"
        elif path.name in ("manifest.json", ".lock"):  # of times, and of no content
            found[name] = "there"
        else:
            whole = path.read_bytes()
            if path.name == "config.yaml":
                whole = whole[whole.startswith(b"# SHA-256") and whole.index(b"\n") :]
            found[name] = _content(whole.replace(str(place).encode(), b"PLACE"), path.suffix)
    return found


def _content(whole: bytes, kind: str) -> Any:
    if kind == ".csv":
        rows = list(csv.reader(whole.decode().splitlines()))
        columns = [k for k, name in enumerate(rows[0]) if not name.startswith(_MEASURED)]
        return [[row[k] for k in columns] for row in rows]
    if kind == ".html":  # of what is in the other files, and of times
        return b"there"
    if kind in (".json", ".jsonl"):
        with suppress(ValueError):  # it is damaged
            lines = whole.splitlines() if kind == ".jsonl" else [whole]
            return [timeless(json.loads(line, parse_constant=_never)) for line in lines]
    return whole


def _never(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The names of what differs, in one line; empty if nothing does."""
    return ", ".join(sorted(k for k in {**one, **other} if one.get(k, "") != other.get(k, "")))
