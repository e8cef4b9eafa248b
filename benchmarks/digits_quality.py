"""Quality of the main job over splits of the data: `python benchmarks/digits_quality.py`.

Trains on digits as `scoresde train` does, once for each of five splits into training and held-out items, and prints
the best of the three samplers: its sliced Wasserstein distance to held-out digits over that of the training digits
(bar: at most 1.10), the distance to the nearest training item over that of held-out digits (at least 0.9, else copies),
and the rarest and most frequent class (5 to 15 %).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import save


def train(split: int, folder: Path, settings: list[str]) -> dict[str, Any]:
    """The summary of one training."""
    run = folder / f"split-{split}"
    words = [f"run={run}", f"data.split_seed={split}", f"seed={split}", "logger=none", *settings]
    subprocess.run([sys.executable, "-m", "scoresde", "train", *words], check=True, stdout=subprocess.DEVNULL)
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("settings", nargs="*", help="further settings of scoresde train")
    arguments = parser.parse_args()
    print("split  sampler               ratio  nearest  classes", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for split in range(arguments.splits):
            summary = train(split, Path(folder), arguments.settings)
            for name, row in summary["samplers"].items():
                share = f"{100 * row['class_share_min']:.1f}-{100 * row['class_share_max']:.1f} %"
                ratio, nearest = row["sliced_wasserstein_ratio"], row["nearest_train_ratio"]
                print(f"{split:5}  {name:20} {ratio:6.3f} {nearest:8.3f}  {share}", flush=True)
                rows.append({"split": split, "sampler": name, **row})
    best = [min(r["sliced_wasserstein_ratio"] for r in rows if r["split"] == k) for k in range(arguments.splits)]
    print(f"best of three: {', '.join(f'{b:.3f}' for b in best)}; the largest is {max(best):.3f}, bar 1.10")
    print(f"written to {save('digits_quality', {'settings': arguments.settings, 'rows': rows})}")


if __name__ == "__main__":
    main()
