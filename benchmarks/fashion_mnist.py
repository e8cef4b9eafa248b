"""Quality of a run on Fashion-MNIST: `python benchmarks/fashion_mnist.py runs/RUN`.

Draws 10,000 samples from a run of `scoresde train experiment=fashion_mnist`, rounds them to the 256 grey levels, and
holds them against the 10,000 test images in features of the project's own small classifier (not of Inception): Frechet
distance, kernel distance, precision and recall; and their spread, the root mean square deviation from the mean training
image over that of the training images. Beside them stand the same figures of real images: 10,000 training images and
half of all training images (the floors), and the test images themselves, blurred by a Gaussian of 0.7 pixels, which a
person already sees as soft. The bar is a Frechet distance below one third of that of the blurred ones.
A sampler is written SOLVER@STEPS, or SOLVER:GRID@STEPS, with files of conf/solver and conf/grid: dpmpp_2m:karras@20.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from record import save
from scipy.ndimage import gaussian_filter
from torch import Tensor

import scoresde
from scoresde import figures
from scoresde.build import build
from scoresde.data import Dataset
from scoresde.metrics import Classifier, frechet_distance, kernel_distance, precision_recall
from scoresde.metrics.classifier import weights_hash
from scoresde.metrics.features import features_of

_CONF = Path(__file__).parents[1] / "conf"
_PIXELS = 0.7
_SHOWN = 100


def named(group: str, name: str) -> Any:
    """The object of conf/<group>/<name>.yaml."""
    return build(yaml.safe_load((_CONF / group / f"{name}.yaml").read_text()))


def blurred(dataset: Dataset) -> Tensor:
    """The held-out images after a Gaussian blur, rounded to levels, in model units."""
    pixels = dataset.transform.decode(dataset.heldout).numpy()
    soft = dataset.transform.encode(gaussian_filter(pixels, (0, 0, _PIXELS, _PIXELS)))
    return rounded(soft, dataset)


def rounded(x: Tensor, dataset: Dataset) -> Tensor:
    """Items in model units as they are after they were written as 8-bit images."""
    return dataset.transform.encode(dataset.transform.finish(x))


def sampler_of(words: str) -> scoresde.Sampler:
    """The sampler SOLVER@STEPS, with the solver's own grid, or SOLVER:GRID@STEPS."""
    name, steps = words.split("@")
    solver, *grid = name.split(":")
    return scoresde.Sampler(named("solver", solver), named("grid", grid[0]) if grid else None, int(steps))


def spread(x: Tensor, dataset: Dataset) -> float:
    """Root mean square deviation of items from the mean training item, over that of the training items."""
    mean = dataset.train.mean(0)
    return float((x - mean).square().mean().sqrt() / (dataset.train - mean).square().mean().sqrt())


def measured(x: Tensor, real: Tensor) -> dict[str, float]:
    """All figures of features x (n, k) against those of real items."""
    kernel = kernel_distance(x, real, block=1000)
    shares = precision_recall(x[:: -(-len(x) // len(real))], real)  # which depend on n: at most as many as are real
    distance = frechet_distance(x, real)
    return {"n": len(x), "frechet": distance, "kernel": kernel.mean, "kernel_half": kernel.half, **shares._asdict()}


def show(name: str, row: dict[str, float]) -> None:
    print(
        f"{name:34}{row['spread']:8.3f}{row['n']:7,}{row['frechet']:10.4f}{row['kernel']:12.5f}"
        f" ±{row['kernel_half']:8.5f}{row['precision']:11.3f}{row['recall']:8.3f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", nargs="?", help="the folder of the run; without it, the real images alone")
    parser.add_argument("--n", type=int, default=10_000, help="samples of each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--samplers", nargs="+", default=["auto@20"], help="such as auto@10 dpmpp_2m:karras@20")
    parser.add_argument("--checkpoint", default="last", help="last, best or the number of a step")
    parser.add_argument("--weights", default="ema", help="ema or raw")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", help="of the IDX files, if the Debian package is not installed")
    parser.add_argument("--picture", help="file for a grid of samples beside real images")
    arguments = parser.parse_args()

    dataset = scoresde.data.FashionMNIST(arguments.folder).load()
    classifier = Classifier()
    network = classifier.network(dataset)
    extractor = f"Classifier, {classifier.features} features, {classifier.epochs} epochs, seed {classifier.seed}"
    print(f"split: official, against {len(dataset.heldout):,} test images")
    print(f"extractor: {extractor}, weights {weights_hash(network)}")
    clouds = {"training images": dataset.train[::6], "half of all training images": dataset.train[::2]}
    clouds["test images, blurred"] = blurred(dataset)
    real = features_of(network, dataset.heldout)
    print(f"\n{'':34}{'spread':>8}{'n':>7}{'Frechet':>10}{'kernel (95 %)':>22}{'precision':>11}{'recall':>8}")
    rows = {}
    for name, cloud in clouds.items():
        rows[name] = {"spread": spread(cloud, dataset), **measured(features_of(network, cloud), real)}
        show(name, rows[name])
    content: dict[str, Any] = {"split": "official, test images", "extractor": extractor, "rows": rows}
    content |= {"extractor_weights": weights_hash(network), "blur_pixels": _PIXELS, "rounding": "256 levels"}
    if arguments.run is not None:
        run = scoresde.load(arguments.run, arguments.checkpoint, arguments.device, arguments.weights)
        content |= {"step": run.step, "weights": sum(p.numel() for p in run.model.parameters()), "config": run.config}
        for words, seed in product(arguments.samplers, arguments.seeds):
            drawn = sampler_of(words).sample(run.model, run.event_shape, arguments.n, seed=seed)
            x = rounded(drawn.x.cpu(), dataset)
            row = {"spread": spread(x, dataset), **measured(features_of(network, x), real)}
            name = f"{words}, seed {seed}"
            show(name, row)
            row |= {"ratio_to_blurred": row["frechet"] / rows["test images, blurred"]["frechet"]}
            rows[name] = row | {"nfe": drawn.nfe, "seconds": drawn.seconds}
            if arguments.picture and (words, seed) == (arguments.samplers[0], arguments.seeds[0]):
                title = f"{words}, training step {run.step:,}"
                figures.picture(x[:_SHOWN], run.transform, arguments.picture, dataset.heldout[:_SHOWN], title)
    print(f"written to {save('fashion_mnist', content)}")


if __name__ == "__main__":
    main()
