from scoresde.likelihood.allocation import allocated as allocated
from scoresde.likelihood.augmented import Augmented as Augmented
from scoresde.likelihood.latent import LatentQuality as LatentQuality
from scoresde.likelihood.latent import LatentSpace as LatentSpace
from scoresde.likelihood.likelihood import Likelihood as Likelihood
from scoresde.likelihood.likelihood import LogDensity as LogDensity
from scoresde.likelihood.metric import NegativeLogLikelihood as NegativeLogLikelihood
from scoresde.likelihood.outliers import Outliers as Outliers

__all__: list[str]
