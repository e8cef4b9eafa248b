"""Log densities by the probability-flow ODE."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
