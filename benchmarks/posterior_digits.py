"""What posterior samples of a trained run of digits are worth: `python benchmarks/posterior_digits.py RUN`.

Held-out digits of which the top, bottom, left or right half is seen in turn, with noise of 0.05 in model units. Over
the hidden half, with 95 % intervals over the items (Student's t):

    psnr: of the mean of the samples; the range of model units is 2
    gain: psnr less that of the nearest neighbour, item by item
    class: share of the samples that a classifier of whole digits takes for the class of the truth (a support vector
        machine, trained on the training images)
    far: share of the samples that are not finite or longer than any training image by a half
    seen: root mean square of A(x) - y, in sigma_y

Nearest neighbour is the training image nearest on the seen half. Rows are methods with their solver and steps. The
samples of an item lie together in a batch, as populations need them.
"""

import argparse
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from record import save
from sklearn.svm import SVC
from torch import Tensor

from scoresde import InputError, Posterior, Sampler, load
from scoresde.noise import Noise
from scoresde.observation import Inpaint, Observation, SuperRes
from scoresde.posterior import DAPS, DPS, MMPS, DiffPIR, Gibbs, Method, PiGDM, Population, RePaint, Replace, Twisted
from scoresde.results import student
from scoresde.sampling import Auto, Solver

SIGMA = 0.05
Rows = Mapping[str, tuple[Method, Solver | None, int]]  # method, solver (None: that of the method) and steps
ROWS: Rows = {
    "mmps": (MMPS(), None, 50),
    "mmps, auto": (MMPS(), Auto(), 50),
    **{f"mmps, iterations={k}": (MMPS(iterations=k), None, 50) for k in (1, 2, 3, 5, 20)},
    **{f"mmps, {k} steps": (MMPS(), None, k) for k in (20, 100, 200)},
    "pigdm": (PiGDM(), None, 50),
    **{f"pigdm, sigma_data={sd:g}": (PiGDM(sd), None, 50) for sd in (0.5, 0.25, 0.1)},
    "dps, zeta=0.3": (DPS(0.3), None, 50),
    "dps, zeta=1": (DPS(1.0), None, 50),
    "diffpir": (DiffPIR(), None, 50),
    "gibbs": (Gibbs(), None, 20),
    "gibbs, 100 steps": (Gibbs(), None, 100),
    "population": (Population(), None, 8),
    "population, 200 calls": (Population(), None, 18),
    "daps": (DAPS(), None, 20),
    "replace": (Replace(), None, 50),
    "repaint": (RePaint(), None, 50),
    "twisted": (Twisted(particles=64, draws=8), None, 50),
}


def observations(problem: str) -> list[Observation]:
    """Those that items see in turn."""
    if problem == "superres":
        return [SuperRes((1, 8, 8), 2, sigma_y=SIGMA)]
    boxes = ([4, 0, 8, 8], [0, 0, 4, 8], [0, 4, 8, 8], [0, 0, 8, 4])
    return [Inpaint((1, 8, 8), box=box, sigma_y=SIGMA) for box in boxes]


class Task:
    """Items (K, 1, 8, 8) of one observation, with their classes, y and what a nearest neighbour says."""

    def __init__(self, observation: Observation, x: Tensor, labels: Tensor, train: Tensor) -> None:
        self.observation, self.x, self.labels = observation, x, labels
        self.y = observation.measure(x, Noise(0))
        self.hidden = (observation.adjoint(torch.ones_like(self.y[:1])) == 0)[0]
        if not self.hidden.any():  # all is seen, but not each value
            self.hidden = ~self.hidden
        apart = torch.cdist(self.y.flatten(1), observation(train).flatten(1))
        self.nearest = train[apart.argmin(1)]

    def psnr(self, mean: Tensor) -> list[float]:
        error = (mean - self.x)[:, self.hidden].square().mean(1)
        return (10 * torch.log10(4 / error)).tolist()


def judged(tasks: list[Task], found: list[Tensor], judge: SVC, longest: float) -> dict[str, list[float]]:
    """What samples (n, K, 1, 8, 8) of each task are worth, one value for each item."""
    values: dict[str, list[float]] = {"psnr": [], "gain": [], "class": [], "far": [], "seen": []}
    for task, x in zip(tasks, found, strict=True):
        far = ~(x.flatten(2).norm(dim=2) < 1.5 * longest)
        kept = torch.where(far[..., None, None, None], 0.0, x)  # what is not finite counts as an empty prediction
        own = task.psnr(kept.mean(0))
        values["psnr"] += own
        values["gain"] += [a - b for a, b in zip(own, task.psnr(task.nearest), strict=True)]
        guess = torch.as_tensor(judge.predict(kept.reshape(-1, 64).numpy())).view(far.shape)
        values["class"] += ((guess == task.labels) & ~far).double().mean(0).tolist()
        values["far"] += far.double().mean(0).tolist()
        left = torch.stack([task.observation(one) for one in kept]) - task.y
        values["seen"] += (left.flatten(2).square().mean((0, 2)).sqrt() / SIGMA).tolist()
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--problem", choices=("halves", "superres"), default="halves")
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--n", type=int, default=8, help="samples of each item")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=ROWS, help="rows")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    run = load(asked.run)
    data = run.dataset()
    train, heldout, labels, classes = data.train, data.heldout, data.heldout_labels, data.train_labels
    assert labels is not None
    assert classes is not None
    judge, longest = SVC(C=10).fit(train.flatten(1), classes), float(train.flatten(1).norm(dim=1).max())
    chosen, ways = torch.arange(asked.items), observations(asked.problem)
    turns = [chosen[k :: len(ways)] for k in range(len(ways))]
    tasks = [Task(way, heldout[rows], labels[rows], train) for way, rows in zip(ways, turns, strict=True)]
    found: dict[str, Any] = {}

    def add(name: str, drawn: list[Tensor], note: str = "") -> None:
        values = judged(tasks, drawn, judge, longest)
        found[name] = {key: student(own) for key, own in values.items() if max(own) < math.inf}
        print(f"{name:30s}", *(f"{key} {own}  " for key, own in found[name].items()), note, flush=True)

    add("truth", [task.x[None] for task in tasks])
    add("nearest neighbour", [task.nearest[None] for task in tasks])
    for name, (method, rule, steps) in ROWS.items():
        if asked.only and name not in asked.only:
            continue
        drawn, start = [], time.perf_counter()
        for task in tasks:
            posterior = Posterior(run.model, task.observation, task.y.repeat_interleave(asked.n, 0), method)
            try:
                own = Sampler(rule, steps=steps).sample(
                    posterior, n=asked.n * len(task.x), seed=asked.seed, batch_size=512
                )
            except InputError as error:  # samples that are not finite
                print(f"{name}: {error}", flush=True)
                break
            drawn.append(own.x.unflatten(0, (-1, asked.n)).transpose(0, 1))
        if len(drawn) < len(tasks):
            continue
        spent = f"{own.nfe:.0f} calls, {own.products:.0f} products, {time.perf_counter() - start:.0f} s"
        add(name, drawn, spent)
    save("posterior_digits", {**vars(asked), "out": None, "rows": found}, asked.out)


if __name__ == "__main__":
    main()
