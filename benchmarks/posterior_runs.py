"""What posterior methods do by default on trained runs of any kind: `python benchmarks/posterior_runs.py RUN ...`.

Held-out items, of which half is seen with noise of 0.05 in model units: the first coordinate of points, all of a series
but the middle two fifths, the upper half of images. Means over the items with 95 % intervals (Student's t):

    rmse: of the mean of the samples, over what is hidden
    gain: rmse of the baseline less that, item by item; the baseline is the mean of the training items under the weights
        N(y; A x, sigma_y^2 I), the exact posterior if there were no other items
    seen: root mean square of A(x) - y of the samples, in sigma_y
    far: share of the samples that are not finite or longer than any training item by a half
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from record import save
from torch import Tensor

from scoresde import InputError, Posterior, Run, Sampler, load
from scoresde.noise import Noise
from scoresde.observation import Inpaint
from scoresde.posterior import DAPS, DPS, MMPS, DiffPIR, Gibbs, Method, PiGDM, Population, Replace, Twisted
from scoresde.results import student

SIGMA = 0.05
ROWS: dict[str, tuple[Method, int]] = {  # with steps of about 50 evaluations, or 100 where there are no products
    "mmps": (MMPS(), 50),
    "pigdm": (PiGDM(), 50),
    "dps": (DPS(), 50),
    "diffpir": (DiffPIR(), 50),
    "gibbs": (Gibbs(), 20),
    "daps": (DAPS(), 20),
    "replace": (Replace(), 50),
    "population": (Population(), 8),
    "twisted": (Twisted(particles=64), 50),
    "twisted, twist=mmps": (Twisted(particles=64, twist="mmps"), 50),
}


def observation(shape: tuple[int, ...]) -> Inpaint:
    """What is seen of an item, see above."""
    if len(shape) == 1:
        return Inpaint(shape, columns=[0], sigma_y=SIGMA)
    last = shape[-1]
    box = [3 * last // 10, 7 * last // 10] if len(shape) == 2 else [shape[1] // 2, 0, shape[1], last]
    return Inpaint(shape, box=box, sigma_y=SIGMA)


class Task:
    """Held-out items (K, *event), what is seen of them, and the mean of the training items given that."""

    def __init__(self, run: Run, items: int) -> None:
        data = run.dataset()
        self.model, self.x, self.longest = (
            run.model,
            data.heldout[:items],
            float(data.train.flatten(1).norm(dim=1).max()),
        )
        self.seen = observation(run.event_shape)
        self.y = self.seen.measure(self.x, Noise(0))
        self.hidden = self.seen.adjoint(torch.ones_like(self.y[:1]))[0] == 0
        log_w = -(self.y[:, None] - self.seen(data.train)).flatten(2).square().sum(2) / (2 * SIGMA**2)
        self.baseline = self.rmse(torch.einsum("kn,n...->k...", torch.softmax(log_w, 1), data.train))

    def rmse(self, mean: Tensor) -> Tensor:
        """(K,), over what is hidden."""
        return (mean - self.x)[:, self.hidden].square().mean(1).sqrt()

    def judged(self, x: Tensor) -> dict[str, Any]:
        """Of samples (K, n, *event)."""
        far = ~(x.flatten(2).norm(dim=2) < 1.5 * self.longest)
        kept = torch.where(far.view(*far.shape, *(1,) * (x.ndim - 2)), 0.0, x)
        rmse, n = self.rmse(kept.mean(1)), x.shape[1]
        left = (self.seen(kept.flatten(0, 1)) - self.y.repeat_interleave(n, 0)).flatten(1).square().mean(
            1
        ).sqrt() / SIGMA
        values = {"rmse": rmse, "gain": self.baseline - rmse, "seen": left.view(-1, n).mean(1)}
        found: dict[str, Any] = {key: student(own.tolist()) for key, own in values.items()}
        return found | {"far": float(far.double().mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--n", type=int, default=16, help="samples of each item")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=ROWS, help="rows")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for place in asked.runs:
        task = Task(load(place), asked.items)
        name = Path(place).name
        found[name] = {"training items": {"rmse": student(task.baseline.tolist())}}
        print(f"{name}\n{'training items':22s} rmse {student(task.baseline.tolist())}", flush=True)
        for row, (method, steps) in ROWS.items():
            if asked.only and row not in asked.only:
                continue
            if isinstance(method, Twisted):
                method = replace(method, draws=asked.n)
            posterior = Posterior(task.model, task.seen, task.y.repeat_interleave(asked.n, 0), method)
            start = time.perf_counter()
            try:
                drawn = Sampler(steps=steps).sample(posterior, n=asked.n * asked.items, seed=asked.seed, batch_size=512)
            except InputError as error:  # samples that are not finite
                print(f"{row}: {error}", flush=True)
                continue
            values = task.judged(drawn.x.unflatten(0, (-1, asked.n)))
            found[name][row] = values | {"calls": drawn.nfe, "products": drawn.products}
            spent = f"{drawn.nfe:.0f} calls, {drawn.products:.0f} products, {time.perf_counter() - start:.0f} s"
            print(f"{row:22s}", *(f"{key} {own}  " for key, own in values.items()), spent, flush=True)
    save("posterior_runs", {**vars(asked), "out": None, "rows": found}, asked.out)


if __name__ == "__main__":
    main()
