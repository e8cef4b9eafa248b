from scoresde.training.checkpoint import Checkpoint as Checkpoint
from scoresde.training.ema import Ema as Ema
from scoresde.training.job import Best as Best
from scoresde.training.job import FitResult as FitResult
from scoresde.training.job import Progress as Progress
from scoresde.training.muon import Muon as Muon
from scoresde.training.stop import Interrupted as Interrupted
from scoresde.training.stop import TrainingDiverged as TrainingDiverged
from scoresde.training.trainer import Trainer as Trainer

__all__: list[str]
