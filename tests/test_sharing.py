"""Sampling, comparing and evaluating in several processes: the same bits on one, two and four."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import exact_model, sde_named
from test_parallel import launch

from scoresde import InputError, Sampler, runs
from scoresde.cli.main import main
from scoresde.model import Model
from scoresde.parallel import group, sharing, world
from scoresde.parallel.shared import shared
from scoresde.prediction import Prediction
from scoresde.runs.samples import batches
from scoresde.sampling import DDIM

TRAIN = ["train", "run=run", "debug=tiny", "model=mlp", "model.net.width=8", "data=array", "data.path=../t.npy", "n=7"]
TRAIN += ["logger=none", "trainer.steps=4", "trainer.micro_batch=4", "trainer.monitor=sliced_wasserstein"]
TRAIN += ["~samplers.predictor_corrector", "~samplers.dopri5", "samplers.dpmpp_2m.steps=4", "metrics=[distances]"]
SAMPLE = ["sample", "run=../1/run", "out=drawn", "n=23", "batch_size=4", "sampler.steps=4", "solver=ancestral"]
FEW = [*SAMPLE[:2], "out=few", "n=3", "batch_size=2", "sampler.steps=4", "solver=ddim"]
EVALUATE = ["evaluate", "run=../1/run", "out=evaluated", *SAMPLE[3:], "metrics=[distances,likelihood]", "logger=none"]
EVALUATE += ["metrics.likelihood.n=7", "metrics.likelihood.batch_size=2", "metrics.likelihood.steps=3"]
COMPARE = ["compare", "problem=mixture_2d", "out=compared", "n=21", "batch_size=8", "seeds=2", "budgets=[4]"]
COMPARE += ["solvers=[auto,sde_dpmpp_2m,adaptive_bosh3,dpm_solver_2]", "tolerances=[0.1]", "reference.n=4"]
COMPARE += ["logger=none"]
COMMANDS = {1: [TRAIN, SAMPLE, FEW, EVALUATE, COMPARE], 2: [TRAIN, SAMPLE, EVALUATE], 4: [SAMPLE, FEW, COMPARE]}
TIMES = ("seconds", "memory", "training_seconds", "date", "path")


class Broken(Model):
    """Exact, but for the samples from a number on."""

    device = torch.device("cpu")

    def __init__(self, first: int) -> None:
        inner = exact_model(sde_named("vp"))
        super().__init__(inner.sde)
        self.inner, self.first, self.rows = inner, first, torch.arange(0)

    def of_samples(self, rows: torch.Tensor) -> Model:
        own = Broken(self.first)
        own.rows = rows
        return own

    def forward(self, x: torch.Tensor, t: float, cond: Any = None) -> Prediction:
        x0 = self.inner(x, t).x0
        return Prediction.of(x, self.sde, t, x0=torch.where(self.rows[:, None] >= self.first, torch.nan, x0))


def changed(top: Path, event: str, about: tuple[Any, ...]) -> Iterator[str]:
    """What an event of Python changes on disk below a folder."""
    writes = event == "open" and about[2] is not None and about[2] & (os.O_WRONLY | os.O_RDWR)
    if (writes or event in ("os.mkdir", "os.rename", "os.remove")) and isinstance(about[0], str | Path):
        there = event == "os.mkdir" and Path(about[0]).is_dir()  # Hydra makes the working directory
        yield from [str(about[0])] * (Path(about[0]).resolve().is_relative_to(top) and not there)


def everything(folder: Path) -> None:
    """The commands and the ends of one number of processes."""
    folder.mkdir(exist_ok=True)
    written: list[str] = []
    if world().rank:  # a process of its own, which ends after this
        sys.addaudithook(lambda event, about: written.extend(changed(folder.parent, event, about)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for one in ("quality", "pictures"):  # which take most of the time
            patch.setattr(f"scoresde.comparison.output.{one}", lambda *given: [])
        patch.setattr(type(world()), "leave", lambda self: None)  # there is more to do
        for command in COMMANDS[world().size]:
            assert main(command) == 0
        (folder / f"ends-{world().rank}").write_text(json.dumps([*ends(), written]))


def nested(k: int) -> Any:
    (one,) = shared([k], lambda j: {"x": j / 3})
    return one


def ends() -> Iterator[str]:
    """How computations end in this process."""
    seen: list[int] = []
    with sharing(), pytest.raises(InputError) as failed:
        seen.extend(len(part.x) for part in batches(Sampler(DDIM(), steps=3), Broken(10), (2,), 30, 0, 4))
    yield f"{seen} {failed.value}"
    made: list[Any] = []
    with sharing(), pytest.raises(ZeroDivisionError) as divided:
        made.extend(shared(range(-5, 5), lambda k: {"inverse": 1 / k}))
    yield f"{divided.value}"
    with sharing():
        made = [float(one["x"]) for one in shared(range(7), nested)]
    yield f"{made}"
    if world().rank == world().size - 1:  # what does not share waits for none
        yield str(runs.load("../1/run").sample(3, steps=2).x.tolist())
    else:
        yield ""


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def content(file: Path) -> Any:
    return without_times(json.loads(file.read_text()))


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all commands made in one, two and four processes."""
    top = tmp_path_factory.mktemp("sharing")
    np.save(top / "t.npy", np.random.default_rng(0).normal(size=(60, 2)))
    everything(top / "1")
    for size in (2, 4):
        assert launch(size, everything, top / str(size)) == [0] * size
    return top


