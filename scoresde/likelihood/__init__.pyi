from scoresde.likelihood.augmented import Augmented as Augmented
from scoresde.likelihood.likelihood import Likelihood as Likelihood
from scoresde.likelihood.likelihood import LogDensity as LogDensity

__all__: list[str]
