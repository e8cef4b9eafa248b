"""Forward diffusions: Gaussian paths x_t = alpha(t) x_0 + sigma(t) eps, each given by alpha and sigma alone."""

from scoresde.sde.base import SDE, Level, half_log_snr
from scoresde.sde.exploding import EDMSDE, VESDE
from scoresde.sde.linear import VPSDE, SubVPSDE

__all__ = [
    "EDMSDE",
    "SDE",
    "VESDE",
    "VPSDE",
    "Level",
    "SubVPSDE",
    "half_log_snr",
]
