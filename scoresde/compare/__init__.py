"""The honest comparison of samplers: many solvers, budgets and SDEs on one problem from the same noise."""

from scoresde.compare.budget import Contestant, fitting
from scoresde.compare.measure import Race
from scoresde.compare.plan import Plan, Reference
from scoresde.compare.problems import Finite, Mixture, Problem, Trained
from scoresde.compare.reference import endpoints

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
