"""Data sources: each has simple constructor arguments and `load() -> Dataset`. No SDE, no network."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
