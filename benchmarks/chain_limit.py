"""The SDE as the limit of chains of N levels: `python benchmarks/chain_limit.py`, with a picture by --picture.

Gaussian data, whose score is known, and the samplers of this package: a chain is affine there, so its law is found
without drawing. Wasserstein distance of that law to the one of the reverse SDE from the same prior, for 25 ... 3200
levels; the order is that between the last two. In float64.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from record import save
from torch import Tensor

from scoresde import SDE, VESDE, VPSDE, Ancestral, DiscreteVPSDE, ExactModel, GaussianMixture, Sampler, TimeUniform
from scoresde.sampling import Discrete

LEVELS = (25, 50, 100, 200, 400, 800, 1600, 3200)
MEANS, VARIANCES = (0.7, -0.4, 0.2), (0.04, 0.5, 2.0)
DATA = GaussianMixture([1.0], [list(MEANS)], torch.diag(torch.tensor(VARIANCES))[None].tolist())


class Impulses:
    """Random numbers that are 0, but for sample i + 1, which has ones in step i: what each draw becomes."""

    def normal(self, purpose: str, step: int, shape: Any, device: Any, dtype: torch.dtype) -> Tensor:
        z = torch.zeros(tuple(shape), device=device, dtype=dtype)
        z[step + 1] = 1.0
        return z


def law(sampler: Sampler, sde: SDE) -> tuple[Tensor, Tensor]:
    """Mean and variance of each coordinate of the samples, exactly."""
    rows = sampler.steps + 2  # nothing, each step, and the prior
    start = torch.zeros(rows, len(MEANS), dtype=torch.float64)
    start[-1] = sde.prior_std
    for _, x in sampler.path(ExactModel(DATA, sde), start, Impulses()):  # noqa: B007 - the last one
        pass
    return x[0], ((x[1:] - x[0]) ** 2).sum(0)


def limit(sde: SDE, s: float) -> tuple[Tensor, Tensor]:
    """Mean and variance at time s of the reverse SDE from the prior at T."""
    mean, variance = torch.tensor(MEANS, dtype=torch.float64), torch.tensor(VARIANCES, dtype=torch.float64)
    alpha, sigma = (f(torch.tensor([s, sde.T], dtype=torch.float64)) for f in (sde.alpha, sde.sigma))
    of_s, of_t = (alpha[i] ** 2 * variance + sigma[i] ** 2 for i in (0, 1))
    slope = alpha[1] / alpha[0] * of_s / of_t  # of E[x_s | x_T]
    return alpha[0] * mean - slope * alpha[1] * mean, of_s + slope**2 * (sde.prior_std**2 - of_t)


def distance(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> float:
    """Of order 2, between Gaussians with independent coordinates."""
    return float(((a[0] - b[0]) ** 2 + (a[1].sqrt() - b[1].sqrt()) ** 2).sum().sqrt())


def ddpm(n: int, variance: str) -> float:
    """DDPM with N levels from the rates of VP over N, through all of them to clean data."""
    chain = DiscreteVPSDE(levels=n, first=0.1 / n, last=20 / n)
    return distance(law(Sampler(Ancestral(variance=variance), Discrete(), n), chain), limit(VPSDE(), 0.0))


def smld(n: int, variance: str) -> float:
    """Song's chain of N geometric levels, from the largest to the smallest."""
    sde = VESDE(sigma_max=10.0)
    sampler = Sampler(Ancestral(variance=variance), TimeUniform(), n - 1, denoise=False)
    return distance(law(sampler, sde), limit(sde, sde.t_min))


CHAINS = {
    "DDPM, lower variance": lambda n: ddpm(n, "lower"),
    "DDPM, upper variance": lambda n: ddpm(n, "upper"),
    "SMLD, ancestral (eq. 47)": lambda n: smld(n, "lower"),
    "SMLD, reverse diffusion (eq. 46)": lambda n: smld(n, "upper"),
}


def draw(found: dict[str, list[float]], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.6), dpi=110, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    t = torch.linspace(0, 1, 300, dtype=torch.float64)
    left.plot(t, VPSDE().alpha(t) ** 2, color="#333333", label="VP SDE")
    for n, marker in ((25, "s"), (100, ".")):
        k = torch.arange(n, dtype=torch.float64)
        chain = DiscreteVPSDE(levels=n, first=0.1 / n, last=20 / n)
        left.plot((k + 1) / n, chain.alpha(k / (n - 1)) ** 2, marker, markersize=5, label=f"DDPM, N = {n}")
    left.set(xlabel="k / N", ylabel="alpha$^2$", title="The levels of DDPM and the path of the SDE")
    left.legend(frameon=False, fontsize=8)
    for (name, errors), colour in zip(found.items(), ("#0072B2", "#56B4E9", "#D98200", "#CC79A7"), strict=True):
        right.loglog(LEVELS[: len(errors)], errors, "o-", markersize=4, color=colour, label=name)
    ends = torch.tensor([LEVELS[0], LEVELS[-1]])
    right.loglog(ends, 4 / ends, "--", color="#999999", label="order 1: 4 / N")
    right.set(xlabel="levels N", ylabel="distance of the samples to the SDE's", title="Both chains: order 1 in 1 / N")
    right.legend(frameon=False, fontsize=8)
    for ax in (left, right):
        ax.title.set_size(10)
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--most", type=int, default=LEVELS[-1], help="of the levels")
    parser.add_argument("--picture", type=Path, help="file of a picture")
    parser.add_argument("--out", type=Path, help="file of the result")
    arguments = parser.parse_args()
    levels = [n for n in LEVELS if n <= arguments.most]
    found = {name: [error(n) for n in levels] for name, error in CHAINS.items()}
    for name, errors in found.items():
        order = math.log2(errors[-2] / errors[-1])
        print(f"{name:34} order {order:5.3f} ", *(f"{e:.2e}" for e in errors))
    if arguments.picture:
        draw(found, arguments.picture)
    content = {"levels": levels, "means": MEANS, "variances": VARIANCES, "distances": found}
    print(f"written to {save('chain_limit', content, arguments.out)}")


if __name__ == "__main__":
    main()
