"""Chains that are no Gaussian path, such as those of bits: models with their own reverse steps."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
