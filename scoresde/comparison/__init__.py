"""Comparing samplers: many solvers, budgets and SDEs on one problem, from the same noise."""

from scoresde.comparison.api import compare
from scoresde.comparison.budget import Candidate, fitting
from scoresde.comparison.entries import candidates
from scoresde.comparison.measure import Comparison
from scoresde.comparison.output import report
from scoresde.comparison.plan import Plan, Reference
from scoresde.comparison.problems import Finite, Mixture, Problem, Trained
from scoresde.comparison.reference import endpoints

__all__ = [
    "Candidate",
    "Comparison",
    "Finite",
    "Mixture",
    "Plan",
    "Problem",
    "Reference",
    "Trained",
    "candidates",
    "compare",
    "endpoints",
    "fitting",
    "report",
]