@pytest.mark.parametrize(
    ("size", "name"),
    [(2, "run/summary.json"), (2, "drawn/summary.json"), (2, "evaluated/results.json"), (4, "compared/results.json")],
)
def test_results_have_the_same_bits(top: Path, size: int, name: str) -> None:
    one, other = (content(top / str(k) / name) for k in (1, size))
    assert one == other
    assert one["rows" if "rows" in one else "n"]


@pytest.mark.parametrize(
    ("size", "name"),
    [(2, "drawn/samples.npz"), (4, "drawn/samples.npz"), (4, "few/samples.npz"), (2, "evaluated/likelihood/items.csv")],
)
def test_samples_have_the_same_bits(top: Path, size: int, name: str) -> None:
    assert (top / "1" / name).read_bytes() == (top / str(size) / name).read_bytes()


@pytest.mark.parametrize("size", [2, 4])
def test_one_process_writes(top: Path, size: int) -> None:
    made = [p.relative_to(top / str(size)) for p in (top / str(size)).rglob("*") if not p.name.startswith("ends-")]
    assert {p for p in made if not (top / "1" / p).exists()} == set()
    assert [json.loads(p.read_text())[-1] for p in (top / str(size)).glob("ends-*")] == [[]] * size


@pytest.mark.parametrize("size", [2, 4])
def test_errors_come_in_all_processes_after_the_same_parts(top: Path, size: int) -> None:
    (one,) = (json.loads(p.read_text()) for p in (top / "1").glob("ends-*"))
    ends = [json.loads(p.read_text()) for p in sorted((top / str(size)).glob("ends-*"))]
    assert len(ends) == size
    assert "[4, 4] sampler: 2 of 4 samples are NaN" in one[0]
    for own in ends:
        assert own[:3] == one[:3]
    assert ends[-1][3] == one[3]


def stopped(folder: Path, number: int) -> None:
    """`scoresde sample`, in which process 1 gets a signal in its third batch."""
    os.chdir(folder)
    draw, drawn = Sampler._batch, list[int]()

    def batch(self: Sampler, *given: Any) -> Any:
        drawn.append(1)
        if world().rank == 1 and len(drawn) == 3:
            os.kill(os.getpid(), number)
        return draw(self, *given)

    Sampler._batch = batch  # type: ignore[method-assign]
    os._exit(main(SAMPLE))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_all_end_when_one_does_and_the_samples_go_on(
    top: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("_BEAT", "_DEAD", "_GRACE"):
        monkeypatch.setattr(group, name, getattr(group, name) / 10)
    shutil.copytree(top / "1" / "run", tmp_path / "1" / "run")
    (here := tmp_path / "2").mkdir()
    began = time.monotonic()
    codes = launch(2, stopped, here, number)
    assert time.monotonic() - began < 20
    assert codes == ([2, -number] if number == signal.SIGKILL else [2, 128 + number])
    said = capfd.readouterr().err.splitlines()
    assert len([line for line in said if line.startswith("error: ")]) == 1
    assert any("continue with: scoresde sample" in line for line in said)
    kept = [p.name for p in sorted((here / "drawn" / "parts").glob("*.npz"))]
    assert kept[:4] == [f"{k:012}.npz" for k in (0, 4, 8, 12)]
    monkeypatch.chdir(here)
    assert main(SAMPLE) == 0
    assert not (here / "drawn" / "parts").exists()
    samples = [folder / "drawn" / "samples.npz" for folder in (top / "1", here)]
    assert samples[0].read_bytes() == samples[1].read_bytes()
