from scoresde.likelihood.allocation import allocated as allocated
from scoresde.likelihood.augmented import Augmented as Augmented
from scoresde.likelihood.likelihood import Likelihood as Likelihood
from scoresde.likelihood.likelihood import LogDensity as LogDensity
from scoresde.likelihood.metric import NegativeLogLikelihood as NegativeLogLikelihood

__all__: list[str]
