"""Results: what metrics measure, a row for each sampler, one table, one report."""

from scoresde.results.interval import Interval, paired, student
from scoresde.results.metric import Measurement, Metric, Quantity, Scorer
from scoresde.results.row import Results, Row

__all__ = ["Interval", "Measurement", "Metric", "Quantity", "Results", "Row", "Scorer", "paired", "student"]
