"""Solvers, grids and correctors by the names of their YAML files."""

from typing import Any

from scoresde.named import named
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.grid import Grid
from scoresde.sampling.solver import Solver


def solver(name: str, /, **changes: Any) -> Solver:
    """The solver of that name, such as `scoresde.solver("unipc_2", eta=1.0)`; see conf/solver for the names.

    Raises:
        InputError: an unknown name or argument, or a value out of range.
    """
    made: Solver = named("solver", name, **changes)
    return made


def grid(name: str, /, **changes: Any) -> Grid | None:
    """The time grid of that name, such as `scoresde.grid("karras", rho=5.0)`; None for "auto": what suits the solver.

    Raises:
        InputError: an unknown name or argument, or a value out of range.
    """
    return named("grid", name, **changes) or None


def corrector(name: str, /, **changes: Any) -> Corrector | None:
    """The corrector of that name, such as `scoresde.corrector("langevin", steps=2)`; None for "none".

    Raises:
        InputError: an unknown name or argument, or a value out of range.
    """
    return named("corrector", name, **changes) or None
