"""Ten families of problems with exact scores, and seven ranges of noise; a member of a family comes from a seed.

All but `unnormalised` have mean 0 and standard deviation 1 over all values, as data of a training have.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Generator, Tensor

from scoresde import EDMSDE, SDE, VESDE, VPSDE, ExactModel, GaussianMixture, sde
from scoresde._shapes import Coefficient, expand

RANGES: dict[str, SDE] = {
    "vp": VPSDE(),
    "ve": VESDE(sigma_max=50.0),
    "edm": EDMSDE(),
    "cosine": sde("cosine"),
    "rectified": sde("rectified"),
    "subvp": sde("subvp"),
    "wide": VESDE(sigma_max=348.0),
}


class IsotropicMixture(GaussianMixture):
    """A mixture of isotropic Gaussians with standard deviations (K,), whose posterior mean needs no axes."""

    def __init__(self, weights: Tensor, means: Tensor, spread: Tensor) -> None:
        eye = torch.eye(means.shape[1], dtype=torch.float64)
        super().__init__(weights, means, spread.double()[:, None, None] ** 2 * eye)
        self.spread, self.squares = spread.double(), (self.means**2).sum(1)

    def posterior_mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        a, s = expand(alpha, x.double()), expand(sigma, x.double())
        y, r = x.double() / a, s / a
        variance = self.spread**2 + r * r
        apart = (y * y).sum(1, keepdim=True) - 2 * y @ self.means.T + self.squares
        log_density = -apart / (2 * variance) - 0.5 * self.means.shape[1] * torch.log(variance)
        p = torch.softmax(torch.log(self.weights) + log_density, 1)
        gain = self.spread**2 / variance
        return (p * (1 - gain)) @ self.means + (p * gain).sum(1, keepdim=True) * y


def moments(law: GaussianMixture) -> tuple[Tensor, float]:
    """Mean (D,) and standard deviation over all values."""
    mean = law.weights @ law.means
    between = (law.weights @ (law.means - mean) ** 2).mean()
    return mean, float((between + (law.weights @ law.variances).mean()).sqrt())


def scaled(law: GaussianMixture, factor: float, shift: Tensor) -> GaussianMixture:
    """The distribution of factor x + shift."""
    means = law.means * factor + shift
    if isinstance(law, IsotropicMixture):
        return IsotropicMixture(law.weights, means, law.spread * factor)
    covariances = (law.axes * law.variances[:, None, :]) @ law.axes.mT * factor**2
    return GaussianMixture(law.weights, means, (covariances + covariances.mT) / 2)


def normalised(law: GaussianMixture) -> GaussianMixture:
    mean, std = moments(law)
    return scaled(law, 1 / std, -mean / std)


def _uniform(g: Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=g, dtype=torch.float64)


def _normal(g: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g, dtype=torch.float64)


def _integer(g: Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high, (), generator=g))


def _single(g: Generator) -> float:
    return float(torch.rand((), generator=g))


def _angles(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float64) / n * 2 * math.pi


def _even(points: Tensor, spread: Tensor | float) -> GaussianMixture:
    """Equal Gaussians at all points."""
    spread = torch.as_tensor(spread, dtype=torch.float64)
    return IsotropicMixture(torch.ones(len(points)), points, spread.expand(len(points)))


def rings(g: Generator) -> GaussianMixture:
    """One to three narrow rings in the plane."""
    angle, points = _angles(90), []
    for radius in 0.4 + 1.6 * _uniform(g, _integer(g, 1, 4)):
        points.append(radius * torch.stack((angle.cos(), angle.sin()), 1) + 0.6 * _normal(g, 2))
    return _even(torch.cat(points), 0.03 + 0.08 * _uniform(g, 1))


def low_rank(g: Generator) -> GaussianMixture:
    """Three to seven Gaussians in 32 dimensions, each close to a plane of two to five."""
    k, rank, d = _integer(g, 3, 8), _integer(g, 2, 6), 32
    thickness = 0.01 + 0.05 * _single(g)
    axes, _ = torch.linalg.qr(_normal(g, k, d, rank))
    covariances = (axes * (0.5 + _uniform(g, k, 1, rank)) ** 2) @ axes.mT
    covariances += thickness**2 * torch.eye(d, dtype=torch.float64)
    return GaussianMixture(torch.ones(k), 0.4 * _normal(g, k, d), (covariances + covariances.mT) / 2)


def heavy(g: Generator) -> GaussianMixture:
    """One to three centres in four dimensions, each with tails from nine scales."""
    spread = torch.logspace(-1.3, 0.9, 9, dtype=torch.float64)
    weights = spread ** -(0.6 + 1.5 * _single(g))
    k = _integer(g, 1, 4)
    means = 1.5 * _normal(g, k, 4)
    return IsotropicMixture(weights.repeat(k), means.repeat_interleave(9, 0), spread.repeat(k))


def patches(g: Generator) -> GaussianMixture:
    """A kernel density of 250 patches of 4x4 pixels of the digits."""
    from sklearn.datasets import load_digits

    images, n = torch.tensor(load_digits().images, dtype=torch.float64) / 8 - 1, 250
    which, corner = torch.randint(len(images), (n,), generator=g), torch.randint(0, 5, (n, 2), generator=g)
    points = torch.stack([images[i, a : a + 4, b : b + 4].flatten() for i, (a, b) in zip(which, corner, strict=True)])
    return _even(points, (0.06 + 0.25 * _single(g)) * points.std())


def hierarchical(g: Generator) -> GaussianMixture:
    """Clusters of clusters of clusters in three dimensions."""
    means = torch.zeros(1, 3, dtype=torch.float64)
    for scale in (1.0, 0.22, 0.05):
        means = (means[:, None] + scale * _normal(g, len(means), 5, 3)).reshape(-1, 3)
    return IsotropicMixture(0.2 + _uniform(g, len(means)), means, torch.full((len(means),), 0.012, dtype=torch.float64))


def anisotropic(g: Generator) -> GaussianMixture:
    """One to seven Gaussians in 64 dimensions, with standard deviations that fall from 1 to 0.02 to 0.12."""
    k, d = _integer(g, 1, 8), 64
    axes, _ = torch.linalg.qr(_normal(g, k, d, d))
    std = (0.02 + 0.1 * _single(g)) ** torch.linspace(0, 1, d, dtype=torch.float64)
    weights, apart = 0.3 + _uniform(g, k), 0.8 * torch.rand((), generator=g)
    covariances = (axes * std**2) @ axes.mT
    return GaussianMixture(weights, apart * _normal(g, k, d), (covariances + covariances.mT) / 2)


def discrete(g: Generator) -> GaussianMixture:
    """Data of two or three levels in each of four dimensions, a little blurred."""
    levels = _integer(g, 2, 4)
    points = torch.cartesian_prod(*[torch.arange(levels, dtype=torch.float64)] * 4)
    points = points[torch.rand(len(points), generator=g) < (1.0 if levels == 2 else 0.6)]
    spread = torch.full((len(points),), 0.01 + 0.06 * _single(g), dtype=torch.float64)
    return IsotropicMixture(0.1 + _uniform(g, len(points)), points, spread)


def blobs(g: Generator) -> GaussianMixture:
    """Three to eleven Gaussians of unequal width in two to six dimensions."""
    k, d = _integer(g, 3, 12), _integer(g, 2, 7)
    return IsotropicMixture(0.2 + _uniform(g, k), _normal(g, k, d), 0.04 + 0.3 * _uniform(g, k))


def unnormalised(g: Generator) -> GaussianMixture:
    """Blobs, rings or heavy tails of a standard deviation from 0.2 to 5, off the origin."""
    law = normalised((blobs, rings, heavy)[_integer(g, 0, 3)](g))
    factor = math.exp(float(torch.empty((), dtype=torch.float64).uniform_(math.log(0.2), math.log(5), generator=g)))
    return scaled(law, factor, 0.5 * factor * torch.randn(law.event_shape[0], generator=g, dtype=torch.float64))


def curve(g: Generator) -> GaussianMixture:
    """A closed smooth curve in 16 dimensions."""
    angle, size = _angles(300), 1 / (1 + torch.arange(4, dtype=torch.float64))
    factors = _normal(g, 16, 4, 2) * size[None, :, None]
    waves = torch.stack([torch.stack((torch.cos(j * angle), torch.sin(j * angle)), 1) for j in range(1, 5)], 1)
    points = torch.einsum("njc,djc->nd", waves, factors)
    return _even(points / points.std(), 0.03 + 0.1 * _single(g))


FAMILIES: dict[str, Callable[[Generator], GaussianMixture]] = {
    f.__name__: f
    for f in (
        rings, low_rank, heavy, patches, hierarchical, anisotropic, discrete, unnormalised, curve, blobs,
    )
}  # fmt: skip


def exact_model(family: str, seed: int, path: str) -> ExactModel:
    """A member of a family on a range of noise, with its standard deviation as sigma_data."""
    law = FAMILIES[family](torch.Generator().manual_seed(1000 * list(FAMILIES).index(family) + seed))
    law = law if family == "unnormalised" else normalised(law)
    model = ExactModel(law, RANGES[path])
    model.sigma_data = moments(law)[1]
    return model


def cells(families: Sequence[str], ranges: int, seed: int) -> Iterator[tuple[str, str]]:
    """Each family with `ranges` of the seven ranges of noise, which rotate from family to family and seed to seed."""
    names = list(RANGES)
    for family in families:
        for k in range(ranges):
            yield family, names[(2 * k + list(FAMILIES).index(family) + 3 * seed) % len(names)]
