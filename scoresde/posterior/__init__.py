"""Samples of what was observed: methods that ask a model, as a prior, for its posterior given an observation."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
