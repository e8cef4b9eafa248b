from scoresde.checks.calibration import Calibration as Calibration
from scoresde.checks.ranks import ranked as ranked
from scoresde.checks.ranks import uniform as uniform
from scoresde.checks.stein import KernelStein as KernelStein
from scoresde.checks.stein import Target as Target

__all__: list[str]
