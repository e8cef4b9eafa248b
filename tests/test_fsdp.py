"""Networks that are cut over processes train as one process does, and their checkpoints are read by any number."""

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_parallel import launch, train
from torch import Tensor, nn
from training_job import fit, last, model_and_optimizer, read, rows

from scoresde import VPSDE, InputError, ScoreModel
from scoresde.loss import DenoisingScoreMatching, ImplicitScoreMatching
from scoresde.parallel import world
from scoresde.training import Muon, Progress, TrainingDiverged
from scoresde.training.checkpoint import Checkpoint, at_step, damage, newest
from scoresde.training.fsdp import units
from scoresde.training.shards import Shards, local

ALL = "importance, averages, clipping"
COMPARED = {ALL: 100, "scaled gradients": 10, "buffers": 10, "classes, augmentation": 6}  # and for how many steps
STEPS = COMPARED[ALL]
LONG: dict[str, Any] = {"checkpoint_every": 50, "evaluate_every": 50, "log_every": 50, "micro_batch": 6}
SHORT: dict[str, Any] = {"schedule": "constant", "keep_last": 9}


class Reads(nn.Module):
    """A network that reads the weight of a layer without calling it, if it is asked to, and of two types."""

    def __init__(self, reading: bool = False, last: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.inner, self.reading = nn.ModuleList([nn.Linear(2, 2)]), reading
        self.out = nn.Linear(2, 2, dtype=last)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        x = nn.functional.linear(x, self.inner[0].weight) if self.reading else self.inner[0](x)
        return self.out(x.to(self.out.weight.dtype)).to(x.dtype)


def of(net: nn.Module) -> dict[str, Any]:
    model = ScoreModel(net, VPSDE(), sigma_data=1.0)
    return {"model": model, "optimizer": torch.optim.Adam(model.parameters())}


def muon() -> dict[str, Any]:
    model, _ = model_and_optimizer()
    return {"model": model, "optimizer": Muon(model.parameters())}


REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "compiled": (lambda: {"compile": True}, "trainer.compile=true; give compile=false"),
    "profiled": (lambda: {"profile": True}, "trainer.profile=true; give profile=false"),
    "channels last": (lambda: {"channels_last": True}, "trainer.channels_last=true; give channels_last=false"),
    "differentiating": (lambda: {"loss": ImplicitScoreMatching()}, "ImplicitScoreMatching, which diff.*; give exact"),
    "muon": (muon, "optimizer: Muon .*; give optimizer=adam"),
    "reading": (lambda: of(Reads(reading=True)), "without calling it; give exact"),
    "two types": (lambda: of(Reads(last=torch.float64)), "weights of float32 and float64; give exact"),
    "no share": (lambda: {"micro_batch": 24}, "trainer.micro_batch: 24 .*; give 12"),
}


def said(folder: Path, changes: dict[str, Any]) -> str:
    try:
        fit(folder, **{"strategy": "fsdp", "batch_size": 24, "micro_batch": 2, "steps": 2, **changes})
    except InputError as error:
        return str(error)
    return ""


def four(folder: Path) -> None:
    train(folder / "resumed", ALL, strategy="fsdp", **SHORT, steps=4)


def two(folder: Path) -> None:
    train(folder / "resumed", ALL, read(at_step(folder / "resumed", 4)), strategy="fsdp", **SHORT, steps=8)
    train(folder / "after", ALL, read(at_step(folder / "after", 8)), strategy="fsdp", **SHORT)
    for name, steps in COMPARED.items():
        train(folder / f"{name}, fsdp", name, strategy="fsdp", steps=steps, **LONG)
    lines = {name: said(folder / "refused", changes()) for name, (changes, _) in REFUSED.items()}
    (folder / f"said-{world().rank}").write_text(json.dumps(lines))
    held(folder)
    try:
        fit(folder / "broken", loss=Breaks(), strategy="fsdp", batch_size=8, micro_batch=4, steps=1)
    except TrainingDiverged as error:
        (folder / f"broken-{world().rank}").write_text(str(error))


