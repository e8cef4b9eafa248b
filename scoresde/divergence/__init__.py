"""Divergence of a vector field: its exact trace, and unbiased estimates of it."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
