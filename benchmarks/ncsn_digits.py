"""Digits of the networks of 2019 and 2020: `python benchmarks/ncsn_digits.py ncsn=runs/a ncsn2=runs/b`.

Each run is one of `scoresde train experiment=NAME`; several of a name are seeds. Prints the sliced Wasserstein
distance to held-out digits over its floor from the final samples of each run, for annealed Langevin dynamics and for
two samplers of the SDE with the same network, or for `--samplers`, and its mean over the seeds with Student's interval;
draws samples of the first run of each name beside digits.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import torch
from record import save

import scoresde
from scoresde.build import build
from scoresde.results.interval import student

SAMPLERS = ("annealed_langevin", "predictor_corrector", "dpmpp_2m")
ROWS, COLUMNS = 4, 8


def sheet(x: torch.Tensor) -> torch.Tensor:
    """Images (N, 1, 8, 8) as one, with a gap between them."""
    padded = torch.nn.functional.pad(x[: ROWS * COLUMNS, 0], (0, 1, 0, 1), value=0.5)
    rows = padded.reshape(ROWS, COLUMNS, 9, 9).permute(0, 2, 1, 3)
    return rows.reshape(ROWS * 9, COLUMNS * 9)


def picture(runs: dict[str, scoresde.Run], file: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(runs) + 1, figsize=(3.2 * (len(runs) + 1), 1.9), layout="constrained")
    shown = {}
    for name, run in runs.items():
        sampler = build(run.config["samplers"]["annealed_langevin"])
        drawn = run.sample(ROWS * COLUMNS, sampler=sampler, seed=1)
        shown[f"{name}, {drawn.nfe:.0f} evaluations"] = drawn.x
    shown["digits"] = run.dataset().heldout
    for ax, (title, x) in zip(axes, shown.items(), strict=True):
        ax.imshow(sheet(x.cpu().clamp(-1, 1)), cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
        ax.set_title(title, fontsize=9)
        ax.axis("off")
    figure.savefig(file, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--samplers", nargs="*", default=SAMPLERS, help="by their names in the runs")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--out", type=Path, help="file of the result")
    arguments, first, rows = parser.parse_args(), dict[str, scoresde.Run](), list[dict[str, Any]]()
    for text in arguments.runs:
        name, _, folder = text.partition("=")
        run = scoresde.load(folder, device="cpu")
        first.setdefault(name, run)
        content = run.summary["results"]
        floors = content["floors"]["sliced_wasserstein"]
        for row in content["rows"]:
            if row["label"] in arguments.samplers and row["values"]:
                ratio = row["values"]["sliced_wasserstein"][0] * len(floors) / sum(floors)
                seconds = run.summary["training_seconds"]
                rows.append({"name": name, "seed": run.config["seed"], "sampler": row["label"], "nfe": row["nfe"]})
                rows[-1] |= {"x_floor": ratio, "training_seconds": seconds, "n": content["n"], "steps": run.step}
                print(f"{name:8} {row['label']:20} {row['nfe']:6.0f} NFE   {ratio:5.2f} x floor   {seconds:.0f} s")
    for name, sampler in product(first, arguments.samplers):
        ratios = [row["x_floor"] for row in rows if (row["name"], row["sampler"]) == (name, sampler)]
        if ratios:
            print(f"{name:8} {sampler:20} {student(ratios)} x floor over {len(ratios)} seeds")
    if arguments.picture:
        picture(first, arguments.picture)
    print(f"written to {save('ncsn_digits', {'rows': rows}, arguments.out)}")


if __name__ == "__main__":
    main()
