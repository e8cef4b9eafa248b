"""Forward diffusions: Gaussian paths x_t = alpha(t) x_0 + sigma(t) eps, each given by alpha and sigma alone.

The package can be called: `scoresde.sde("vp", beta_max=15.0)` is the SDE of that name, see `scoresde.sde.by_name`.
"""

import sys
import types

from scoresde.sde import by_name
from scoresde.sde.base import SDE, Level, half_log_snr
from scoresde.sde.closed_form import EDMSDE, VESDE, VPSDE, CosineSDE, RectifiedSDE, SubVPSDE
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


class _Package(types.ModuleType):
    __call__ = staticmethod(by_name.sde)


sys.modules[__name__].__class__ = _Package
