"""Why the more exact sampler looks worse: `python benchmarks/fashion_ends.py runs/RUN` on Fashion-MNIST.

From the same starts: the probability-flow ODE of the network, solved by `auto`; DPM-Solver++(2M) on the 20 levels of
Karras' grid; and 2M with fine levels in place of those above, or of those below, a ratio sigma / alpha. Then the
samples of the first and 10,000 training images, their deviations from the mean image multiplied by a factor, which
shows how the Frechet distance weighs samples that are too much alike against samples that differ too much. Before all
that, without a network: the factor by which each sampler multiplies the standard deviation of Gaussian data, for those
of the principal components of the training images.
"""

import argparse
import math
from itertools import product
from typing import Any

import torch
from fashion_mnist import measured, rounded, sampler_of, spread
from record import save
from torch import Tensor

import scoresde
from scoresde.metrics import Classifier
from scoresde.metrics.features import features_of
from scoresde.sampling import DPMSolverPP2M, Explicit, Karras, Sampler
from scoresde.sampling.foresight import variance
from scoresde.sde import SDE

_STEPS = 20
_COMPONENTS = (1, 2, 5, 20, 100, 300)
_SAMPLERS = ("auto@50", "auto@20", "auto@10", "dpmpp_2m:karras@20")
_RATIOS = (0.1, 1.0, 10.0)
_FACTORS = (0.9, 0.95, 0.97, 1.0, 1.03, 1.05, 1.1)


def apart(sde: SDE, ratio: float, fine_above: bool, fine: int) -> Sampler:
    """2M on Karras' levels, but `fine` ones above or below the level nearest to sigma / alpha = ratio."""
    levels = Karras()(sde, _STEPS)
    cut = float(levels[(sde.lam(levels) + math.log(ratio)).abs().argmin()])
    above = Karras()(sde, fine, None, cut) if fine_above else levels[levels >= cut]
    below = levels[levels < cut] if fine_above else Karras()(sde, fine, cut)[1:]
    times = torch.cat((above, below)).tolist()
    return Sampler(DPMSolverPP2M(), Explicit(times), len(times))


def gaussian(run: scoresde.Run, dataset: scoresde.data.Dataset) -> dict[str, dict[str, float]]:
    """Factors of the standard deviation along principal components, for an exact score and Gaussian data."""
    x = (dataset.train - dataset.train.mean(0)).flatten(1).double()
    std = (torch.linalg.eigvalsh(x.mT @ x / len(x)).flip(0)[[k - 1 for k in _COMPONENTS]]).sqrt().tolist()
    print(f"{'component':30}" + "".join(f"{k:8}" for k in _COMPONENTS))
    print(f"{'standard deviation':30}" + "".join(f"{s:8.2f}" for s in std))
    rows = {}
    for words in _SAMPLERS:
        sampler = sampler_of(words)
        sampler.grid = sampler.grid.scaled(run.model)
        rows[words] = {f"{s:.4g}": math.sqrt(variance(sampler, run.model.sde, s)) for s in std}
        print(f"{words:30}" + "".join(f"{factor:8.3f}" for factor in rows[words].values()), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", help="the folder of the run")
    parser.add_argument("--n", type=int, default=10_000, help="samples of each set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fine", type=int, default=40, help="levels in place of Karras'")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", help="of the IDX files, if the Debian package is not installed")
    arguments = parser.parse_args()
    dataset, n = scoresde.data.FashionMNIST(arguments.folder).load(), arguments.n
    network = Classifier().network(dataset)
    real, mean = features_of(network, dataset.heldout), dataset.train.mean(0)
    run = scoresde.load(arguments.run, device=arguments.device)
    factors = gaussian(run, dataset)
    rows: dict[str, Any] = {}

    def judge(name: str, x: Tensor, **more: float) -> None:
        seen = rounded(x, dataset)
        rows[name] = {"spread": spread(seen, dataset), **more, **measured(features_of(network, seen), real)}
        listed = "".join(f"   {key} {value:.4g}" for key, value in more.items())
        print(f"{name:40}{rows[name]['spread']:8.3f}{rows[name]['frechet']:10.4f}{listed}", flush=True)

    print(f"{'':40}{'spread':>8}{'Frechet':>10}")
    for factor in _FACTORS:
        judge(f"training images, times {factor}", mean + factor * (dataset.train[:n] - mean))
    exact = None
    samplers = {words: sampler_of(words) for words in _SAMPLERS}
    for ratio, fine_above in product(_RATIOS, (True, False)):
        name = f"2M, Karras, fine {'above' if fine_above else 'below'} {ratio:g}"
        samplers[name] = apart(run.model.sde, ratio, fine_above, arguments.fine)
    for name, sampler in samplers.items():
        drawn = sampler.sample(run.model, run.event_shape, n, seed=arguments.seed)
        x = drawn.x.cpu()
        exact = x if exact is None else exact
        judge(name, x, nfe=drawn.nfe, distance=math.sqrt((x - exact).flatten(1).square().mean(1).median()))
    assert exact is not None
    for factor in _FACTORS:
        judge(f"auto@50, times {factor}", mean + factor * (exact - mean))
    content = {"config": run.config, "step": run.step, "seed": arguments.seed, "gaussian": factors, "rows": rows}
    print(f"written to {save('fashion_ends', content)}")


if __name__ == "__main__":
    main()
