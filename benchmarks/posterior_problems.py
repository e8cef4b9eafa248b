"""Random Gaussian mixtures of which a projection is seen, and the methods that benchmarks measure at equal calls."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scoresde import GaussianMixture, Sampler
from scoresde import sde as sde_named
from scoresde import solver as solver_named
from scoresde.comparison import Ring
from scoresde.comparison.problems import Mixture
from scoresde.metrics.sliced import sliced_wasserstein
from scoresde.noise import Noise
from scoresde.observation import Projection
from scoresde.posterior import DAPS, DPS, MMPS, DiffPIR, Gibbs, Method, PiGDM, Population, RePaint, Replace, Twisted

SIZES = {"mixture_2d": (2, 8, 1), "mixture_8d": (8, 6, 3), "mixture_64d": (64, 10, 16)}  # dimension, components, rows
OTHERS = {"unequal": (8, 6, 3), "anisotropic": (8, 6, 3), "ring": (2, 8, 1)}
NOISES = (0.05, 0.3)  # sigma_y
SDE = sde_named("vp")


def mixture(name: str, seed: int) -> GaussianMixture:
    """The prior of a problem."""
    dimension, components, _ = (SIZES | OTHERS)[name]
    if name == "ring":
        return Ring(components).distribution
    data: GaussianMixture = Mixture(dimension, components, seed).distribution
    if name == "unequal":  # the rarest of 6 has a weight of 0.002
        covariances = (data.axes * data.variances[:, None]) @ data.axes.mT
        return GaussianMixture(0.3 ** torch.arange(components), data.means, covariances)
    if name == "anisotropic":  # standard deviations from 0.03 to 0.8 in each of them
        variances = torch.logspace(math.log10(0.03), math.log10(0.8), dimension, dtype=torch.float64) ** 2
        return GaussianMixture(data.weights, data.means, (data.axes * variances) @ data.axes.mT)
    return data


class Problem:
    """A mixture, one observation of an item that is drawn from it, and exact samples of its posterior.

    Attributes:
        data, observation, y, exact: what was observed, and the posterior.
        floor: distance between two sets of exact samples.
    """

    def __init__(self, name: str, seed: int, sigma_y: float, n: int) -> None:
        dimension, _, rows = (SIZES | OTHERS)[name]
        self.data = mixture(name, seed)
        self.observation = Projection((dimension,), rows=rows, seed=seed, sigma_y=sigma_y)
        self.y = self.observation.measure(self.data.sample(1, seed=100 + seed), Noise(seed))[0]
        self.exact = self.data.posterior(self.observation.matrix(), self.y, sigma_y)
        a, self.real, c, d = (self.exact.sample(n, seed=k) for k in range(1, 5))
        pairs = ((a, self.real), (c, d), (a, d), (c, self.real))
        self.floor = math.exp(sum(math.log(sliced_wasserstein(x, y)) for x, y in pairs) / len(pairs))

    def distance(self, x: Tensor) -> float:
        """Of samples (n, D) to the posterior, in floors."""
        return sliced_wasserstein(x.double(), self.real) / self.floor


Row = Callable[[Problem, int], tuple[Tensor, float, float]]  # samples, calls, products


class Setting(NamedTuple):
    """A method with a sampler.

    Attributes:
        of_n: the method for n samples, which are one population where it has some; None is the exact denoiser.
        sampler: how it samples.
    """

    of_n: Callable[[int], Method | None]
    sampler: Sampler


def settings() -> dict[str, Setting]:
    """The methods, at about 100 calls where their names do not say otherwise."""

    def of(method: Method | Callable[[int], Method] | None, rule: str, steps: int, **changes: Any) -> Setting:
        of_n = (lambda n: method) if method is None or isinstance(method, Method) else method
        return Setting(of_n, Sampler(solver_named(rule, **changes), steps=steps))

    return {
        "exact denoiser": of(None, "ancestral", 100),
        "population": of(Population(), "dpmpp_2m", 8, eta=1.0),
        "population, 200 calls": of(Population(), "dpmpp_2m", 18, eta=1.0),
        "twisted": of(lambda n: Twisted(2 * n, n), "ancestral", 50),
        "twisted, 200 calls": of(lambda n: Twisted(2 * n, n), "ancestral", 100),
        "mmps": of(MMPS(), "ancestral", 100),
        "mmps, auto": of(MMPS(), "auto", 100),
        "pigdm": of(PiGDM(), "ancestral", 100),
        "pigdm, sigma_data=0.25": of(PiGDM(sigma_data=0.25), "ancestral", 100),
        "diffpir": of(DiffPIR(), "ancestral", 100),
        **{f"dps, zeta={zeta:g}": of(DPS(zeta), "ancestral", 100) for zeta in (0.1, 0.3, 1.0)},
        "gibbs": of(Gibbs(), "ancestral", 20),
        "daps": of(DAPS(), "dpmpp_2m", 20),
        "replace": of(Replace(), "ancestral", 100),
        "repaint": of(RePaint(repeats=5, jump=5), "ancestral", 20),
    }
