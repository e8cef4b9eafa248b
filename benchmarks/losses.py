"""Which preconditioning, weighting and path to train with by default: EDM's, DDPM's and flow matching's, equal steps.

    python benchmarks/losses.py runs/losses            # trains what is missing there, then prints the table

Handwritten digits, two moons and a table of 30 measurements, five seeds each. The network, optimizer, batches and
random numbers are the same, so equal steps are equal time. Takes about 40 minutes on a CPU core.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

from scipy import stats
from sklearn.datasets import load_breast_cancer

SETTINGS = {
    "EDM on VP": ("sde=vp", "model.precond=edm", "loss=edm"),
    "EDM": ("sde=edm", "model.precond=edm", "loss=edm"),
    "DDPM": ("sde=vp", "model.precond=eps", "loss=noise"),
    "flow matching": ("sde=rectified", "model.precond=v", "loss=velocity"),
}
DATA = {
    "digits": ("data=digits", "trainer.steps=1200", "n=1000"),
    "moons": ("data=moons", "model=mlp", "trainer.steps=2500", "trainer.batch_size=256", "n=2000"),
    "table": ("data=array", "model=mlp", "trainer.steps=2500", "trainer.batch_size=128", "n=500"),
}
COMMON = (
    *("logger=none", "metrics=distances", "trainer.evaluate_every=0", "trainer.checkpoint_every=0"),
    *("samplers.predictor_corrector.steps=2", "samplers.dopri5.solver.rtol=1e-3", "samplers.dopri5.solver.atol=1e-3"),
)
SAMPLERS = ("dpmpp_2m", "dopri5")
SEEDS = range(5)


def train(root: Path) -> None:
    """Train what is not there yet."""
    table = root / "table.csv"
    if not table.exists():
        root.mkdir(parents=True, exist_ok=True)
        rows = load_breast_cancer().data
        table.write_text("\n".join(",".join(f"{value:.6g}" for value in row) for row in rows) + "\n")
    for seed in SEEDS:
        for data, about in DATA.items():
            for k, settings in enumerate(SETTINGS.values()):
                run = root / f"{data}-{k}-{seed}"
                if (run / "summary.json").is_file():
                    continue
                path = (f"data.path={table}",) if data == "table" else ()
                command = [sys.executable, "-m", "scoresde", "train", f"run={run}", f"seed={seed}"]
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                done = subprocess.run([*command, *COMMON, *about, *path, *settings], env=environment, check=False)
                if done.returncode:
                    raise SystemExit(f"{run} failed")


def ratio(run: Path, sampler: str) -> float:
    """Sliced Wasserstein distance of the samples to held-out data, relative to that of the training data."""
    results = json.loads((run / "summary.json").read_text())["results"]
    row = next(row for row in results["rows"] if row["name"] == sampler)
    return float(row["values"]["sliced_wasserstein"][0] / results["floors"]["sliced_wasserstein"][0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    train(arguments.folder)
    for data in DATA:
        for sampler in SAMPLERS:
            print(f"\n{data}, samples by {sampler}: distance to held-out data / the training data's, mean and 95 %")
            for k, name in enumerate(SETTINGS):
                found = [ratio(arguments.folder / f"{data}-{k}-{seed}", sampler) for seed in SEEDS]
                half = stats.t.ppf(0.975, len(found) - 1) * statistics.stdev(found) / math.sqrt(len(found))
                print(f"  {name:14} {statistics.mean(found):6.2f} +- {half:.2f}")


if __name__ == "__main__":
    main()
