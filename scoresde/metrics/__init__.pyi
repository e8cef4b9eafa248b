from scoresde.metrics.classifier import Classifier as Classifier
from scoresde.metrics.discrepancy import MMD as MMD
from scoresde.metrics.discrepancy import EnergyDistance as EnergyDistance
from scoresde.metrics.discrepancy import energy_distance as energy_distance
from scoresde.metrics.discrepancy import median_distance as median_distance
from scoresde.metrics.discrepancy import mmd2 as mmd2
from scoresde.metrics.feature_distances import frechet_distance as frechet_distance
from scoresde.metrics.feature_distances import frechet_infinite as frechet_infinite
from scoresde.metrics.feature_distances import kernel_distance as kernel_distance
from scoresde.metrics.feature_distances import polynomial_mmd2 as polynomial_mmd2
from scoresde.metrics.manifold import density_coverage as density_coverage
from scoresde.metrics.manifold import precision_recall as precision_recall
from scoresde.metrics.modes import Modes as Modes
from scoresde.metrics.nearest import ClassShares as ClassShares
from scoresde.metrics.nearest import NearestNeighbour as NearestNeighbour
from scoresde.metrics.nearest import classify as classify
from scoresde.metrics.nearest import nearest_neighbours as nearest_neighbours
from scoresde.metrics.quality import FeatureQuality as FeatureQuality
from scoresde.metrics.quality import FrechetDistance as FrechetDistance
from scoresde.metrics.sliced import SlicedWasserstein as SlicedWasserstein
from scoresde.metrics.sliced import sliced_wasserstein as sliced_wasserstein
from scoresde.metrics.sliced import wasserstein_1d as wasserstein_1d

__all__: list[str]
