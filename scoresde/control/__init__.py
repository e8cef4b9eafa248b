"""Wrappers of a model that a sampler cannot tell from a model: conditions and guidance."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
