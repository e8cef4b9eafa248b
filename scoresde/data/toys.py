"""Points in the plane, made from a seed: small enough to see what a model has learned."""

import abc

import numpy as np

from scoresde.data.dataset import Dataset, assemble, check_split, split
from scoresde.data.transform import Transform
from scoresde.errors import InputError


class Toy(abc.ABC):
    """A distribution in the plane; events (2,).

    Model units are shifted to mean 0 and divided by one number for both axes, so that the training part has
    standard deviation 1 and the shape is kept.

    Args:
        n: number of points, training and held-out together.
        noise: standard deviation of the Gaussian noise on each point, in the units of the figure.
        seed: which points are drawn.
        held_out: fraction of the points that training never sees.
        split_seed: which points those are.

    Raises:
        InputError: n < 2, noise < 0, held_out outside (0, 1) or a negative seed.
    """

    def __init__(self, n: int, noise: float, seed: int, held_out: float, split_seed: int) -> None:
        check_split(held_out, split_seed)
        if n < 2:
            raise InputError(f"n: {n} is not allowed; give an integer >= 2")
        if not 0 <= noise < float("inf"):
            raise InputError(f"noise: {noise} is not allowed; give a number >= 0")
        if seed < 0:
            raise InputError(f"seed: {seed} is not allowed; give an integer >= 0")
        self.n = n
        self.noise = noise
        self.seed = seed
        self.held_out = held_out
        self.split_seed = split_seed

    @abc.abstractmethod
    def figure(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """Points (n, 2) without noise, and the piece of the figure on which each lies (n,), or None."""

    def load(self) -> Dataset:
        """Draws the points."""
        rng = np.random.default_rng(self.seed)
        points, pieces = self.figure(rng)
        points = points + self.noise * rng.standard_normal(points.shape)
        parts = split(self.n, self.held_out, self.split_seed)
        transform = Transform.standardising(points[parts[0]], "points", per_feature=False)
        return assemble(points, transform, parts, pieces)


class Moons(Toy):
    """Two half circles of radius 1 that interlock, the curves of scikit-learn's make_moons. See `Toy`."""

    def __init__(
        self, n: int = 10000, noise: float = 0.08, seed: int = 0, held_out: float = 0.2, split_seed: int = 0
    ) -> None:
        super().__init__(n, noise, seed, held_out, split_seed)

    def figure(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        moon = rng.integers(0, 2, self.n)
        angle = np.pi * rng.random(self.n)
        x, y = np.cos(angle), np.sin(angle)
        return np.stack([np.where(moon == 0, x, 1 - x), np.where(moon == 0, y, 0.5 - y)], axis=1), moon


class SwissRoll(Toy):
    """A spiral of one and a half turns, the plane of scikit-learn's make_swiss_roll over 10. See `Toy`."""

    def __init__(
        self, n: int = 10000, noise: float = 0.05, seed: int = 0, held_out: float = 0.2, split_seed: int = 0
    ) -> None:
        super().__init__(n, noise, seed, held_out, split_seed)

    def figure(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        angle = 1.5 * np.pi * (1 + 2 * rng.random(self.n))
        return np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1) / 10, None


class Checkerboard(Toy):
    """The eight dark squares of a board of 4 x 4 over [-2, 2] x [-2, 2], evenly filled. See `Toy`."""

    def __init__(
        self, n: int = 10000, noise: float = 0.0, seed: int = 0, held_out: float = 0.2, split_seed: int = 0
    ) -> None:
        super().__init__(n, noise, seed, held_out, split_seed)

    def figure(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        square = rng.integers(0, 8, self.n)
        row, column = square // 2, 2 * (square % 2) + (square // 2) % 2
        corner = np.stack([column, row], axis=1) - 2.0
        return corner + rng.random((self.n, 2)), square


class Rings(Toy):
    """Three concentric circles of radius 1, 2 and 3 that hold a third of the points each. See `Toy`."""

    def __init__(
        self, n: int = 10000, noise: float = 0.1, seed: int = 0, held_out: float = 0.2, split_seed: int = 0
    ) -> None:
        super().__init__(n, noise, seed, held_out, split_seed)

    def figure(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        ring = rng.integers(0, 3, self.n)
        angle = 2 * np.pi * rng.random(self.n)
        return (ring[:, None] + 1) * np.stack([np.cos(angle), np.sin(angle)], axis=1), ring
