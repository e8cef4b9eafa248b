"""Points in the plane, drawn from a seed: small enough to see what a model has learned."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from scoresde.constraints import Depth, NonNegative, NonNegativeInt, ProperFraction, at_least, fitting
from scoresde.data.dataset import Dataset, Source, assemble, split
from scoresde.data.transform import Transform


@dataclass(kw_only=True)
class Toy(Source):
    """A distribution in the plane; events (2,).

    Model units have mean 0, and one scale for both axes, so that the training part has standard deviation 1 and the
    shape is kept.

    Args:
        n: number of points, training and held-out together.
        noise: standard deviation of the Gaussian noise on each point, in the units of the shape.
        seed: which points are drawn.
        held_out: fraction of the points that training never uses.
        split_seed: which points those are.

    Raises:
        InputError: n < 2, noise < 0, held_out outside (0, 1) or a negative seed.
    """

    n: Annotated[int, at_least(2), fitting(16)] = 10000
    noise: NonNegative = 0.0
    seed: NonNegativeInt = 0
    held_out: ProperFraction = 0.2

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """Points (n, 2) without noise, and the piece of the shape on which each lies (n,), or None."""

    def load(self) -> Dataset:
        """Draw the points."""
        rng = np.random.default_rng(self.seed)
        points, pieces = self.draw(rng)
        points = points + self.noise * rng.standard_normal(points.shape)
        parts = split(self.n, self.held_out, self.split_seed)
        transform = Transform.standardising(points[parts[0]], "points", per_feature=False)
        return assemble(points, transform, parts, pieces)


@dataclass(kw_only=True)
class Moons(Toy):
    """Two half circles of radius 1 that interlock, the curves of scikit-learn's make_moons. See `Toy`."""

    noise: NonNegative = 0.08

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        moon = rng.integers(0, 2, self.n)
        angle = np.pi * rng.random(self.n)
        x, y = np.cos(angle), np.sin(angle)
        return np.stack([np.where(moon == 0, x, 1 - x), np.where(moon == 0, y, 0.5 - y)], axis=1), moon


@dataclass(kw_only=True)
class SwissRoll(Toy):
    """A spiral of one and a half turns, the plane of scikit-learn's make_swiss_roll over 10. See `Toy`."""

    noise: NonNegative = 0.05

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        angle = 1.5 * np.pi * (1 + 2 * rng.random(self.n))
        return np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1) / 10, None


@dataclass(kw_only=True)
class Checkerboard(Toy):
    """The eight dark squares of a board of 4 x 4 over [-2, 2] x [-2, 2], evenly filled. See `Toy`."""

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        square = rng.integers(0, 8, self.n)
        row, column = square // 2, 2 * (square % 2) + (square // 2) % 2
        corner = np.stack([column, row], axis=1) - 2.0
        return corner + rng.random((self.n, 2)), square


@dataclass(kw_only=True)
class Rings(Toy):
    """Three concentric circles of radius 1, 2 and 3 that hold a third of the points each. See `Toy`."""

    noise: NonNegative = 0.1

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        ring = rng.integers(0, 3, self.n)
        angle = 2 * np.pi * rng.random(self.n)
        return (ring[:, None] + 1) * np.stack([np.cos(angle), np.sin(angle)], axis=1), ring


@dataclass(kw_only=True)
class GaussianGrid(Toy):
    """Equally likely Gaussians around the points of a square lattice, 2 apart; see `Toy`.

    Args:
        side: Gaussians in a row; the class of a point is side * row + column.

    Raises:
        InputError: side < 1.

    A usual test of whether a model finds all modes: A. Srivastava et al., VEEGAN, arXiv 1705.07761, section 5.1.
    """

    n: Annotated[int, at_least(2), fitting(16)] = 50000
    noise: NonNegative = 0.05
    side: Depth = 5

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        mode = rng.integers(0, self.side**2, self.n)
        return 2.0 * np.stack([mode % self.side, mode // self.side], axis=1) - (self.side - 1), mode
