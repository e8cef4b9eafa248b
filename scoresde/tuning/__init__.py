"""Grids and coefficients of multistep rules, tuned on a model."""

from scoresde.tuning.pilot import Error, endpoint, equal_error
from scoresde.tuning.tune import Tuning, tune

__all__ = ["Error", "Tuning", "endpoint", "equal_error", "tune"]
