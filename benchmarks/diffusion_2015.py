"""The Gaussian chain of 2015 on a Swiss roll: its bound, its rates, and docs/pictures/diffusion_2015.png.

scoresde train experiment=diffusion_2015 run=runs/chain
python benchmarks/diffusion_2015.py runs/chain
"""

import math
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import record
import torch
from matplotlib.axes import Axes
from torch import Tensor

import scoresde
from scoresde import Ancestral, Discrete, DiscreteVPSDE, Sampler
from scoresde.chains import GaussianChain, GaussianEvidence
from scoresde.loss import VariationalBound
from scoresde.noise import Noise

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "diffusion_2015.png"
N, SEEN = 1500, 0.4  # points of a panel; standard deviation of the noise that is removed


def main() -> None:
    run = scoresde.load(sys.argv[1])
    model, data = run.model, run.dataset()
    assert isinstance(model, GaussianChain)
    sets = {"held-out": data.heldout, "training": data.items[:2000]}
    bounds = {name: VariationalBound().evaluate(model, x) for name, x in sets.items()}
    rates = model.rates.detach()
    for name, bound in bounds.items():
        print(f"{name} bound {bound.value:.3f} ± {1.96 * bound.error:.3f} nats an item")
    print(f"one Gaussian {_gaussian(data.heldout):.3f}")
    print("rates", " ".join(f"{r:.4f}" for r in rates.tolist()))
    _draw(model, data.heldout[:N], rates)
    found = {name: {"bound": b.value, "error": b.error, "terms": b.terms.tolist()} for name, b in bounds.items()}
    record.save("diffusion_2015", {"step": run.step, "items": 2000, "nats": found, "rates": rates.tolist()})


def _gaussian(x: Tensor) -> float:
    """-log of the density of the Gaussian with the moments of x, its mean over x."""
    return float(0.5 * (torch.logdet(torch.cov(x.double().T)) + x.shape[1] * math.log(2 * math.pi * math.e)))


@torch.no_grad()
def _draw(model: GaussianChain, x0: Tensor, rates: Tensor) -> None:
    figure, panels = plt.subplots(4, 5, figsize=(10, 8.4), layout="constrained")
    count, noise = len(rates), Noise(0, range(N))
    shown = [0, count // 8, count // 4, count // 2, count]
    pulled, free = [x0], [x0]
    for k, beta in enumerate(rates.float()):
        z = noise.normal("forward", k, x0.shape)
        pulled.append((1 - beta).sqrt() * pulled[-1] + beta.sqrt() * z)
        free.append(free[-1] + beta.sqrt() * z)
    for column, k in enumerate(shown):
        _points(panels[0, column], pulled[k], f"forward, step {k}")
        _points(panels[1, column], free[k], f"without the pull, step {k}")
    sampler = Sampler(Ancestral(variance="learned"), Discrete(), steps=count)
    times = Discrete().place(model.sde, count, None, None)
    x = noise.normal("prior", 0, x0.shape)
    states = [x, *(x for _, x in sampler.solver.integrate(model, times, x, noise))]
    final = sampler.sample(model, n=N).x
    for column, k in enumerate(reversed(shown)):
        _points(panels[2, column], final if k == 0 else states[count - k], f"reverse, step {k}")
    panels[3, 0].semilogy(range(1, count + 1), rates, label="learned")
    before = GaussianChain(model.net, DiscreteVPSDE("harmonic", count, float(rates[0]))).rates.detach()
    panels[3, 0].semilogy(range(1, count + 1), before, label="at first")
    panels[3, 0].set_title("rates", fontsize=8)
    panels[3, 0].legend(fontsize=7)
    posterior = Sampler(Ancestral(), Discrete(), steps=count)
    seen = x0 + SEEN * noise.normal("seen", 0, x0.shape)
    _points(panels[3, 1], seen, f"data with noise of {SEEN}")
    cleaned = posterior.sample(GaussianEvidence(model, seen, torch.full((2,), SEEN)), n=N).x
    _points(panels[3, 2], cleaned, "denoised")
    for column, value in ((3, 0.0), (4, 1.0)):
        known = torch.tensor([value, 0.0]), torch.tensor([0.0, math.inf])
        drawn = posterior.sample(GaussianEvidence(model, *known), n=300).x
        panels[3, column].plot(*x0.T, ".", ms=1, color="0.8")
        _points(panels[3, column], drawn, f"first value known: {value:g}")
    figure.savefig(PICTURE, dpi=110)


def _points(axes: Axes, x: Tensor, title: str) -> None:
    axes.plot(*x.T, ".", ms=1)
    axes.set(xlim=(-4, 4), ylim=(-4, 4), xticks=[], yticks=[], aspect="equal")
    axes.set_title(title, fontsize=8)


if __name__ == "__main__":
    main()
