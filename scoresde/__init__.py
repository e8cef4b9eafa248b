"""Score-based generative modelling with stochastic differential equations."""

from scoresde.analytic import ExactModel
from scoresde.errors import InputError
from scoresde.mixture import GaussianMixture
from scoresde.model import Model, Prediction, ScoreModel
from scoresde.sampling import Sampler
from scoresde.sde import EDMSDE, SDE, SubVPSDE, VESDE, VPSDE

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
]
