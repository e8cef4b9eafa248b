"""Score-based generative modelling with stochastic differential equations."""

from typing import TYPE_CHECKING, Any

from scoresde.analytic import ExactModel
from scoresde.errors import InputError
from scoresde.mixture import GaussianMixture
from scoresde.model import Model, Prediction, ScoreModel
from scoresde.sampling import Sampler
from scoresde.sde import EDMSDE, SDE, VESDE, VPSDE, SubVPSDE

if TYPE_CHECKING:
    from scoresde.runs import load

__version__ = "0.1.0"

__all__ = [
    "EDMSDE",
    "SDE",
    "VESDE",
    "VPSDE",
    "ExactModel",
    "GaussianMixture",
    "InputError",
    "Model",
    "Prediction",
    "Sampler",
    "ScoreModel",
    "SubVPSDE",
    "load",
]


def __getattr__(name: str) -> Any:
    """`scoresde.load`, imported when it is first asked for: it needs more than the models and samplers do."""
    if name == "load":
        from scoresde.runs import load

        return load
    raise AttributeError(f"module 'scoresde' has no attribute '{name}'")
