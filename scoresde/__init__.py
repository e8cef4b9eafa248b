"""Score-based generative modelling with stochastic differential equations.

The public names are those of __init__.pyi. They are imported when they are first asked for, so that the command line
answers a mistake before torch is loaded.
"""

from scoresde._lazy import lazy
from scoresde._version import __version__ as __version__

_PARTS = """
    comparison control convert data doctor figures loggers loss metrics nets noise posterior results runs sampling sde
    training tuning
"""
__getattr__, __dir__, __all__ = lazy(__name__, _PARTS)
