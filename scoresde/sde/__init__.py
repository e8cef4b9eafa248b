"""Forward diffusions: Gaussian paths x_t = alpha(t) x_0 + sigma(t) eps, each given by alpha and sigma alone.

The package can be called: `scoresde.sde("vp", beta_max=15.0)` is the SDE of that name, see `scoresde.sde.by_name`.
"""

import sys
import types

from scoresde._lazy import lazy
from scoresde.sde import by_name

__getattr__, __dir__, __all__ = lazy(__name__)


class _Package(types.ModuleType):
    __call__ = staticmethod(by_name.sde)


sys.modules[__name__].__class__ = _Package
