"""Losses: what a training minimizes."""

from scoresde.loss.base import Batch, Loss, LossTerms
from scoresde.loss.dsm import DenoisingScoreMatching

__all__ = ["Batch", "DenoisingScoreMatching", "Loss", "LossTerms"]
