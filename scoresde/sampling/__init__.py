"""Solvers, grids, correctors and the sampler that joins them."""

from scoresde.sampling.blackbox import TorchDiffEq
from scoresde.sampling.corrector import Corrector, Langevin
from scoresde.sampling.exponential import DDIM, Ancestral, DPMSolverPP2M, ExponentialMultistep
from scoresde.sampling.exponential_stages import ExponentialRungeKutta
from scoresde.sampling.grid import Grid, Karras, LambdaUniform, TimeUniform
from scoresde.sampling.runge_kutta import Heun, RungeKutta
from scoresde.sampling.sampler import Sampler, Samples
from scoresde.sampling.solver import EulerMaruyama, GridSolver, ReverseDiffusion, Solver, Step

__all__ = [
    "DDIM",
    "Ancestral",
    "Corrector",
    "DPMSolverPP2M",
    "EulerMaruyama",
    "ExponentialMultistep",
    "ExponentialRungeKutta",
    "Grid",
    "GridSolver",
    "Heun",
    "Karras",
    "LambdaUniform",
    "Langevin",
    "ReverseDiffusion",
    "RungeKutta",
    "Sampler",
    "Samples",
    "Solver",
    "Step",
    "TimeUniform",
    "TorchDiffEq",
]
