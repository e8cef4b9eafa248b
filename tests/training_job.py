"""A small training that several tests run, in this process or, to be killed, as `python training_job.py`."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoresde import VPSDE, ScoreModel
from scoresde.data import Dataset, Moons
from scoresde.loggers import Loggers, MetricsFile, NoLogger
from scoresde.loss import DenoisingScoreMatching
from scoresde.training import Checkpoint, FitResult, Trainer
from scoresde.training.checkpoint import at_step, newest, read

STEPS = 60


class Net(nn.Module):
    """An MLP with dropout (so that a generator is at work) and a buffer that training changes."""

    def __init__(self, width: int = 32, dropout: float = 0.2) -> None:
        super().__init__()
        self.inner, self.drop, self.out = nn.Linear(3, width), nn.Dropout(dropout), nn.Linear(width, 2)
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return self.out(self.drop(torch.relu(self.inner(torch.cat([x, c[:, None]], 1)))))


class Slow(NoLogger):
    """Waits at every log, so that there is a middle in which to be killed."""

    def log(self, scalars: Any, step: int) -> None:
        time.sleep(0.06)


def model_and_optimizer(width: int = 32, seed: int = 3) -> tuple[ScoreModel, torch.optim.Optimizer]:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = ScoreModel(Net(width), VPSDE(), sigma_data=1.0)
    return model, torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)


def moons() -> Dataset:
    return Moons(n=300).load()


def trainer(**changes: Any) -> Trainer:
    settings = {
        "steps": STEPS,
        "batch_size": 32,
        "warmup": 5,
        "log_every": 4,
        "evaluate_every": 12,
        "checkpoint_every": 10,
    }
    return Trainer(**{**settings, **changes})


def fit(
    run: Path,
    checkpoint: Checkpoint | None = None,
    model: ScoreModel | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    seed: int = 7,
    **changes: Any,
) -> FitResult[ScoreModel]:
    """Train in `run`; what is not given is as above, and `changes` go to the trainer or to `fit`."""
    if model is None or optimizer is None:
        model, optimizer = model_and_optimizer()
    run.mkdir(exist_ok=True, parents=True)
    known = {k: changes.pop(k) for k in ("evaluate", "state", "direction", "callbacks") if k in changes}
    loss = changes.pop("loss", DenoisingScoreMatching())
    logger = changes.pop("logger", MetricsFile(run / "metrics.jsonl"))
    dataset = changes.pop("dataset", None) or moons()
    known |= {"loss": loss, "optimizer": optimizer, "run": run, "seed": seed, "logger": logger}
    return trainer(**changes).fit(model, dataset, checkpoint=checkpoint, **known)


def resume(run: Path, **changes: Any) -> FitResult[ScoreModel]:
    return fit(run, read(newest(run)), **changes)


def rows(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock has measured."""
    clock = ("time", "steps_per_second", "samples_per_second")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in clock} for line in lines]


def assert_same(a: Checkpoint, b: Checkpoint) -> None:
    """Every tensor to the bit, and every other thing stored."""
    assert a.modules.keys() == b.modules.keys()
    pairs = [(a.optimizer, b.optimizer), *((a.modules[name], b.modules[name]) for name in a.modules)]
    for one, other in pairs:
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert a.state == b.state


def last(run: Path, step: int = STEPS) -> Checkpoint:
    return read(at_step(run, step))


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    slow = Loggers([MetricsFile(folder / "metrics.jsonl"), Slow()])
    start = read(newest(folder)) if (folder / "checkpoints").exists() else None
    fit(folder, start, logger=slow)
