"""Weights that people have: foreign checkpoints become models of this project, and back."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
