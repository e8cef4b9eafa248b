"""Forward diffusions: Gaussian paths x_t = alpha(t) x_0 + sigma(t) eps, each given by alpha and sigma alone."""

from scoresde.sde.base import SDE, Level, half_log_snr
from scoresde.sde.cosine import CosineSDE
from scoresde.sde.exploding import EDMSDE, VESDE
from scoresde.sde.linear import VPSDE, SubVPSDE
from scoresde.sde.rectified import RectifiedSDE
from scoresde.sde.user import DriftSDE, PathSDE

__all__ = [
    "EDMSDE",
    "SDE",
    "VESDE",
    "VPSDE",
    "CosineSDE",
    "DriftSDE",
    "Level",
    "PathSDE",
    "RectifiedSDE",
    "SubVPSDE",
    "half_log_snr",
]
