"""Score-based generative modelling with stochastic differential equations.

Names are imported when they are first asked for, so that the command line answers a mistake before torch is loaded.
"""

from typing import TYPE_CHECKING

from scoresde._lazy import lazy
from scoresde._version import __version__ as __version__

if TYPE_CHECKING:
    from scoresde.analytic import ExactModel as ExactModel
    from scoresde.comparison import compare as compare
    from scoresde.control import *  # noqa: F403
    from scoresde.data import Array as Array
    from scoresde.data import ArrayFile as ArrayFile
    from scoresde.data import Dataset as Dataset
    from scoresde.data import ImageFolder as ImageFolder
    from scoresde.described import Described as Described
    from scoresde.described import describe as describe
    from scoresde.errors import InputError as InputError
    from scoresde.evaluations import count_evaluations as count_evaluations
    from scoresde.figures import *  # noqa: F403
    from scoresde.interop import unwrap as unwrap
    from scoresde.interop import wrap as wrap
    from scoresde.loggers import Logger as Logger
    from scoresde.loggers import WandbLogger as WandbLogger
    from scoresde.loss import *  # noqa: F403
    from scoresde.mixture import GaussianMixture as GaussianMixture
    from scoresde.model import Model as Model
    from scoresde.model import ScoreModel as ScoreModel
    from scoresde.prediction import Prediction as Prediction
    from scoresde.results import Measurement as Measurement
    from scoresde.results import Metric as Metric
    from scoresde.results import Quantity as Quantity
    from scoresde.runs import Run as Run
    from scoresde.runs import load as load
    from scoresde.sampling import *  # noqa: F403
    from scoresde.sampling.by_name import corrector as corrector
    from scoresde.sampling.by_name import grid as grid
    from scoresde.sampling.by_name import solver as solver
    from scoresde.sde import *  # noqa: F403
    from scoresde.sde.by_name import sde as sde
    from scoresde.training import Interrupted as Interrupted
    from scoresde.training import Progress as Progress
    from scoresde.training import Trainer as Trainer
    from scoresde.training import TrainingDiverged as TrainingDiverged
    from scoresde.tuning import Tuning as Tuning
    from scoresde.tuning import tune as tune
    from scoresde.workflows.train import train as train

# the module of each public name; a test compares them with the names that whole packages export
_NAMES = {
    "analytic": "ExactModel",
    "comparison": "compare",
    "control": "Conditioned Wrapper",
    "data": "Array ArrayFile Dataset ImageFolder",
    "described": "Described describe",
    "errors": "InputError",
    "evaluations": "count_evaluations",
    "figures": "film flow picture score_field strip trajectories",
    "loggers": "Logger WandbLogger",
    "loss": "Batch DenoisingScoreMatching Loss LossTerms",
    "interop": "unwrap wrap",
    "mixture": "GaussianMixture",
    "model": "Model ScoreModel",
    "prediction": "Prediction",
    "results": "Measurement Metric Quantity",
    "runs": "Run load",
    "sampling": """
        Adaptive AdaptiveExponential AdaptiveRungeKutta AdaptiveSDE Ancestral AnnealedLangevin Auto AutoGrid BlackBox
        Churn ContinuousGrid Corrector Cosine DDIM DPMSolverPP2M Discrete EtaFunction EtaWindow EulerMaruyama Explicit
        ExponentialMultistep ExponentialRungeKutta Grid GridSolver Heun Karras LambdaUniform Langevin NoiseShareUniform
        Quadratic Restart ReverseDiffusion RungeKutta Sampler Samples SciPy Solver TimeUniform TorchDiffEq Tuned
        TunedGrid UnderdampedLangevin
    """,
    "sampling.by_name": "corrector grid solver",
    "sde": "CosineSDE DriftSDE EDMSDE PathSDE RectifiedSDE SDE SubVPSDE VESDE VPSDE",
    "training": "Interrupted Progress Trainer TrainingDiverged",
    "tuning": "Tuning tune",
    "workflows.train": "train",
}
_PARTS = """
    comparison control convert data doctor figures loggers loss metrics nets noise results runs sampling sde training
    tuning
"""
__getattr__, __dir__, _all = lazy(__name__, _NAMES, _PARTS)
__all__ = sorted([*_all, "sde"])