class Breaks(DenoisingScoreMatching):
    """Makes a weight infinite that only the second process has."""

    def after_step(self, model: nn.Module, step: int) -> None:
        if world().rank == 1:
            local(model.net.inner.weight)[0] = torch.inf


class Counts(DenoisingScoreMatching):
    """Counts the numbers that this process holds of parameters and optimizer."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__()
        self.optimizer, self.held = optimizer, 0

    def after_step(self, model: nn.Module, step: int) -> None:
        states = [t for slots in self.optimizer.state.values() for t in slots.values() if t.ndim]
        self.held = sum(local(t).numel() for t in [*model.parameters(), *states])


def held(folder: Path) -> None:
    """What a process holds in a training, sees in a callback and has at the end."""
    seen: list[bool] = []
    model, optimizer = model_and_optimizer(width=64)
    before, loss = list(model.parameters()), Counts(optimizer)

    def look(p: Progress[Any]) -> None:
        seen.extend(type(t) is nn.Parameter and len(t) > 0 for m in (p.model, p.ema) for t in m.parameters())

    result = fit(
        folder / "held", None, model, optimizer, strategy="fsdp", batch_size=8, micro_batch=4, steps=2, loss=loss,
        callbacks=[(2, look)],
    )  # fmt: skip
    same = [p is q for p, q in zip(before, model.parameters(), strict=True)]
    same += [p is q for p, q in zip(before, optimizer.param_groups[0]["params"], strict=True)]
    tensors = {"model": model.state_dict(), "ema": result.ema.state_dict()}
    saved = last(folder / "held", 2).modules
    at_end = [torch.equal(t, saved[m][k]) for m, ts in tensors.items() for k, t in ts.items()]
    content = {"held": loss.held, "seen": seen, "same": same, "at end": at_end}
    (folder / f"held-{world().rank}").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings in exact mode on one process, and cut over four and over two."""
    top = tmp_path_factory.mktemp("fsdp")
    train(top / "exact", ALL, **SHORT)
    shutil.copytree(top / "exact", top / "after")
    shutil.rmtree(at_step(top / "after", 12))
    for name, steps in COMPARED.items():
        train(top / name, name, steps=steps, **LONG)
    assert launch(4, four, top) == [0] * 4
    assert launch(2, two, top) == [0] * 2
    return top


def difference(a: Checkpoint, b: Checkpoint, optimizer: bool = False) -> float:
    """The largest one in a tensor of two checkpoints, relative to the largest value of that tensor."""
    assert a.modules.keys() == b.modules.keys()
    found = 0.0
    pairs = [(a.modules[name], b.modules[name]) for name in a.modules]
    for one, other in [(a.optimizer, b.optimizer), *pairs] if optimizer else pairs:
        assert one.keys() == other.keys()
        for name in one:
            x, y = one[name].double(), other[name].double()
            found = max(found, float((x - y).abs().max() / x.abs().max().clamp(min=1e-30)))
    return found


@pytest.mark.parametrize("name", COMPARED)
def test_a_network_that_is_cut_trains_as_a_whole_one_but_for_rounding(folder: Path, name: str) -> None:
    exact, cut = (last(folder / run, COMPARED[name]) for run in (name, f"{name}, fsdp"))
    assert difference(exact, cut) < 1e-5
    assert exact.state["samples_seen"] == cut.state["samples_seen"]
    assert rows(folder / name)[-1] == pytest.approx(rows(folder / f"{name}, fsdp")[-1], rel=1e-5)


