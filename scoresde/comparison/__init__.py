"""Comparing samplers: many solvers, budgets and SDEs on one problem, from the same noise."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
