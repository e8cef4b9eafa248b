"""Metrics, called as `metric(samples, dataset)` with samples in model units; see `scoresde.results.Metric`."""

from scoresde.metrics.classes import ClassShares, classify
from scoresde.metrics.classifier import Classifier
from scoresde.metrics.energy import EnergyDistance, energy_distance
from scoresde.metrics.frechet import FrechetDistance, frechet_distance
from scoresde.metrics.kernel import kernel_distance, polynomial_mmd2
from scoresde.metrics.manifold import precision_recall
from scoresde.metrics.mmd import MMD, median_distance, mmd2
from scoresde.metrics.nearest import NearestNeighbour, nearest_neighbours
from scoresde.metrics.quality import FeatureQuality
from scoresde.metrics.sliced import SlicedWasserstein, sliced_wasserstein, wasserstein_1d

__all__ = [
    "MMD",
    "ClassShares",
    "Classifier",
    "EnergyDistance",
    "FeatureQuality",
    "FrechetDistance",
    "NearestNeighbour",
    "SlicedWasserstein",
    "classify",
    "energy_distance",
    "frechet_distance",
    "kernel_distance",
    "median_distance",
    "mmd2",
    "nearest_neighbours",
    "polynomial_mmd2",
    "precision_recall",
    "sliced_wasserstein",
    "wasserstein_1d",
]