def test_a_training_resumes_on_another_number_of_processes_with_another_strategy(folder: Path) -> None:
    train(folder / "resumed", ALL, read(at_step(folder / "resumed", 8)), **SHORT)  # of four, two, and now one
    for name in ("resumed", "after"):
        assert difference(last(folder / "exact", 12), last(folder / name, 12), optimizer=True) < 1e-5
    fewer = [len(list(at_step(folder / "resumed", step).glob("model/*"))) for step in (4, 8, 12)]
    assert fewer == [4, 2, 0]
    assert not at_step(folder / "resumed", 12).joinpath("model").exists()


def test_each_process_holds_its_share_and_all_of_the_weights_at_the_end(folder: Path) -> None:
    of_each = [json.loads((folder / f"held-{rank}").read_text()) for rank in range(2)]
    model, _ = model_and_optimizer(width=64)
    whole = 3 * sum(p.numel() for p in model.parameters())
    assert sum(one["held"] for one in of_each) == whole
    assert max(one["held"] for one in of_each) < 0.51 * whole
    assert [bool(one["seen"]) for one in of_each] == [True, False]
    assert all(all(one[key]) for one in of_each for key in ("seen", "same", "at end"))


def test_a_weight_of_one_process_that_is_not_finite_ends_all(folder: Path) -> None:
    for rank in range(2):
        assert "net.inner.weight is not finite" in (folder / f"broken-{rank}").read_text()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_cut_is_refused(folder: Path, name: str) -> None:
    for rank in range(2):
        assert re.search(REFUSED[name][1], json.loads((folder / f"said-{rank}").read_text())[name])
    assert not (folder / "refused" / "checkpoints").exists()


def test_units_are_the_largest_parts_of_up_to_an_eighth_that_are_called_and_share_no_weight() -> None:
    blocks = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)) for _ in range(10)])
    net = nn.Module()
    net.blocks, net.first = blocks, nn.Linear(8, 2)
    assert list(units(net)) == list(blocks)  # it may read weights of its own layers without calling them
    blocks[0][0].weight = blocks[1][0].weight
    assert list(units(net)) == [blocks[0][1], blocks[1][1], *blocks[2:]]
    large, small = nn.Linear(64, 64), nn.Linear(1, 1)
    assert list(units(nn.Sequential(nn.Sequential(large, small, nn.ReLU())))) == [large]


# ---- files ----


def test_a_flipped_bit_in_any_file_is_found_and_the_checkpoint_before_is_used(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / f"{ALL}, fsdp" / "checkpoints", tmp_path / "checkpoints")
    files = [p for p in at_step(tmp_path, STEPS).rglob("*") if p.is_file()]
    assert len([p for p in files if p.parent.name in ("model", "ema", "ema-0.99", "power-0.1", "optimizer")]) == 10
    for file in files:
        good = file.read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 1
        file.write_bytes(bad)
        assert newest(tmp_path) == at_step(tmp_path, 50), file
        assert "is damaged" in capsys.readouterr().err
        file.unlink()
        assert damage(at_step(tmp_path, STEPS)), file
        file.write_bytes(good)
    assert newest(tmp_path) == at_step(tmp_path, STEPS)


def test_no_pickle_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    monkeypatch.setattr(torch, "load", never)
    found = read(at_step(folder / f"{ALL}, fsdp", STEPS))
    assert all(len(list(module.values())) for module in found.modules.values())


def test_files_whose_rows_do_not_follow_each_other_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(at_step(folder / f"{ALL}, fsdp", STEPS) / "model", tmp_path / "model")
    first, second = sorted((tmp_path / "model").iterdir())
    for change in (second.unlink, first.unlink):
        shutil.copytree(at_step(folder / f"{ALL}, fsdp", STEPS) / "model", tmp_path / "model", dirs_exist_ok=True)
        change()
        if change == first.unlink:
            with pytest.raises(ValueError, match="do not follow each other"):
                Shards(tmp_path / "model")
        else:  # fewer rows than the network has
            whole = read(at_step(folder / "exact", 12)).modules["model"]
            assert Shards(tmp_path / "model")["net.inner.weight"].shape != whole["net.inner.weight"].shape
