"""Solvers, grids, correctors and the sampler that joins them."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
