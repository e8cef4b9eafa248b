"""Observations y = A(x) + sigma_y n: what is seen of an item, from which a posterior method infers the rest."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
