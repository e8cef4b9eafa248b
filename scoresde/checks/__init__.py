"""Checks of posterior samples that need no draws of the posterior."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
