"""Quality of the main job over splits of the data: `python benchmarks/digits_quality.py`.

Trains on digits as `scoresde train` does, once for each of five splits into training and held-out items, and prints
the best of the three samplers: its sliced Wasserstein distance to held-out digits over that of the training digits
(bar: at most 1.10), the distance to the nearest training item over that of held-out digits (at least 0.9, else copies),
and the rarest and most frequent class (5 to 15 %). Beside them the first value of as many training digits drawn with
replacement: its spread is the noise of the metric itself.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from record import save

from scoresde.data import Digits
from scoresde.metrics.sliced import sliced_wasserstein
from scoresde.results import Results


def train(split: int, folder: Path, settings: list[str]) -> dict[str, Any]:
    """The summary of one training."""
    run = folder / f"split-{split}"
    words = [f"run={run}", f"data.split_seed={split}", f"seed={split}", "logger=none", *settings]
    subprocess.run([sys.executable, "-m", "scoresde", "train", *words], check=True, stdout=subprocess.DEVNULL)
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return summary


def redrawn(split: int, n: int = 1500, draws: int = 20) -> tuple[float, float, float]:
    """Mean, lowest and highest ratio of n training digits drawn with replacement: what no sampler can beat for sure."""
    data = Digits(split_seed=split).load()
    floor = sliced_wasserstein(data.train, data.heldout)
    generator, found = torch.Generator().manual_seed(split), []
    for _ in range(draws):
        chosen = torch.randint(len(data.train), (n,), generator=generator)
        found.append(sliced_wasserstein(data.train[chosen], data.heldout) / floor)
    return sum(found) / draws, min(found), max(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("settings", nargs="*", help="further settings of scoresde train")
    arguments = parser.parse_args()
    print("split  sampler               ratio  nearest  classes", flush=True)
    rows, limits = [], []
    with tempfile.TemporaryDirectory() as folder:
        for split in range(arguments.splits):
            summary = train(split, Path(folder), arguments.settings)
            results = Results.of_content(summary["results"], "summary.json")
            for row in results.rows:
                low, high = (row.interval(f"class_share_{end}").mean for end in ("min", "max"))
                keys = ("sliced_wasserstein", "nearest_train")
                ratio, nearest = (results.ratio(row, results.quantities[key]) for key in keys)
                shares = f"{100 * low:.1f}-{100 * high:.1f} %"
                print(f"{split:5}  {row.name:20} {ratio:6.3f} {nearest:8.3f}  {shares}", flush=True)
                rows.append({"split": split, "sampler": row.name, "ratio": ratio, "nearest": nearest, **row.values})
            mean, low, high = redrawn(split)
            print(f"{split:5}  training digits again {mean:4.3f} ({low:.3f} to {high:.3f})", flush=True)
            limits.append({"split": split, "mean": mean, "lowest": low, "highest": high})
    best = [min(r["ratio"] for r in rows if r["split"] == k) for k in range(arguments.splits)]
    mean = sum(best) / len(best)
    print(f"best of three: {', '.join(f'{b:.3f}' for b in best)}; mean {mean:.3f}, largest {max(best):.3f}, bar 1.10")
    content = {"settings": arguments.settings, "rows": rows, "training_digits_again": limits}
    print(f"written to {save('digits_quality', content)}")


if __name__ == "__main__":
    main()
