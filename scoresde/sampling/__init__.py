"""Solvers, grids, correctors and the sampler that joins them."""

from scoresde.dynamics import EtaFunction, EtaWindow
from scoresde.sampling.adaptive import Adaptive
from scoresde.sampling.auto import Auto, AutoGrid
from scoresde.sampling.blackbox import BlackBox, SciPy, TorchDiffEq
from scoresde.sampling.corrector import AnnealedLangevin, Corrector, Langevin, UnderdampedLangevin
from scoresde.sampling.embedded import AdaptiveExponential, AdaptiveRungeKutta, AdaptiveSDE
from scoresde.sampling.exponential import DDIM, Ancestral, DPMSolverPP2M, ExponentialMultistep
from scoresde.sampling.exponential_stages import ExponentialRungeKutta
from scoresde.sampling.grid import (
    ContinuousGrid,
    Cosine,
    Grid,
    Karras,
    LambdaUniform,
    NoiseShareUniform,
    Quadratic,
    TimeUniform,
)
from scoresde.sampling.listed import Discrete, Explicit
from scoresde.sampling.runge_kutta import Heun, RungeKutta
from scoresde.sampling.sampler import Sampler, Samples
from scoresde.sampling.solver import EulerMaruyama, GridSolver, ReverseDiffusion, Solver
from scoresde.sampling.solver import Step as Step
from scoresde.sampling.tuned import Tuned, TunedGrid
from scoresde.sampling.wrappers import Churn, Restart

__all__ = [
    "DDIM",
    "Adaptive",
    "AdaptiveExponential",
    "AdaptiveRungeKutta",
    "AdaptiveSDE",
    "Ancestral",
    "AnnealedLangevin",
    "Auto",
    "AutoGrid",
    "BlackBox",
    "Churn",
    "ContinuousGrid",
    "Corrector",
    "Cosine",
    "DPMSolverPP2M",
    "Discrete",
    "EtaFunction",
    "EtaWindow",
    "EulerMaruyama",
    "Explicit",
    "ExponentialMultistep",
    "ExponentialRungeKutta",
    "Grid",
    "GridSolver",
    "Heun",
    "Karras",
    "LambdaUniform",
    "Langevin",
    "NoiseShareUniform",
    "Quadratic",
    "Restart",
    "ReverseDiffusion",
    "RungeKutta",
    "Sampler",
    "Samples",
    "SciPy",
    "Solver",
    "TimeUniform",
    "TorchDiffEq",
    "Tuned",
    "TunedGrid",
    "UnderdampedLangevin",
]
