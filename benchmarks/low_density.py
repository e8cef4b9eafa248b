"""Two modes far apart, where Langevin dynamics loses the weights: `python benchmarks/low_density.py`.

The mixture 0.2 N((-5, -5), I) + 0.8 N((5, 5), I) of Song and Ermon 2019 (arXiv 1907.05600, section 3.2). For each seed
a residual MLP learns the plain score by sliced score matching, and another one the scores at ten geometric levels from
20 to 0.1 by denoising score matching, from new data at each step. Relative errors, sqrt(E|s - s*|^2 / E|s*|^2), are
over a grid of [-8, 8]^2, by the density there. Shares of the heavy mode are of n samples; intervals are 95 %, over
seeds for networks (t distribution) and over samples for exact scores (binomial).
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from record import save
from scipy import stats
from torch import Tensor

from scoresde import SDE, VESDE, ExactModel, GaussianMixture, Loss, Model, OneLevelSDE, Sampler, ScoreModel
from scoresde.loss import Batch, DenoisingScoreMatching, SlicedScoreMatching
from scoresde.nets import ResidualMLP
from scoresde.noise import Noise
from scoresde.sampling import AnnealedLangevinDynamics

DATA = GaussianMixture([0.2, 0.8], [[-5.0, -5.0], [5.0, 5.0]], [torch.eye(2).tolist()] * 2)
ONE, LEVELS, COUNT = OneLevelSDE(0.3, start=5.0), VESDE(0.1, 20.0), 10
PLAIN = Sampler(AnnealedLangevinDynamics(0.1 / 0.3**2, 1), steps=1000, denoise=False)  # e = 0.1 of the paper
ANNEALED = Sampler(AnnealedLangevinDynamics(0.2, 100), steps=COUNT)
BANDS = {"above 0.1 of the peak": (-2.3, 1.0), "0.001 to 0.1": (-6.9, -2.3), "below 0.001": (-math.inf, -6.9)}
REACH, CLOSE = 8.0, 1e-3  # of the grid; a noise that is none
Result = tuple[float, float]  # mean and half of the interval


def trained(sde: SDE, loss: Loss[Any], precond: Any, steps: int, seed: int) -> ScoreModel:
    """A network of conf/model/mlp.yaml, trained with batches of 512."""
    torch.manual_seed(seed)
    model = ScoreModel(ResidualMLP((2,), width=128, blocks=3), sde, precond, sigma_data=5.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        noise = Noise(seed, range(512 * step, 512 * (step + 1)))
        x0 = DATA.sample(512, seed=10**6 * (seed + 1) + step).float()
        batch = Batch(x0, noise.uniform("time", 0, 512), noise.normal("eps", 0, x0.shape), noise=noise)
        optimizer.zero_grad()
        loss(model, batch).loss.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
    return model.eval()


def grid() -> Tensor:
    line = torch.linspace(-REACH, REACH, 81, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


@torch.no_grad()
def errors(model: Model, t: float, sigma: float) -> dict[str, float]:
    """The relative error of the score of a model in each band of the density of the data."""
    x = grid()
    exact = (DATA.posterior_mean(x, 1.0, max(sigma, CLOSE)) - x) / max(sigma, CLOSE) ** 2
    wrong = (model(x.float(), t).score.double() - exact).square().sum(1)
    height = DATA.log_prob(x) - DATA.log_prob(DATA.means).max()
    found = {}
    for name, (low, high) in BANDS.items():
        inside = (height > low) & (height <= high)
        found[name] = float((wrong[inside].mean() / exact[inside].square().sum(1).mean()).sqrt())
    return found


def share(x: Tensor) -> float:
    """Of samples nearer to the heavy mode."""
    return float((x.sum(1) > 0).double().mean())


def over_seeds(values: list[float]) -> Result:
    mean, n = sum(values) / len(values), len(values)
    std = math.sqrt(sum((v - mean) ** 2 for v in values) / max(n - 1, 1))
    return mean, float(stats.t.ppf(0.975, max(n - 1, 1))) * std / math.sqrt(n)


def picture(plain: Tensor, annealed: Tensor, model: Model, file: Path) -> None:
    """The error of the plain score, and samples of both chains, all from the networks of the first seed."""
    import matplotlib.pyplot as plt

    x = grid()
    exact = (DATA.posterior_mean(x, 1.0, CLOSE) - x) / CLOSE**2
    with torch.no_grad():
        wrong = (model(x.float(), 1.0).score.double() - exact).norm(dim=1) / exact.norm(dim=1).clamp(min=0.5)
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.4), layout="constrained", sharex=True, sharey=True)
    line, side = x[::81, 0], (81, 81)
    image = axes[0].pcolormesh(line, line, wrong.reshape(side).T.clamp(max=2), cmap="Greys", vmin=0, vmax=2)
    heights = (DATA.log_prob(x) - DATA.log_prob(DATA.means).max()).reshape(side).T
    axes[0].contour(line, line, heights, levels=[-6.9, -2.3], colors="#0072B2", linewidths=1)
    figure.colorbar(image, ax=axes[0], shrink=0.8)
    axes[0].set_title("relative error of the plain score,\nand densities of 0.1 and 0.001", fontsize=10)
    for ax, points, name in ((axes[1], plain, "plain Langevin"), (axes[2], annealed, "annealed Langevin")):
        ax.scatter(*points[:2000].T, s=2, color="#0072B2", alpha=0.4, linewidths=0)
        ax.set_title(f"{name}:\n{share(points):.2f} in the mode of 0.8", fontsize=10)
    for ax in axes:
        ax.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--out", type=Path, help="file of the result")
    arguments = parser.parse_args()
    wrong: dict[str, list[dict[str, float]]] = {"plain score": [], "score at noise 20": []}
    shares: dict[str, list[float]] = {"plain Langevin": [], "annealed Langevin": []}

    def draw(sampler: Sampler, model: Model, seed: int) -> Tensor:
        return sampler.sample(model, (2,), arguments.n, seed=seed, batch_size=arguments.n).x

    for seed in range(arguments.seeds):
        plain = trained(ONE, SlicedScoreMatching(), "score", arguments.steps, seed)
        noised = trained(LEVELS, DenoisingScoreMatching(times="levels", levels=COUNT), "edm", arguments.steps, seed)
        wrong["plain score"].append(errors(plain, ONE.T, 0.0))
        wrong["score at noise 20"].append(errors(noised, LEVELS.T, LEVELS.prior_std))
        drawn = draw(PLAIN, plain, seed), draw(ANNEALED, noised, seed)
        for name, x in zip(shares, drawn, strict=True):
            shares[name].append(share(x))
        if seed == 0 and arguments.picture:
            picture(*drawn, plain, arguments.picture)
    rows: list[dict[str, Any]] = []
    for name, found in wrong.items():
        for band in BANDS:
            mean, half = over_seeds([one[band] for one in found])
            rows.append({"what": f"relative error of the {name}", "where": band, "mean": mean, "interval": half})
    for name, values in shares.items():
        mean, half = over_seeds(values)
        rows.append({"what": name, "where": "network", "mean": mean, "interval": half})
    for name, sampler, sde in (("plain Langevin", PLAIN, ONE), ("annealed Langevin", ANNEALED, LEVELS)):
        mean = share(draw(sampler, ExactModel(DATA, sde), 0))
        half = 1.96 * math.sqrt(mean * (1 - mean) / arguments.n)
        rows.append({"what": name, "where": "exact score", "mean": mean, "interval": half})
    for row in rows:
        print(f"{row['what']:40} {row['where']:24} {row['mean']:8.4f} ± {row['interval']:.4f}")
    content = {"n": arguments.n, "seeds": arguments.seeds, "steps": arguments.steps, "rows": rows}
    print(f"written to {save('low_density', content, arguments.out)}")


if __name__ == "__main__":
    main()
