"""Going on: a training that was killed, damaged, stopped or finished ends where it would have, or says why not."""

import math
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_job import Net, assert_same, fit, last, model_and_optimizer, resume, rows

from scoresde import InputError
from scoresde.training import Best, Muon, Trainer
from scoresde.training import checkpoint as checkpoints
from scoresde.training.checkpoint import Checkpoint, at_step, find, newest, read, save, saved_steps
from scoresde.training.state import load_module, load_optimizer, module_state, optimizer_state

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has disturbed; copy it, do not change it."""
    run = tmp_path_factory.mktemp("whole")
    fit(run, keep_last=100)
    return run


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


# ---- a disk that is full ----

_FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {here!r})
import training_job as job
from scoresde import InputError
from scoresde.training import Best, Muon
run = Path({run!r})
largest = job.at_step(run, 60).joinpath("optimizer.safetensors").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, largest - 1))
try:
    job.resume(run, steps=90, keep_last=100, logger=job.NoLogger())
except InputError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_previous_checkpoint(copy: Path, trained: Path) -> None:
    code = _FULL.format(here=str(HERE), run=str(copy))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "step-00000070 cannot be written" in done.stdout
    assert done.stdout.strip().count("\n") == 0
    assert newest(copy) == at_step(copy, 60)
    assert_same(last(copy), last(trained))
    assert not list(checkpoints.folder(copy).glob(".tmp*"))
    assert saved_steps(copy) == saved_steps(trained)


# ---- going on ----


def test_killed_at_any_moment_it_resumes_to_the_bit(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    run.mkdir()
    moments = []
    for reached in (20, 40):  # killed twice, by chance some time after it has saved this step
        process = subprocess.Popen([sys.executable, HERE / "training_job.py", run])
        while max(saved_steps(run), default=0) < reached:
            assert process.poll() is None
            time.sleep(0.005)
        moments.append(random.SystemRandom().uniform(0, 0.15))
        time.sleep(moments[-1])
        process.kill()
        assert process.wait() == -9, "it was done before it was killed"
        assert saved_steps(run)[-1] < 60
    resume(run)
    print(f"killed {moments} s after a checkpoint")  # shown when what follows fails
    assert_same(last(run), last(trained))
    assert rows(run) == rows(trained)  # no line is missing, and none is there twice


def test_a_record_that_was_changed_is_said(copy: Path, capsys: Any) -> None:
    file = copy / "metrics.jsonl"
    resume(copy, steps=61)
    assert "was changed" not in capsys.readouterr().err
    whole = file.read_bytes()
    at = whole.index(b'"loss": 0.') + 12
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])  # another digit
    resume(copy, steps=62)
    assert f"{copy}: what was logged up to step 61 was changed since then\n" in capsys.readouterr().err


def test_more_steps_continue(trained: Path, copy: Path, tmp_path: Path) -> None:
    result = resume(copy, steps=80, schedule="constant")
    assert result.step == 80
    fit(tmp_path / "whole", schedule="constant", steps=60)
    resume(tmp_path / "whole", schedule="constant", steps=80)
    fit(tmp_path / "once", schedule="constant", steps=80)
    assert_same(last(tmp_path / "whole", 80), last(tmp_path / "once", 80))


def test_a_warm_restart_is_said_and_is_part_of_the_schedule(copy: Path, tmp_path: Path, capsys: Any) -> None:
    resume(copy, steps=80)  # the middle of the cosine, after its end
    said = capsys.readouterr().err
    rate = 0.01 * 0.5 * (1 + math.cos(math.pi * 60 / 80))
    assert f"and {rate:.2g} in the next one; trainer.restart=60 begins its schedule again" in said
    once, twice = tmp_path / "once", tmp_path / "twice"
    fit(once, steps=40, restart=24)
    fit(twice, steps=24)
    resume(twice, steps=40, restart=24)
    assert "learning rate" not in capsys.readouterr().err
    assert_same(last(once, 40), last(twice, 40))
    rates = [Trainer(steps=40, warmup=2, restart=24).rate(k) for k in (0, 12, 23, 24, 25, 32)]
    first = [0.5, 0.5, 0.5 * (1 + math.cos(math.pi * 23 / 24))]
    assert rates == pytest.approx([*first, 0.5, 0.5 * (1 + math.cos(math.pi / 16)), 0.5])


def test_the_loss_and_the_seconds_are_those_of_all_sessions(copy: Path) -> None:
    stored = read(at_step(copy, 60))
    assert stored.state["loss"] == rows(copy)[-2]["loss"]
    shutil.rmtree(at_step(copy, 60))
    half = read(at_step(copy, 50))
    assert 0 < half.seconds < stored.seconds
    result = resume(copy)
    assert result.seconds > half.seconds
    again = resume(copy)  # nothing is left to do
    assert again.loss == result.loss == stored.state["loss"]
    assert again.seconds >= read(at_step(copy, 60)).seconds > half.seconds


def test_a_finished_training_is_left_as_it_is(copy: Path, trained: Path) -> None:
    result = resume(copy)
    assert (result.step, result.path, result.best) == (60, at_step(copy, 60), Best(**last(trained).state["best"]))
    assert rows(copy) == rows(trained)


def test_going_back_sets_later_checkpoints_aside(copy: Path) -> None:
    fit(copy, read(at_step(copy, 30)), steps=40, schedule="constant", keep_last=100)
    assert saved_steps(copy)[-1] == 40
    assert max(row["step"] for row in rows(copy)) == 40
    assert len(list(checkpoints.folder(copy).glob("aside-1-step-*"))) == 5  # 36 and 48, which were best, 40, 50, 60
    assert find(copy, "best").is_dir()


def test_a_smaller_learning_rate_takes_effect(copy: Path) -> None:
    model, _ = model_and_optimizer()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-9, fused=True)
    before = last(copy).modules["model"]
    resume(copy, model=model, optimizer=optimizer, steps=70)
    assert all(torch.allclose(t, before[k], atol=1e-7) for k, t in model.state_dict().items() if "calls" not in k)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 8}, r"seed: 8 is not the 7 of .*step-00000060"),
        ({"steps": 40}, r"steps: 40 is fewer than the 60 done"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_changes(copy: Path, changes: Any, says: str) -> None:
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=says):
        resume(copy, **changes)
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before


# ---- other networks, other optimizers ----


def test_another_architecture_is_told_apart(copy: Path) -> None:
    model, optimizer = model_and_optimizer(width=48)
    with pytest.raises(InputError) as error:
        resume(copy, model=model, optimizer=optimizer)
    assert "net.inner.weight (32, 3) in the checkpoint but (48, 3) in the model" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_surplus_names_are_shown() -> None:
    class Deeper(Net):
        def __init__(self) -> None:
            super().__init__()
            self.more = nn.ModuleList(nn.Linear(2, 2) for _ in range(4))

    with pytest.raises(InputError, match=r"8 missing from the checkpoint \(more.0.bias, .* and 5 more\)"):
        load_module(Deeper(), module_state(Net()), "x")
    with pytest.raises(InputError, match=r"8 unknown to the model \(more.0.bias, .* and 5 more\)"):
        load_module(Net(), module_state(Deeper()), "x")


def test_state_that_would_need_pickle_is_refused() -> None:
    class Secretive(nn.Linear):
        def get_extra_state(self) -> object:
            return {"a": object()}

    with pytest.raises(InputError, match="_extra_state cannot be saved"):
        module_state(Secretive(1, 1))


OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "amsgrad": lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True, fused=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "plain": lambda p: torch.optim.SGD(p, lr=0.1),
    "rms": lambda p: torch.optim.RMSprop(p, lr=0.1),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.1),
    "muon": lambda p: Muon(p, lr=0.1),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_kind_of_optimizer_goes_on_to_the_bit(name: str, tmp_path: Path) -> None:
    def advance(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for k in steps:
            optimizer.zero_grad()
            for i, p in enumerate(p for p in net.parameters() if p.ndim > 0):
                p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * k + i))
            optimizer.step()

    net = Net()
    optimizer = OPTIMIZERS[name](net.parameters())
    advance(net, optimizer, range(3))
    tensors, rest = optimizer_state(optimizer, net)
    path = save(tmp_path, Checkpoint(3, {"model": module_state(net)}, tensors, {"optimizer": rest}))
    advance(net, optimizer, range(3, 6))

    other = Net()
    back = read(path)
    load_module(other, back.modules["model"], path)
    fresh = OPTIMIZERS[name](other.parameters())
    load_optimizer(fresh, other, back.optimizer, back.state["optimizer"], path)
    advance(other, fresh, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_the_state_of_another_optimizer_is_refused(copy: Path) -> None:
    model, _ = model_and_optimizer()
    with pytest.raises(InputError, match="optimizer: SGD cannot resume from the state of Adam"):
        resume(copy, model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    model, _ = model_and_optimizer()
    part = torch.optim.Adam([model.net.out.bias], lr=0.1)
    with pytest.raises(InputError, match=r"optimizer: .* trained net.inner.bias, which is not trained now"):
        resume(copy, model=model, optimizer=part)
