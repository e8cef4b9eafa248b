"""The folder of a run: killed at any write, it ends as an undisturbed one; a disk that refuses a write is one line."""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import scoresde
from scoresde import InputError, runs
from scoresde.training import Trainer

sys.path.append(str(Path(__file__).parents[1] / "benchmarks" / "campaigns"))
import trials
from trials import POINTS, cheap, content
from watch import watched

MORE = {"steps": 10, "restart": 6}
EVERY = int(os.environ.get("SCORESDE_EVERY_WRITE", "3"))  # of these tests: 1 tries every write


class Killed(BaseException):
    """In place of SIGKILL: nothing is written from then on, not even by what cleans up."""


def kill(event: str, path: Path) -> None:
    raise Killed(f"{event} {path.name}")


@pytest.fixture(scope="module", autouse=True)
def _cheap() -> Iterator[None]:
    with cheap():
        yield


def train(run: Path, **changes: Any) -> None:
    trials.train("plain", run.parent, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, _cheap: None) -> tuple[dict[str, Any], int]:
    """What an undisturbed training leaves, and how many changes of its folder it takes."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with watched(run.parent) as seen:
        train(run)
    return content(run), seen.count


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, _cheap: None) -> tuple[Path, dict[str, Any], int]:
    """A finished run; what it is after more steps, with a warm restart; and how many changes these take."""
    place = tmp_path_factory.mktemp("extended")
    finished = place / "finished" / "run"
    finished.parent.mkdir()
    train(finished)
    run = Path(shutil.copytree(finished, place / "more" / "run"))
    with watched(run.parent) as seen:
        train(run, **MORE)
    return finished, content(run), seen.count


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
        scoresde.train(POINTS, trainer=trainer, metrics={}, n=4, run=tmp_path / str(wanted), callbacks=[(1, note)])
    assert seen == [False, False, True, True]
    assert not torch.are_deterministic_algorithms_enabled()
