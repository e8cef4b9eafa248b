"""Comparing samplers: many solvers, budgets and SDEs on one problem, from the same noise."""

from scoresde.comparison.budget import Contestant, fitting
from scoresde.comparison.measure import Race
from scoresde.comparison.plan import Plan, Reference
from scoresde.comparison.problems import Finite, Mixture, Problem, Trained
from scoresde.comparison.reference import endpoints

__all__ = [
    "Contestant",
    "Finite",
    "Mixture",
    "Plan",
    "Problem",
    "Race",
    "Reference",
    "Trained",
    "endpoints",
    "fitting",
]
