"""Score-based generative modelling with stochastic differential equations.

Names are imported when they are first asked for, so that the command line answers a mistake before torch is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scoresde._version import __version__ as __version__
from scoresde.errors import InputError as InputError

if TYPE_CHECKING:
    from scoresde.analytic import ExactModel as ExactModel
    from scoresde.comparison import compare as compare
    from scoresde.control import *  # noqa: F403
    from scoresde.evaluations import count_evaluations as count_evaluations
    from scoresde.interop import unwrap as unwrap
    from scoresde.interop import wrap as wrap
    from scoresde.mixture import GaussianMixture as GaussianMixture
    from scoresde.model import Model as Model
    from scoresde.model import ScoreModel as ScoreModel
    from scoresde.prediction import Prediction as Prediction
    from scoresde.runs import load as load
    from scoresde.sampling import *  # noqa: F403
    from scoresde.sampling.by_name import corrector as corrector
    from scoresde.sampling.by_name import grid as grid
    from scoresde.sampling.by_name import solver as solver
    from scoresde.sde import *  # noqa: F403
    from scoresde.sde.by_name import sde as sde
    from scoresde.tuning import Tuning as Tuning
    from scoresde.tuning import tune as tune
    from scoresde.workflows.train import train as train

# the module of each public name; a test compares them with the names that whole packages export
_NAMES = {
    "analytic": "ExactModel",
    "comparison": "compare",
    "control": "Conditioned Wrapper",
    "evaluations": "count_evaluations",
    "interop": "unwrap wrap",
    "mixture": "GaussianMixture",
    "model": "Model ScoreModel",
    "prediction": "Prediction",
    "runs": "load",
    "sampling": """
        Adaptive AdaptiveExponential AdaptiveRungeKutta AdaptiveSDE Ancestral AnnealedLangevin Auto AutoGrid BlackBox
        Churn ContinuousGrid Corrector Cosine DDIM DPMSolverPP2M Discrete EtaFunction EtaWindow EulerMaruyama Explicit
        ExponentialMultistep ExponentialRungeKutta Grid GridSolver Heun Karras LambdaUniform Langevin NoiseShareUniform
        Quadratic Restart ReverseDiffusion RungeKutta Sampler Samples SciPy Solver TimeUniform TorchDiffEq Tuned
        TunedGrid UnderdampedLangevin
    """,
    "sampling.by_name": "corrector grid solver",
    "tuning": "Tuning tune",
    "workflows.train": "train",
    "sde": "CosineSDE DriftSDE EDMSDE PathSDE RectifiedSDE SDE SubVPSDE VESDE VPSDE",
}
_MODULES = {name: f"scoresde.{module}" for module, names in _NAMES.items() for name in names.split()}
__all__ = sorted(["InputError", *_MODULES, "sde"])

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
    "sde",
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
    return sorted([*globals(), *_MODULES, *_PARTS])
