"""Training: the loop, averages of the weights, checkpoints and exact resuming."""

from scoresde.training.checkpoint import Checkpoint
from scoresde.training.ema import Ema
from scoresde.training.job import Best, FitResult, Progress
from scoresde.training.muon import Muon
from scoresde.training.stop import Interrupted, TrainingDiverged
from scoresde.training.trainer import Trainer

__all__ = ["Best", "Checkpoint", "Ema", "FitResult", "Interrupted", "Muon", "Progress", "Trainer", "TrainingDiverged"]
