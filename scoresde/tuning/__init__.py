"""Grids and coefficients of `Auto`, tuned on a model."""

from scoresde.tuning.pilot import Error
from scoresde.tuning.tune import Tuning, planned, tune

__all__ = ["Error", "Tuning", "planned", "tune"]
