"""Training for the likelihood against plain weights, at equal steps: `python benchmarks/likelihood_training.py`.

The same network, data, noise and number of steps with several losses: the plain error of the noise at uniform times,
EDM's weight and times, which are the default (`loss=edm`), and the likelihood weight at times in proportion to it
(`loss=likelihood`) and at uniform times. Training items are
spread over the cells of their levels (`trainer.dequantise`). Measured is the negative log probability of held-out
images by uniform dequantisation, under the probability-flow ODE and as the bound of the reverse SDE, with the same
items, draws and random directions for all losses: nats of a digit, bits per dimension of Fashion-MNIST. Intervals are
those over the seeds, 95 %, also of the differences to the first loss, seed by seed. Results go to benchmarks/results/;
run it with OMP_NUM_THREADS=1.
"""

import argparse
import itertools
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import save

from scoresde import VPSDE, Likelihood, ScoreModel
from scoresde.data import Dataset, Digits, FashionMNIST
from scoresde.divergence import Divergence, ExactTrace, Hutchinson
from scoresde.likelihood.variational import decoded, diffusion, prior_mismatch
from scoresde.loss import DenoisingScoreMatching
from scoresde.nets import UNet
from scoresde.noise import Noise
from scoresde.results.interval import paired, student
from scoresde.training import Trainer

LOSSES = {
    "noise": DenoisingScoreMatching("noise"),
    "edm": DenoisingScoreMatching("edm", "log_normal"),
    "likelihood": DenoisingScoreMatching("likelihood", "lambda"),
    "likelihood, uniform times": DenoisingScoreMatching("likelihood"),
}


class Case(NamedTuple):
    """Data, the network, and how much is done."""

    source: Digits | FashionMNIST
    unit: str
    channels: int
    multipliers: tuple[int, ...]
    dropout: float
    batch: int
    rate: float
    steps: int
    items: int
    divergence: Divergence


HADAMARD = Hutchinson(4, "hadamard", fresh=True)
DATA = {
    "digits": Case(Digits(), "nats", 16, (1, 2), 0.1, 64, 2e-3, 4500, 359, ExactTrace()),
    "fashion_mnist": Case(FashionMNIST(), "bits/dim", 8, (1, 2, 4), 0.0, 32, 4e-3, 3000, 128, HADAMARD),
}
STEPS, DRAWS = 30, 64  # of the density, and of the bound


def trained(case: Case, dataset: Dataset, loss: DenoisingScoreMatching, seed: int, steps: int) -> ScoreModel:
    """A network after so many steps: its averaged weights."""
    torch.manual_seed(seed)
    net = UNet(dataset.event_shape, case.channels, case.multipliers, dropout=case.dropout)
    model = ScoreModel(net, VPSDE(), "edm", dataset.sigma_data)
    optimizer = torch.optim.Adam(model.parameters(), lr=case.rate, fused=True)
    trainer = Trainer(steps, case.batch, dequantise=True, evaluate_every=0, checkpoint_every=0, log_every=steps)
    return trainer.fit(model, dataset, loss=loss, optimizer=optimizer, seed=seed).ema


def measured(case: Case, model: ScoreModel, dataset: Dataset, items: int) -> dict[str, float]:
    """-log P of held-out items, by the ODE and by the bound of the SDE, from x uniform in the cell of width w.

    -log P <= E[-log p(x)] - D log w
    """
    sde, size, noise = model.sde, math.prod(dataset.event_shape), Noise(1)
    x0 = dataset.heldout[:: len(dataset.heldout) // items][:items].double()
    x0 = dataset.transform.dequantised(x0, noise.uniform("dequantise", 0, x0.shape))
    alpha = sde.at(sde.t_train).alpha
    density = Likelihood(divergence=case.divergence, steps=STEPS)(model, alpha * x0, seed=2)
    with torch.no_grad():
        bound = prior_mismatch(model, x0) + diffusion(model, x0, noise, DRAWS, sde.t_train).mean(1)
        bound += decoded(model, x0, noise, DRAWS, sde.t_train).mean(1)
    found = {"ode": -density.nats - size * math.log(alpha), "bound": bound}
    per = size * math.log(2) if case.unit == "bits/dim" else 1.0
    return {key: float((nats.mean() + dataset.transform.log_volume) / per) for key, nats in found.items()}


def measure(name: str, seeds: int, share: float, file: Path | None) -> list[dict[str, Any]]:
    """A row for each loss; what the file holds is not trained again."""
    case, kept = DATA[name], json.loads(file.read_text()) if file and file.is_file() else {}
    dataset, steps, items = case.source.load(), max(2, round(share * case.steps)), max(4, round(share * case.items))
    found: dict[str, list[dict[str, float]]] = {title: [] for title in LOSSES}
    for seed, (title, loss) in itertools.product(range(seeds), LOSSES.items()):
        key = f"{name}/{title}/{seed}/{steps}/{items}"
        if key not in kept:
            began = time.process_time()
            model = trained(case, dataset, loss, seed, steps)
            kept[key] = measured(case, model, dataset, items)
            print(f"{key:50} {kept[key]}  {time.process_time() - began:4.0f} s", flush=True)
            if file:
                file.write_text(json.dumps(kept))
        found[title].append(kept[key])
    about = {"data": name, **case._asdict(), "steps": steps, "items": items}
    about |= {part: repr(about[part]) for part in ("source", "divergence")}
    rows = []
    for title, runs in found.items():
        for key in runs[0]:
            own, first = ([run[key] for run in some] for some in (runs, found[next(iter(found))]))
            intervals = {"mean": student(own)[:2], "difference": paired(own, first)[:2]}
            rows.append({**about, "loss": title, "by": key, "seeds": own, **intervals})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", default=list(DATA), choices=list(DATA))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the steps and items, to see that it runs")
    parser.add_argument("--kept", type=Path, help="file of the trainings that are done, which are not made again")
    parser.add_argument("--out", type=Path, help="file for the results")
    a = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for name in a.only for row in measure(name, a.seeds, a.share, a.kept)]
    for row in rows:
        (mean, half), (gain, error) = row["mean"], row["difference"]
        what = f"{row['data']:14} {row['loss']:26} {row['by']:6}"
        print(f"{what} {mean:9.4f} ± {half:.4f} {row['unit']:8}  {gain:+9.4f} ± {error:.4f}")
    content = {"rows": rows, "density_steps": STEPS, "bound_draws": DRAWS}
    print(f"written to {save('likelihood_training', content, a.out)}")


if __name__ == "__main__":
    main()
