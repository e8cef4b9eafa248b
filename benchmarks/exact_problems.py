"""Problems with exact scores that the benchmarks of the solvers share."""

import math

import torch

from scoresde import EDMSDE, VESDE, VPSDE, GaussianMixture
from scoresde.analytic import FiniteData
from scoresde.data import Digits
from scoresde.noise import Noise

PATHS = {"vp": VPSDE(), "ve": VESDE(sigma_max=50.0), "edm": EDMSDE()}


def narrow_modes() -> GaussianMixture:
    """Eight unequal narrow modes in the plane, none in line with another."""
    noise = Noise(11)
    angle = 2 * math.pi * (torch.arange(8) + 0.3 * noise.uniform("angle", 0, 8)) / 8
    radius = 1.2 + 0.8 * noise.uniform("radius", 0, 8)
    means = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=1)
    spread = 0.05 + 0.1 * noise.uniform("spread", 0, 16).reshape(8, 2)
    return GaussianMixture(0.3 + noise.uniform("weight", 0, 8), means, torch.diag_embed(spread**2))


def anisotropic(d: int = 64, k: int = 10) -> GaussianMixture:
    """Ten Gaussians in 64 dimensions whose standard deviations along random axes fall from 1 to 0.05."""
    noise = Noise(12)
    axes, _ = torch.linalg.qr(noise.normal("axes", 0, (k, d, d), dtype=torch.float64))
    spread = 0.05 ** torch.linspace(0, 1, d, dtype=torch.float64)
    means = 0.7 * noise.normal("means", 0, (k, d), dtype=torch.float64)
    return GaussianMixture(0.3 + noise.uniform("weight", 0, k), means, (axes * spread**2) @ axes.mT)


def digits() -> FiniteData:
    """The training images of the digits as vectors."""
    return FiniteData(Digits().load().train.flatten(1))
