"""Quality over training of runs on Fashion-MNIST: `python benchmarks/learning_curve.py eps=RUN flow=RUN edm=RUN`.

From the checkpoints of each run come 2,000 samples, always from the same noise, by DPM-Solver++(2M) in 20 steps on the
path of EDM, whatever the path of the training, so that the networks are all that differs. Figures are those of
fashion_mnist.py; of so few samples they are larger than of 10,000, and the floor is that of as many training images.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from fashion_mnist import blurred, measured, named, rounded
from record import save

import scoresde
from scoresde.figures.style import DATA, FAINT, INK, SAMPLES, finished, panels, plain
from scoresde.metrics import Classifier
from scoresde.metrics.classifier import weights_hash
from scoresde.metrics.features import features_of
from scoresde.sampling import DPMSolverPP2M, Karras, Sampler

_COLOURS = (SAMPLES, DATA, "#009E73", INK)
_STEPS = 20
_TICKS = (0.1, 0.2, 0.5, 1, 2, 4)


def checkpoints(run: str) -> list[int]:
    """The training steps at which a run was kept."""
    return sorted(int(p.name.removeprefix("step-")) for p in Path(run, "checkpoints").glob("step-*"))


def curve(name: str, folder: str, n: int, steps: list[int], judge: Any) -> list[dict[str, Any]]:
    """The figures of the checkpoints of a run, or of some of them."""
    rows = []
    for step in steps or checkpoints(folder):
        run = scoresde.load(folder, step)
        model = run.model.under(named("sde", "edm"))
        drawn = Sampler(DPMSolverPP2M(), Karras(), _STEPS).sample(model, run.event_shape, n)
        images = step * run.config["trainer"]["batch_size"]
        row = {"run": name, "step": step, "images": images, **judge(drawn.x)}
        print(f"{name:20}{images:10,}{row['frechet']:10.4f}{row['kernel']:10.5f}", flush=True)
        rows.append(row)
    return rows


def draw(rows: list[dict[str, Any]], blur: float, floor: float, file: str) -> None:
    """Frechet distance over the images that a training has seen."""
    figure, ((ax,),) = panels(1, 1, 6.4, 3.9)
    for name, colour in zip(dict.fromkeys(row["run"] for row in rows), _COLOURS, strict=False):
        mine = [row for row in rows if row["run"] == name]
        x, y = [row["images"] / 1000 for row in mine], [row["frechet"] for row in mine]
        ax.plot(x, y, color=colour, marker="o", markersize=4, label=name)
    for level, words in ((blur, "test images, blurred"), (blur / 3, "a third of that"), (floor, "training images")):
        ax.axhline(level, color=FAINT, linewidth=1, zorder=0)
        place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
        ax.annotate(words, (1, level), fontsize=8, color=INK, **place)
    ax.set_yscale("log")
    ax.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    ax.minorticks_off()
    ax.legend(loc=(0.03, 0.16), frameon=False, fontsize=9)
    ax.set_xlim(0, 1.15 * max(row["images"] for row in rows) / 1000)
    ax.set_xlabel("training images seen, in thousands", fontsize=9, color=INK)
    ax.set_ylabel("Frechet distance", fontsize=9, color=INK)
    plain(ax)
    finished(figure, file, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="*", metavar="NAME=RUN", help="the folders of runs, each with a name")
    parser.add_argument("--steps", type=int, nargs="+", default=[], help="checkpoints; all unless given")
    parser.add_argument("--n", type=int, default=2000, help="samples of each checkpoint")
    parser.add_argument("--also", type=Path, help="results of an earlier call, kept beside the new ones")
    parser.add_argument("--folder", help="of the IDX files, if the Debian package is not installed")
    parser.add_argument("--picture", help="file for the curves")
    arguments = parser.parse_args()
    dataset, n = scoresde.data.FashionMNIST(arguments.folder).load(), arguments.n
    classifier = Classifier()
    network = classifier.network(dataset)
    clouds = (dataset.heldout, dataset.train[:n], blurred(dataset))
    real, floor, soft = (features_of(network, cloud) for cloud in clouds)

    def judge(x: Any) -> dict[str, float]:
        return measured(features_of(network, rounded(x.cpu(), dataset)), real)

    levels = {"training images": measured(floor, real), "test images, blurred": measured(soft, real)}
    for name, row in levels.items():
        print(f"{name:30}{row['frechet']:10.4f}{row['kernel']:10.5f}", flush=True)
    rows = json.loads(arguments.also.read_text())["rows"] if arguments.also else []
    for name, _, run in (entry.partition("=") for entry in arguments.runs):
        rows += curve(name, run, n, arguments.steps, judge)
    if arguments.picture:
        soft_distance, least = (levels[k]["frechet"] for k in ("test images, blurred", "training images"))
        draw(rows, soft_distance, least, arguments.picture)
    extractor = f"Classifier, seed {classifier.seed}, weights {weights_hash(network)}"
    content = {"n": n, "sampler": f"dpmpp_2m, karras, {_STEPS} steps, sde=edm, seed 0", "extractor": extractor}
    print(f"written to {save('learning_curve', {**content, 'levels': levels, 'rows': rows})}")


if __name__ == "__main__":
    main()
