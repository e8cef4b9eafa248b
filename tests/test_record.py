"""The folder of a run: killed at any write, it ends as an undisturbed one; a disk that refuses a write is one line."""

import errno
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import scoresde
from scoresde import InputError, Sampler, figures, runs
from scoresde.nets import ResidualMLP
from scoresde.sampling import Heun
from scoresde.training import Trainer, heldout

STEPS = 6
MORE = {"steps": 10, "restart": 6}
EVERY = int(os.environ.get("SCORESDE_EVERY_WRITE", "3"))  # of these tests: 1 tries every write


class Killed(BaseException):
    """In place of SIGKILL: nothing is written from then on, not even by what cleans up."""


class Watch:
    """Sees every change of a folder that Python makes, by the audit events of the interpreter."""

    place: Path | None = None
    count = 0
    at: float = math.inf  # the change before which `act` is called, and before each later one
    act: Callable[[str, Path], object] = staticmethod(lambda event, path: None)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.place is None or event not in _CHANGES or isinstance(arguments[0], int):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        path = Path(os.fsdecode(arguments[0]))
        if self.place in path.parents and path.name != ".lock":
            self.count += 1
            if self.count >= self.at:
                self.act(event, path)


_CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"}
WATCH = Watch()
sys.addaudithook(WATCH)


@contextmanager
def watched(place: Path, at: float = math.inf, act: Callable[[str, Path], object] | None = None) -> Iterator[Watch]:
    WATCH.count, WATCH.at, WATCH.act = 0, at, act or Watch.act
    WATCH.place = place
    try:
        yield WATCH
    finally:
        WATCH.place = None


def kill(event: str, path: Path) -> None:
    raise Killed(f"{event} {path.name}")


@pytest.fixture(scope="module", autouse=True)
def cheap() -> Iterator[None]:
    """Without what takes most of the time: the wait for the disk, evaluation on many batches, matplotlib."""

    def picture(x: Any, transform: Any, path: Path, *more: Any, title: str = "") -> None:
        runs.write_text(path, f"{x.double().sum():.6f} {title} {more[1:]}")

    def score_field(levels: Any, transform: Any, path: Path, *more: Any) -> None:
        runs.write_text(path, "score")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(heldout, "_BATCHES", 1)
        patch.setattr(figures, "picture", picture)
        patch.setattr(figures, "score_field", score_field)
        yield


DATA = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))


def train(run: Path, steps: int = STEPS, **changes: Any) -> Any:
    torch.manual_seed(3)
    net = ResidualMLP((2,), width=4, blocks=1)
    settings = {"log_every": 2, "evaluate_every": 3, "checkpoint_every": 2, "picture_every": 3, "keep_last": 2}
    settings["auto_check"] = 0
    trainer = Trainer(steps=steps, batch_size=8, warmup=2, **{**settings, **changes})
    samplers = {"heun": Sampler(Heun(), steps=2)}
    return scoresde.train(DATA, model=net, trainer=trainer, metrics={}, samplers=samplers, n=8, run=run, device="cpu")


CLOCKS = {"time", "steps_per_second", "samples_per_second", "seconds", "training_seconds"}


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in CLOCKS}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def strict(text: str) -> Any:
    def never(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=never)


def content(run: Path) -> dict[str, Any]:
    """Everything in the folder of a run, without what a clock has measured; all JSON is strict."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.suffix == ".json" and path.name != "manifest.json":
            found[name] = timeless(strict(path.read_text()))
        elif path.suffix == ".jsonl":
            found[name] = [timeless(strict(line)) for line in path.read_text().splitlines()]
        elif path.is_file() and path.name not in (".lock", "manifest.json"):
            found[name] = path.read_bytes()
    found["summary.json"]["results"]["title"] = ""  # the path
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cheap: None) -> tuple[dict[str, Any], int]:
    """What an undisturbed training leaves, and how many changes of its folder it takes."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with watched(run.parent) as seen:
        train(run)
    return content(run), seen.count


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, cheap: None) -> tuple[Path, dict[str, Any], int]:
    """A finished run; what it is after more steps, with a warm restart; and how many changes these take."""
    place = tmp_path_factory.mktemp("extended")
    train(place / "finished")
    run = Path(shutil.copytree(place / "finished", place / "more" / "run"))
    with watched(run.parent) as seen:
        train(run, **MORE)
    return place / "finished", content(run), seen.count


def test_killed_at_any_write_it_ends_as_an_undisturbed_run(whole: tuple[dict[str, Any], int], tmp_path: Path) -> None:
    expected, count = whole
    assert count > 80
    for k in range(1, count + 1, EVERY):
        run = tmp_path / str(k) / "run"
        run.parent.mkdir()
        with pytest.raises(Killed) as killed, watched(run.parent, k, kill):
            train(run)
        train(run)
        assert content(run) == expected, f"change {k}: {killed.value}"


def test_killed_at_any_write_of_a_resume_with_other_settings(
    extended: tuple[Path, dict[str, Any], int], tmp_path: Path
) -> None:
    finished, expected, count = extended
    for k in range(1, count + 1, EVERY):
        run = Path(shutil.copytree(finished, tmp_path / str(k) / "run"))
        with pytest.raises(Killed) as killed, watched(run.parent, k, kill):
            train(run, **MORE)
        train(run, **MORE)
        assert content(run) == expected, f"change {k}: {killed.value}"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_refuses_any_write_is_one_line_and_the_training_can_go_on(
    whole: tuple[dict[str, Any], int], tmp_path: Path, number: int
) -> None:
    expected, count = whole
    refused: list[Path] = []

    def refuse(event: str, path: Path) -> None:
        if event not in ("os.remove", "os.rmdir"):
            refused.append(path)
            raise OSError(number, os.strerror(number), str(path))

    for k in range(1 + number % 3, count + 1, 3 * EVERY):
        run = tmp_path / str(k) / "run"
        run.parent.mkdir()
        refused.clear()
        try:
            with watched(run.parent, k, refuse):
                train(run)
            assert not refused, f"change {k}: {refused[0]} is not written, without a word"
            continue
        except InputError as error:
            line = str(error)
        assert os.strerror(number) in line
        assert str(run) in line
        assert "\n" not in line
        assert not [p for p in run.rglob(".*") if p.name != ".lock"], f"change {k}"
        train(run)
        assert content(run) == expected, f"change {k}: {line}"


def test_what_a_killed_program_left_is_removed_by_the_next(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "wandb" / "cache").mkdir(parents=True)
    (run / "wandb" / "kept").mkdir()
    (run / "wandb" / "kept" / "file").write_text("")
    (run / "torchinductor_me" / "x").mkdir(parents=True)
    (run / ".config.yaml.4194399").write_text("half")
    (run / ".summary.json.4194399").write_text("half")
    with runs.locked(run):
        left = sorted(str(p.relative_to(run)) for p in run.rglob("*"))
    assert left == [".lock", "wandb", "wandb/kept", "wandb/kept/file"]
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".config.yaml.4194399").write_text("half")
    assert not runs.holds_run(tmp_path / "new")


def test_deterministic_algorithms_are_asked_for_while_training(tmp_path: Path) -> None:
    seen: list[bool] = []

    def note(progress: Any) -> None:
        seen.append(torch.are_deterministic_algorithms_enabled())

    for wanted in (False, True):
        trainer = Trainer(steps=2, batch_size=4, deterministic=wanted)
        scoresde.train(DATA, trainer=trainer, metrics={}, n=4, run=tmp_path / str(wanted), callbacks=[(1, note)])
    assert seen == [False, False, True, True]
    assert not torch.are_deterministic_algorithms_enabled()
