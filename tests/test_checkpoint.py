"""Checkpoints: what is saved is read, and nothing damaged is used."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from training_job import assert_same, fit, last, resume, rows

from scoresde import InputError
from scoresde.training import Best, stored
from scoresde.training import checkpoint as checkpoints
from scoresde.training.checkpoint import Checkpoint, at_step, damage, find, newest, prune, read, save, saved_steps

FILES = ["ema.safetensors", "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]


def small(step: int, fill: float = 0.0) -> Checkpoint:
    tensors = {"w": torch.full((3, 2), fill), "n": torch.tensor(step), "b": torch.ones(4, dtype=torch.bfloat16)}
    return Checkpoint(
        step, {"model": tensors, "ema": {"w": torch.zeros(1)}}, {"m/w": torch.ones(2)}, {"seed": 1, "x": 0.1}
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has disturbed; copy it, do not change it."""
    run = tmp_path_factory.mktemp("whole")
    fit(run, keep_last=100)
    return run


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


# ---- to disk and back ----


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    original = small(4)
    original.modules["model"] |= {"tied": shared, "knot": shared, "across": shared.T, "last": shared.to(torch.float64)}
    path = save(tmp_path, original)
    assert sorted(p.name for p in path.iterdir()) == FILES
    assert path == tmp_path / "checkpoints" / "step-00000004"
    back = read(path)
    assert back.step == back.state["step"] == 4
    assert {k: back.state[k] for k in original.state} == original.state
    for name, tensors in {**original.modules, "optimizer": original.optimizer}.items():
        found = back.optimizer if name == "optimizer" else back.modules[name]
        assert found.keys() == tensors.keys()
        for key, tensor in tensors.items():
            assert found[key].dtype == tensor.dtype
            assert torch.equal(found[key], tensor)


def test_all_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    rename, fsync = Path.rename, os.fsync

    def renamed(self: Path, target: Path) -> Path:
        events.append(f"rename {target.name}")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(os, "fsync", lambda n: (events.append(Path(f"/proc/self/fd/{n}").readlink().name), fsync(n)))
    save(tmp_path, small(4))
    *files, manifest, inside, named, outside = events
    assert sorted([*files, manifest]) == FILES
    assert (manifest, named, outside) == ("manifest.json", "rename step-00000004", "checkpoints")
    assert inside.startswith(".tmp-step-00000004")


def test_saving_again_replaces_and_leftovers_go(tmp_path: Path) -> None:
    save(tmp_path, small(4))
    leftover = checkpoints.folder(tmp_path) / ".tmp-step-00000009-1"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    save(tmp_path, small(4, fill=2.0))
    assert read(newest(tmp_path)).modules["model"]["w"][0, 0] == 2.0
    assert [p.name for p in checkpoints.folder(tmp_path).iterdir()] == ["step-00000004"]


def test_pruning_keeps_the_newest_and_the_chosen(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5):
        save(tmp_path, small(step))
    prune(tmp_path, 2, keep=(2,))
    assert saved_steps(tmp_path) == [2, 4, 5]
    prune(tmp_path, 100)
    assert saved_steps(tmp_path) == [2, 4, 5]


def test_the_state_tells_what_the_design_promises(trained: Path) -> None:
    state = last(trained).state
    assert {
        "schema",
        "step",
        "samples_seen",
        "seed",
        "code_version",
        "run_id",
        "ema_updates",
        "best",
        "data",
    } <= state.keys()
    assert (state["samples_seen"], state["seed"], state["ema_updates"]) == (60 * 32, 7, 60)
    assert json.loads((trained / "checkpoints" / "best.json").read_text()) == state["best"]


# ---- damage ----


def test_no_flipped_byte_goes_unseen(tmp_path: Path) -> None:
    path = save(tmp_path, small(4))
    chance = random.Random(0)
    for name in FILES:
        content = (path / name).read_bytes()
        for position in chance.sample(range(len(content)), min(60, len(content))):
            broken = bytearray(content)
            broken[position] ^= 1 << chance.randrange(8)
            (path / name).write_bytes(broken)
            # white space in the manifest is the one place where a flip can be without meaning
            harmless = name == "manifest.json" and _parsed(bytes(broken)) == json.loads(content)
            assert harmless or damage(path) is not None, (name, position)
        (path / name).write_bytes(content)
    assert damage(path) is None


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "flipped byte": lambda path: _flip(path / "ema.safetensors"),
    "truncated": lambda path: (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:-7]),
    "empty": lambda path: (path / "optimizer.safetensors").write_bytes(b""),
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "half a manifest": lambda path: (path / "manifest.json").write_text('{"model.safetensors": {"size"'),
    "empty manifest": lambda path: (path / "manifest.json").write_text("{}"),
    "file gone": lambda path: (path / "state.json").unlink(),
    "file added": lambda path: (path / "more.safetensors").write_bytes(b"x"),
    "empty folder": lambda path: [p.unlink() for p in path.iterdir()],
}


@pytest.mark.parametrize("how", DAMAGES)
def test_the_one_before_is_used_and_said_so(copy: Path, trained: Path, how: str, capsys: Any) -> None:
    DAMAGES[how](at_step(copy, 60))
    assert newest(copy) == at_step(copy, 50)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "step-00000060 is damaged: " in said
    assert said.endswith("; using step-00000050 instead\n")
    with pytest.raises(InputError, match="is damaged: "):
        read(at_step(copy, 60))
    resume(copy, keep_last=100)  # and the training ends where it would have
    assert_same(last(copy), last(trained))
    assert rows(copy) == rows(trained)
    assert newest(copy) == at_step(copy, 60)
    assert [p.name for p in checkpoints.folder(copy).glob("aside-*")] == ["aside-1-step-00000060"]
    capsys.readouterr()


def test_two_damaged_ones_are_both_reported(copy: Path, capsys: Any) -> None:
    for step in (50, 60):
        _flip(at_step(copy, step) / "model.safetensors")
    assert newest(copy) == at_step(copy, 48)
    assert capsys.readouterr().err.count("is damaged: model.safetensors has another SHA-256") == 2


def test_nothing_to_use_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"run: there is no checkpoint in {tmp_path}/checkpoints; give"):
        newest(tmp_path)
    for step in (1, 2):
        _flip(save(tmp_path, small(step)) / "ema.safetensors")
    with pytest.raises(
        InputError, match=rf"run: no checkpoint in {tmp_path}/checkpoints is intact: .*step-0+2.*step-0+1"
    ) as e:
        newest(tmp_path)
    assert "\n" not in str(e.value)


def test_a_checkpoint_of_a_later_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stored, "SCHEMA", 2)
        path = save(tmp_path, small(1))
    with pytest.raises(InputError, match=r"schema 2 but .* reads 1; use the version that wrote it"):
        read(path)


def test_find(tmp_path: Path) -> None:
    for step in (5, 10):
        save(tmp_path, small(step))
    checkpoints.record_best(tmp_path, Best(5, "m", 0.5))
    assert [find(tmp_path, which).name[-2:] for which in ("last", "best", "5", "10")] == ["10", "05", "05", "10"]
    for which in ("7", "first", "-5"):
        with pytest.raises(InputError, match=rf"checkpoint: {which} is not in .* one of last, best, 5, 10"):
            find(tmp_path, which)
    (checkpoints.folder(tmp_path) / "best.json").write_text("{")
    with pytest.raises(InputError, match=r"best.json cannot be read"):
        find(tmp_path, "best")
