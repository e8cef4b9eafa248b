"""What a training step costs beside the bare network: `python benchmarks/training_step.py`.

The bare step is forward, backward and fused Adam on a fixed batch. The step of the trainer adds data, random numbers,
noise levels, loss weights, clipping, the average of the weights, and its share of the logging (every 50 steps). Both
run in turn, each on a network of its own, on one thread; figures are medians of processor time. Results go to
benchmarks/results/.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import save
from torch import Tensor, nn

from scoresde import VPSDE, ScoreModel
from scoresde.loggers import MetricsFile
from scoresde.loss import DenoisingScoreMatching
from scoresde.nets import ResidualMLP, UNet
from scoresde.training import Trainer
from scoresde.training.batches import Batches
from scoresde.training.ema import Averages
from scoresde.training.step import Step

BAR = 1.08  # for the U-Nets
LOG_EVERY = 50
CASES: list[tuple[type[UNet] | type[ResidualMLP], tuple[int, ...], int]] = [
    (UNet, (1, 8, 8), 16),
    (UNet, (1, 8, 8), 64),
    (UNet, (1, 8, 8), 128),
    (UNet, (3, 32, 32), 16),
    (ResidualMLP, (2,), 128),
    (ResidualMLP, (2,), 1024),
]


def timed(action: Callable[[], object]) -> float:
    start = time.thread_time()  # of this thread alone, so that other programs on the machine count less
    action()
    return time.thread_time() - start


def bare_step(net: nn.Module, x: Tensor, c: Tensor, y: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        ((net(x, c) - y) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def trainer_step(net: nn.Module, data: Tensor, batch: int) -> Step:
    model = ScoreModel(net, VPSDE())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    averages, batches = Averages(model, [0.999]), Batches(data, 0, data.device)
    settings = Trainer(batch_size=batch, warmup=0, schedule="constant")
    return Step(model, averages, optimizer, DenoisingScoreMatching(), batches, settings, 0)


def measure(kind: type[UNet] | type[ResidualMLP], event: tuple[int, ...], batch: int, pairs: int) -> dict[str, Any]:
    torch.manual_seed(0)
    net = kind(event).train()
    x, c, y = torch.randn(batch, *event), torch.randn(batch), torch.randn(batch, *event)
    bare = bare_step(copy.deepcopy(net), x, c, y)
    full = trainer_step(net, torch.randn(2000, *event), batch)
    with tempfile.TemporaryDirectory() as folder:
        metrics = MetricsFile(Path(folder) / "metrics.jsonl")
        plain, ours, logs = [], [], []
        for k in range(pairs + 5):
            plain.append(timed(bare))
            ours.append(timed(partial(full, k)))
            if (k + 1) % LOG_EVERY == 0:
                logs.append(timed(lambda: metrics.log(full.window.summary()[0], 0)))
    log = statistics.median(logs) / LOG_EVERY
    a, b = statistics.median(plain[5:]), statistics.median(ours[5:]) + log  # the first five warm up
    spread = statistics.quantiles([(o + log) / p for p, o in zip(plain[5:], ours[5:], strict=True)], n=4)
    return {
        "net": kind.__name__,
        "weights": sum(p.numel() for p in net.parameters()),
        "event": list(event),
        "batch": batch,
        "bare_ms": 1e3 * a,
        "trainer_ms": 1e3 * b,
        "ratio": b / a,
        "ratio_quartiles": [spread[0], spread[2]],
        "pairs": pairs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=200, help="pairs of steps for each row (at least 50)")
    pairs = max(LOG_EVERY, parser.parse_args().pairs)
    torch.set_num_threads(1)
    print("network       weights        event  batch   bare ms  trainer ms   ratio  quartiles")
    rows: list[dict[str, Any]] = []
    for kind, event, batch in CASES:
        row = measure(kind, event, batch, pairs)
        rows.append(row)
        low, high = row["ratio_quartiles"]
        what = f"{row['net']:11} {row['weights']:9,} {event!s:>12} {batch:6}"
        times = f"{row['bare_ms']:9.2f} {row['trainer_ms']:11.2f} {row['ratio']:7.3f}  {low:.3f} to {high:.3f}"
        print(what, times, f"  bar {BAR}" if kind is UNet else "", flush=True)
    file = save("training_step", {"bar": BAR, "rows": rows})
    print(f"written to {file}")


if __name__ == "__main__":
    main()
