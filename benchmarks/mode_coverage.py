"""Does a model sample every mode? Diffusion and a small GAN, equally long: `python benchmarks/mode_coverage.py`.

Trains the presets gaussians_25 and stacked_digits once for each of three seeds, and after each a GAN (see gan.py) for
as much CPU time as the training took, on one thread. Of each 30,000 samples: modes found, divergence of their shares
from equal ones, and share of samples that lie in a mode, beside real items; and by the usual protocols: of
2,500 samples of the Gaussians, and of 26,000 stacks that count whatever the classifier says. Intervals are Student's
over the seeds. `--picture` draws docs/lineage/coverage.png from the newest results instead.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from gan import GAN
from mode_coverage_picture import draw
from record import save
from torch import Tensor

from scoresde import Sampler, load
from scoresde.cli.main import main as command
from scoresde.data import Dataset, GaussianGrid, StackedDigits
from scoresde.metrics import Modes
from scoresde.results.interval import student
from scoresde.results.metric import evenly
from scoresde.training import Trainer

N = 30_000
# the steps of the sampler, the usual protocol, and the best of a few plain GANs
PROBLEMS: dict[str, dict[str, Any]] = {
    "gaussians_25": {
        "data": GaussianGrid(), "metric": {}, "steps": 20, "usual": 2500,
        "gan": {"width": 128, "latent": 2},
    },
    "stacked_digits": {
        "data": StackedDigits(), "metric": {"base": 10}, "steps": 10, "usual": 26_000,
        "gan": {"width": 32, "batch": 64},
    },
}  # fmt: skip


def diffusion(preset: str, seed: int, steps: int) -> tuple[Tensor, float]:
    """N samples of a preset that is trained as `scoresde train` does, and the CPU seconds of its training alone."""
    seconds, fit = [], Trainer.fit

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        result = fit(*args, **kwargs)
        seconds.append(time.process_time() - start)
        return result

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(Trainer, "fit", timed):
        run = Path(folder) / "run"
        words = [f"experiment={preset}", f"seed={seed}", f"run={run}", "logger=none", "n=10", "trainer.auto_check=0"]
        if command(["train", *words]):
            raise SystemExit(f"{preset} was not trained")
        return Sampler(steps=steps).sample(load(run).model, n=N, seed=seed).x, seconds[0]


def measured(samples: Tensor, dataset: Dataset, metric: Modes, usual: int) -> dict[str, float]:
    """The quantities of all samples, and the modes found by the usual protocol."""
    plain = Modes(metric.classifier, confidence=0, base=metric.base, equal=True)
    found = {key: one.value for key, one in metric(samples, dataset).items()}
    other = plain(samples[:usual], dataset)
    return {**found, "usual_found": other["modes_found"].value, "usual_divergence": other["mode_divergence"].value}


def one_problem(name: str, seeds: Sequence[int], gamma: float) -> dict[str, Any]:
    """The measurements of every seed, and what the picture shows of the first."""
    given = PROBLEMS[name]
    dataset, metric = given["data"].load(), Modes(equal=True, **given["metric"])
    rows: dict[str, list[dict[str, float]]] = {"diffusion": [], "GAN": []}
    shown: dict[str, Any] = {}
    real = evenly(dataset.train, N)
    for seed in seeds:
        x, seconds = diffusion(name, seed, given["steps"])
        for label in rows:
            row = {"seconds": seconds}
            if label == "GAN":
                gan = GAN(dataset, seconds, seed, gamma=gamma, **given["gan"])
                x, row["steps"] = gan.sample(N, seed), gan.steps
            rows[label].append(row | measured(x, dataset, metric, given["usual"]))
            print(name, seed, label, rows[label][-1], flush=True)
            if seed == 0:
                points = dataset.transform.decode(x[:3000]).tolist() if x.ndim == 2 else []
                counts = torch.bincount(metric.assign(x, dataset).modes).tolist()
                shown[label] = {"counts": counts, "points": [[round(v, 3) for v in p] for p in points]}
    floor = measured(real, dataset, metric, given["usual"])
    # the classifier is surer of what it has seen
    floor["in_modes"] = metric(dataset.heldout, dataset)["in_modes"].value
    return {"steps": given["steps"], "n": N, "usual": given["usual"], "rows": rows, "floor": floor, "shown": shown}


def table(results: dict[str, Any]) -> None:
    """Mean over seeds with intervals."""
    keys = ("seconds", "modes_found", "mode_divergence", "in_modes", "usual_found", "usual_divergence")
    for name, problem in results.items():
        print(f"\n{name:16}" + "".join(f"{key:>20}" for key in keys))
        for label, rows in problem["rows"].items():
            print(f"{label:16}" + "".join(f"{student([row[key] for row in rows])!s:>20}" for key in keys))
        print(f"{'real items':16}" + "".join(f"{problem['floor'].get(key, float('nan')):>20.4g}" for key in keys))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--gamma", type=float, default=0.0, help="weight of the penalty R1 of the GAN")
    parser.add_argument("--picture", action="store_true", help="draw the picture of the newest results")
    arguments = parser.parse_args()
    if arguments.picture:
        newest = max((Path(__file__).parent / "results").glob("mode_coverage-*.json"))
        content = json.loads(newest.read_text())["problems"]
        table(content)
        draw(content)
        return
    torch.set_num_threads(1)
    content = {name: one_problem(name, range(arguments.seeds), arguments.gamma) for name in PROBLEMS}
    table(content)
    found = {"gamma": arguments.gamma, "seeds": arguments.seeds, "problems": content}
    print(f"written to {save('mode_coverage', found)}")
    draw(content)


if __name__ == "__main__":
    main()
