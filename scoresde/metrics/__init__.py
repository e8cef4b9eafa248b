"""Figures of merit, called as `metric(samples, dataset) -> dict[str, float]` with samples in model units."""

from scoresde.metrics.classes import ClassShares, classify
from scoresde.metrics.nearest import NearestNeighbour, nearest_neighbours
from scoresde.metrics.sliced import SlicedWasserstein, sliced_wasserstein, wasserstein_1d

__all__ = [
    "ClassShares",
    "NearestNeighbour",
    "SlicedWasserstein",
    "classify",
    "nearest_neighbours",
    "sliced_wasserstein",
    "wasserstein_1d",
]
