"""Weights that people have: foreign checkpoints become models of this project, and back."""

from scoresde.convert.conversion import convert
from scoresde.convert.export import to_diffusers
from scoresde.convert.levels import DiscreteVPSDE
from scoresde.convert.model import LabelledModel
from scoresde.convert.report import Report

__all__ = ["DiscreteVPSDE", "LabelledModel", "Report", "convert", "to_diffusers"]
