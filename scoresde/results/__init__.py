"""Results: what metrics measure, a row for each sampler, one table, one report."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
