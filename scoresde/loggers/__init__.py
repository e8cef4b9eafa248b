"""Loggers: every logged value goes to a file of lines in the run folder, and to Weights & Biases if wanted."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
