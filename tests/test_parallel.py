"""A training is a function of seed, batch and micro-batch: the same bits on one, two and four processes."""

import multiprocessing
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_conditions import EDM, conditional, images
from torch import Tensor, nn
from training_job import assert_same, fit, last, model_and_optimizer, read, resume, rows

from scoresde import VPSDE, InputError, ScoreModel
from scoresde import train as train_python
from scoresde.cli.launch import require_devices
from scoresde.loss import DenoisingScoreMatching
from scoresde.parallel import World, join, world
from scoresde.parallel import group as parallel_group
from scoresde.training import Interrupted, Muon, Trainer
from scoresde.training.checkpoint import Checkpoint, at_step, saved_steps
from scoresde.training.shares import parts_of

STEPS = 12
SHORT: dict[str, Any] = {
    "steps": STEPS, "batch_size": 24, "micro_batch": 2, "checkpoint_every": 4, "keep_last": 9, "evaluate_every": 6,
    "log_every": 3,
}  # fmt: skip


class Changing(nn.Module):
    """A network whose forward pass changes its weights, its averages and its counter."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.out = nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Linear(16, 2)
        self.unused, self.gain = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        if self.training:
            self.inner.weight.data.copy_(nn.functional.normalize(self.inner.weight.detach()))
        return self.gain * self.out(self.norm(torch.tanh(self.inner(torch.cat([x, c[:, None]], 1)))))


def changing() -> tuple[ScoreModel, torch.optim.Optimizer]:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        model = ScoreModel(Changing(), VPSDE(), sigma_data=1.0)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


class Idle(nn.Linear):
    """A network that leaves out its bias every other time."""

    calls = 0

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        self.calls += 1
        return nn.functional.linear(x, self.weight, self.bias if self.calls % 2 else None)


def muon() -> tuple[ScoreModel, torch.optim.Optimizer]:
    model, _ = model_and_optimizer()
    return model, Muon(model.parameters(), lr=1e-2)


ALL: dict[str, Any] = {"ema": (0.9, 0.99), "ema_power": (0.1,), "clip": 0.3, "micro_batch": 3}
CASES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "dropout": (model_and_optimizer, {}),
    "importance, averages, clipping": (
        model_and_optimizer,
        ALL | {"loss": lambda: DenoisingScoreMatching("edm", importance=True)},
    ),
    "scaled gradients": (model_and_optimizer, {"precision": "fp16", "micro_batch": 6}),
    "muon": (muon, {}),
    "buffers": (changing, {"micro_batch": 3}),
    "classes, augmentation": (
        lambda: conditional((1, 8, 8), **EDM),
        {"augment": 0.3, "dataset": lambda: images(flip=True), "dequantise": True, "micro_batch": 6},
    ),
}


AVERAGED = {"dropout": 2, "buffers": 4}  # on how many processes
LONG: dict[str, Any] = {"steps": 100, "checkpoint_every": 50, "evaluate_every": 0, "log_every": 50}


def train(run: Path, name: str, start: Any = None, **changes: Any) -> None:
    make, settings = CASES[name]
    model, optimizer = make()
    settings = {k: v() if callable(v) else v for k, v in settings.items()}
    fit(run, start, model, optimizer, **{**SHORT, **settings, **changes})


class Sends(DenoisingScoreMatching):
    """Sends a signal to its own process after step 5, if that is the one."""

    def __init__(self, rank: int, number: int) -> None:
        super().__init__()
        self.rank, self.number = rank, number

    def after_step(self, model: Any, step: int) -> None:
        if step == 5 and world().rank == self.rank:
            os.kill(os.getpid(), self.number)


def all_cases(folder: Path) -> None:
    for name in CASES:
        train(folder / name, name)
    former = folder.parent / "4" / "dropout"
    if world().size == 2:  # goes on from four processes
        train(folder / "resumed", "dropout", read(at_step(former, 4)))
        idle(folder)
    averaged(folder)
    strategy = {2: "ddp", 4: "exact"}[world().size]
    settings = SHORT | {"evaluate_every": 0, "strategy": strategy}
    try:
        fit(folder / "stopped", loss=Sends(world().size - 1, signal.SIGTERM), **settings)
    except Interrupted as stop:
        (folder / f"stopped-{world().rank}").write_text(f"{stop.signal} {stop.step}")


def averaged(folder: Path) -> None:
    """Trainings whose gradients torch averages."""
    for name in [name for name, size in AVERAGED.items() if size == world().size]:
        train(folder / f"{name}, ddp", name, strategy="ddp", **LONG)


def idle(folder: Path) -> None:
    """A training of which torch cannot average the gradients."""
    model = ScoreModel(Idle(2, 2), VPSDE(), sigma_data=1.0)
    try:
        fit(folder / "idle", None, model, torch.optim.Adam(model.parameters()), **SHORT | {"strategy": "ddp"})
    except InputError as error:
        (folder / f"idle-{world().rank}").write_text(str(error))


def killed(folder: Path, rank: int, strategy: str) -> None:
    rhythm = {"evaluate_every": 0} if strategy == "ddp" else {}  # so that a backward pass is what the other one is in
    try:
        fit(folder, loss=Sends(rank, signal.SIGKILL), strategy=strategy, **SHORT | rhythm)
    except InputError as error:
        (folder / f"said-{world().speaks()}").write_text(str(error))
        os._exit(2)


def killed_early() -> None:
    """The second process is killed after it has joined, before they are connected; the first one looks often."""
    parallel_group._BEAT, parallel_group._DEAD = 0.1, 0.5  # type: ignore[misc]
    if os.environ["RANK"] == "1":
        torch.distributed.init_process_group = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
    world()


def process(rank: int, size: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    world.cache_clear()
    work(*arguments)
    world().leave()
    os._exit(0)


def launch(size: int, work: Callable[..., None], *arguments: Any) -> list[int | None]:
    """Call a function in several processes, and return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    started = [fork.Process(target=process, args=(rank, size, port, work, arguments)) for rank in range(size)]
    for one in started:
        one.start()
    for one in started:
        one.join(60)
    return [one.exitcode for one in started]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trainings of all cases on one, two and four processes."""
    top = tmp_path_factory.mktemp("parallel")
    for size in (4, 2, 1):
        (top / str(size)).mkdir()
    for name in CASES:  # first, so that what they import is there
        train(top / "1" / name, name)
    for size in (4, 2):
        assert launch(size, all_cases, top / str(size)) == [0] * size
    return top


@pytest.mark.parametrize("name", CASES)
def test_the_bits_do_not_depend_on_the_number_of_processes(folder: Path, name: str) -> None:
    one = folder / "1" / name
    for size in ("2", "4"):
        other = folder / size / name
        assert saved_steps(one) == saved_steps(other)
        assert_same(last(one, STEPS), last(other, STEPS))
        assert rows(one) == rows(other)


def test_a_training_resumes_on_fewer_processes_and_ends_in_the_same_bits(folder: Path, tmp_path: Path) -> None:
    train(tmp_path, "dropout", read(at_step(folder / "2" / "resumed", 8)))  # steps 4 to 8 on two, and now on one
    assert_same(last(folder / "1" / "dropout", STEPS), last(tmp_path, STEPS))


@pytest.mark.parametrize("size", [2, 4])
def test_a_signal_to_one_process_stops_all_after_the_same_step(folder: Path, size: int) -> None:
    ends = {(folder / str(size) / f"stopped-{rank}").read_text() for rank in range(size)}
    (end,) = ends
    number, step = map(int, end.split())
    assert number == signal.SIGTERM
    assert step in (6, 7)
    assert saved_steps(folder / str(size) / "stopped") == [4, step]


@pytest.mark.parametrize(("rank", "strategy"), [(0, "exact"), (1, "exact"), (1, "ddp")])
def test_all_end_when_one_is_killed_and_the_run_goes_on(folder: Path, tmp_path: Path, rank: int, strategy: str) -> None:
    began = time.monotonic()
    codes = launch(2, killed, tmp_path, rank, strategy)
    assert time.monotonic() - began < 30
    assert codes[rank] == -signal.SIGKILL
    assert codes[1 - rank] == 2
    assert "parallel: another process is lost" in (tmp_path / "said-True").read_text()
    resume(tmp_path, **SHORT)
    one, other = last(folder / "1" / "dropout", STEPS), last(tmp_path, STEPS)
    if strategy == "exact":
        assert_same(one, other)
    assert distance(one, other) < 1e-5


def test_all_end_when_one_is_killed_before_they_are_connected() -> None:
    began = time.monotonic()
    assert launch(2, killed_early) == [1, -signal.SIGKILL]
    assert time.monotonic() - began < 30


# ---- gradients that torch averages ----


def distance(a: Checkpoint, b: Checkpoint) -> float:
    """Of the weights of two networks, relative to those of the first one."""
    one, other = (
        torch.cat([w.double().flatten() for w in c.modules["model"].values() if w.is_floating_point()]) for c in (a, b)
    )
    return float((one - other).norm() / one.norm())


@pytest.mark.parametrize("name", AVERAGED)
def test_averaged_gradients_train_as_exact_sums_do_but_for_rounding(folder: Path, tmp_path: Path, name: str) -> None:
    train(tmp_path / "exact", name, **LONG)
    averaged = folder / str(AVERAGED[name]) / f"{name}, ddp"
    exact, ddp = last(tmp_path / "exact", 100), last(averaged, 100)
    assert 0 < distance(exact, ddp) < 1e-5
    tops = (tmp_path / "exact", averaged)
    files = [{p.relative_to(top) for p in top.rglob("*")} for top in tops]
    assert files[0] == files[1]
    assert rows(tmp_path / "exact")[-1] == pytest.approx(rows(averaged)[-1], rel=1e-5)
    train(tmp_path / "resumed", name, read(at_step(averaged, 50)), **LONG)
    assert distance(exact, last(tmp_path / "resumed", 100)) < 1e-5  # it was averaged up to step 50 only


def test_one_process_has_no_strategy(folder: Path, tmp_path: Path) -> None:
    train(tmp_path, "dropout", strategy="ddp")
    assert_same(last(folder / "1" / "dropout", STEPS), last(tmp_path, STEPS))


def test_weights_left_out_in_some_steps_cannot_be_averaged(folder: Path) -> None:
    for rank in range(2):
        assert re.match(r"trainer.strategy: ddp is not .* exact$", (folder / "2" / f"idle-{rank}").read_text())


# ---- what cannot be ----


def test_processes_that_cannot_share_a_batch_are_refused() -> None:
    two, eight = World(size=2), World(size=8)
    assert parts_of(Trainer(batch_size=24, micro_batch=3), eight) == 8
    with pytest.raises(InputError, match=r"trainer.micro_batch: null .* 2 processes.* give 12"):
        parts_of(Trainer(batch_size=24), two)
    with pytest.raises(InputError, match=r"trainer.micro_batch: 8 .* 2 processes"):
        parts_of(Trainer(batch_size=24, micro_batch=8), two)
    with pytest.raises(InputError, match=r"trainer.batch_size .* multiple of 2"):
        parts_of(Trainer(batch_size=25, micro_batch=5), two)


def test_processes_that_do_not_find_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(join, "_JOIN", 0.3)
    for rank, size, address, wanted in [
        (0, 3, "127.0.0.1", "not a power of two; start 2"),
        (0, 2, "127.0.0.1", "1 of 2 processes came"),
        (1, 2, "127.0.0.1", "cannot be reached .*refused"),
        (1, 2, "no.invalid", "cannot be reached"),
    ]:
        env = {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": address, "MASTER_PORT": "0"}
        monkeypatch.setattr(os, "environ", {**os.environ, **env})
        world.cache_clear()
        with pytest.raises(InputError, match=f"parallel: .*{wanted}"):
            world()
    world.cache_clear()
    assert capfd.readouterr().err == ""  # no page of torch besides


def test_slurm_says_where_a_process_is() -> None:
    step = {
        "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
        "SLURM_STEP_NODELIST": "gpu[007-009,12]", "SLURM_JOB_ID": "40001", "SLURM_NTASKS": "8",
    }  # fmt: skip
    assert join._place(step) == (5, 8, 1, 4)
    assert join._meeting_point(step) == ("gpu007", 20_001)
    assert join._meeting_point({**step, "SLURM_STEP_NODELIST": "node-3,node-4"})[0] == "node-3"
    batch_script = {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "1"}
    assert join._place(batch_script).size == 1
    for port in ("294506", "abc", "-1"):
        with pytest.raises(InputError, match=rf"MASTER_PORT: '{port}' is not a port; give a number from 1"):
            join._meeting_point({**step, "MASTER_PORT": port})
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a"}
    assert join._place({**step, **torchrun}) == (3, 4, 1, 2)


def test_more_processes_than_devices_are_refused() -> None:
    most = len(os.sched_getaffinity(0))
    with pytest.raises(InputError, match=rf"trainer.devices: {4096} is more than the {most} processor cores"):
        require_devices(4096, "cpu", "trainer.devices")
    with pytest.raises(InputError, match=r"devices: 2 .* torchrun"):
        train_python(torch.zeros(4, 2), trainer=Trainer(devices=2))
    with pytest.raises(InputError, match=r"devices: 3 .* power of two"):
        Trainer(devices=3)
