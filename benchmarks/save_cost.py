"""What a checkpoint with checksums costs beside torch.save of the same tensors: `python benchmarks/save_cost.py`.

The tensors are those of a network and a training with Adam: weights, their average and two moments, 256 MB together.
Both files are flushed to the same disk. The two are written in turn, each first in half of the pairs; the figure is the
median of the ratios of all pairs, with its 95 % interval from order statistics. Results go to benchmarks/results/.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import save as save_record
from scipy import stats
from torch import Tensor

from scoresde.files import flush
from scoresde.training.checkpoint import Checkpoint, save
from scoresde.training.manifest import damage

BAR = 1.5
WIDTHS = (64, 128, 256, 384, 512)  # of the levels of a U-Net


def network(megabytes: float) -> dict[str, Tensor]:
    """Convolutions and their biases, a quarter of so many MB."""
    left, found = int(megabytes * 1e6 / 4 / 4), {}
    generator = torch.Generator().manual_seed(0)
    for k in range(10**6):
        width = WIDTHS[k % len(WIDTHS)]
        for name, shape in (("weight", (width, width, 3, 3)), ("bias", (width,))):
            size = torch.Size(shape).numel()
            if size > left:
                return {**found, "rest": torch.randn(left, generator=generator)}
            found[f"{k}.{name}"] = torch.randn(shape, generator=generator)
            left -= size
    raise AssertionError


def checkpoint(megabytes: float) -> Checkpoint:
    """A training whose tensors have so many MB together."""
    weights = network(megabytes)
    average = {name: tensor + 0.01 for name, tensor in weights.items()}
    moments = {f"{kind}.{name}": tensor * 0.1 for kind in ("exp_avg", "exp_avg_sq") for name, tensor in weights.items()}
    return Checkpoint(1, {"model": weights, "ema": average}, moments, {"seed": 0})


def timed(action: Callable[[], object]) -> float:
    os.sync()  # what others have written is not waited for
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure(megabytes: float, pairs: int, place: Path) -> dict[str, Any]:
    given = checkpoint(megabytes)
    tensors = {**given.modules, "optimizer": given.optimizer}
    plain, ours, file = [], [], place / "plain.pt"

    def of_torch() -> None:
        torch.save(tensors, file)
        flush(file)

    for k in range(pairs + 1):
        for which in (k % 2, 1 - k % 2):
            seconds = timed((lambda: save(place, given)) if which else of_torch)
            (ours if which else plain).append(seconds)
        written = place / "checkpoints" / "step-00000001"
        assert damage(written) is None
        file.unlink()
        shutil.rmtree(written)
    plain, ours = plain[1:], ours[1:]  # the first warms up
    ratios = sorted(a / b for a, b in zip(ours, plain, strict=True))
    low = max(0, int(stats.binom.ppf(0.025, pairs, 0.5)) - 1)
    return {
        "megabytes": sum(t.nbytes for m in tensors.values() for t in m.values()) / 1e6,
        "tensors": sum(map(len, tensors.values())),
        "torch_save_s": statistics.median(plain),
        "save_s": statistics.median(ours),
        "ratio": statistics.median(ratios),
        "interval": [ratios[low], ratios[-1 - low]],
        "pairs": pairs,
        "load": os.getloadavg(),
        "bar": BAR,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=256)
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--place", type=Path, help="a folder on the disk that is written to")
    parser.add_argument("--out", type=Path, help="file of the results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=given.place) as place:
        row = measure(given.megabytes, given.pairs, Path(place))
    low, high = row["interval"]
    print(f"{row['megabytes']:.0f} MB in {row['tensors']} tensors, {row['pairs']} pairs, load {row['load'][0]:.1f}")
    print(f"torch.save {row['torch_save_s']:.3f} s, a checkpoint {row['save_s']:.3f} s")
    print(f"ratio {row['ratio']:.2f} ({low:.2f} to {high:.2f}), bar {BAR}")
    print(f"written to {save_record('save_cost', row, given.out)}")


if __name__ == "__main__":
    main()
