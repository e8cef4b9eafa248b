"""Metrics, called as `metric(samples, dataset)` with samples in model units; see `scoresde.results.Metric`."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
