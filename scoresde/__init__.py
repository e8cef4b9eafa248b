"""Score-based generative modelling with stochastic differential equations.

Names are imported when they are first asked for, so that the command line answers a mistake before torch is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scoresde._version import __version__ as __version__
from scoresde.errors import InputError

if TYPE_CHECKING:
    from scoresde.analytic import ExactModel
    from scoresde.comparison import compare
    from scoresde.control import Conditioned, Wrapper
    from scoresde.evaluations import count_evaluations
    from scoresde.mixture import GaussianMixture
    from scoresde.model import Model, ScoreModel
    from scoresde.prediction import Prediction
    from scoresde.runs import load
    from scoresde.sampling import Sampler
    from scoresde.sde import EDMSDE, SDE, VESDE, VPSDE, CosineSDE, DriftSDE, PathSDE, RectifiedSDE, SubVPSDE

__all__ = [
    "EDMSDE",
    "SDE",
    "VESDE",
    "VPSDE",
    "Conditioned",
    "CosineSDE",
    "DriftSDE",
    "ExactModel",
    "GaussianMixture",
    "InputError",
    "Model",
    "PathSDE",
    "Prediction",
    "RectifiedSDE",
    "Sampler",
    "ScoreModel",
    "SubVPSDE",
    "Wrapper",
    "compare",
    "count_evaluations",
    "load",
]

_MODULES = {
    **dict.fromkeys(("EDMSDE", "SDE", "VESDE", "VPSDE", "SubVPSDE"), "scoresde.sde"),
    **dict.fromkeys(("CosineSDE", "DriftSDE", "PathSDE", "RectifiedSDE"), "scoresde.sde"),
    **dict.fromkeys(("Model", "ScoreModel"), "scoresde.model"),
    "Prediction": "scoresde.prediction",
    **dict.fromkeys(("Conditioned", "Wrapper"), "scoresde.control"),
    "compare": "scoresde.comparison",
    "count_evaluations": "scoresde.evaluations",
    "ExactModel": "scoresde.analytic",
    "GaussianMixture": "scoresde.mixture",
    "Sampler": "scoresde.sampling",
    "load": "scoresde.runs",
}


_PARTS = (
    "control",
    "sampling",
    "nets",
    "data",
    "metrics",
    "training",
    "figures",
    "loss",
    "noise",
    "doctor",
    "comparison",
    "results",
    "tuning",
    "convert",
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if name in _PARTS:
        return import_module(f"scoresde.{name}")
    raise AttributeError(f"module 'scoresde' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
