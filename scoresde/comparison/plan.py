"""What a comparison is of: the problem, the samplers, the budgets, and how often."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from scoresde.comparison.budget import Candidate
from scoresde.comparison.problems import Problem
from scoresde.errors import InputError, at_least, require
from scoresde.sde import SDE


@dataclass(frozen=True)
class Reference:
    """How the exact endpoints are computed.

    Args:
        n: how many samples of each seed are compared with their exact endpoints; 0 for none.
        tolerance: of one step, relative.

    Raises:
        InputError: a negative n, or a tolerance outside (0, 1).
    """

    n: int = 200
    tolerance: float = 1e-9

    def __post_init__(self) -> None:
        at_least(0, n=self.n)
        require(0 < self.tolerance < 1, "tolerance", self.tolerance, "give a number between 0 and 1, such as 1e-9")


@dataclass
class Plan:
    """What is to be compared.

    Args:
        problem: what is sampled.
        candidates: the samplers.
        sdes: name and SDE of each path; None is that of the model.
        budgets: network evaluations per sample.
        n: samples of each seed.
        seed: of the first repetition; the others follow.
        seeds: independent repetitions.
        metrics: by name, or in order; see `scoresde.results.Metric`.
        reference: see `Reference`.
        batch_size: samples computed at once.
        dtype: of the state.
        device: of the model.

    Raises:
        InputError: a value that leaves nothing to compare or no interval.
    """

    problem: Problem
    candidates: Sequence[Candidate]
    sdes: Mapping[str, SDE | None]
    budgets: Sequence[int]
    n: int = 500
    seed: int = 0
    seeds: int = 8
    metrics: Mapping[str, Any] | Sequence[Any] = ()
    reference: Reference = field(default_factory=Reference)
    batch_size: int = 500
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def __post_init__(self) -> None:
        most = self.problem.largest_n
        require(self.n >= 20, "n", self.n, "give at least 20, fewer say nothing about a distribution")
        if most is not None and self.n > most:
            raise InputError(f"n: {self.n} is more than the {most} training items that make the floor; give {most}")
        require(self.seeds >= 2, "seeds", self.seeds, "give at least 2, an interval needs them; 5 or more are better")
        require(bool(self.candidates), "solvers", [], "give one at least")
        names = [c.name for c in self.candidates]
        for name in names:
            require(names.count(name) == 1, "solvers", name, "each may be there once")
        small = "2 is the smallest: a step and the denoising"
        require(all(b >= 2 for b in self.budgets), "budgets", list(self.budgets), small)
        fixed = any(not c.solver.adaptive for c in self.candidates)
        require(bool(self.budgets) or not fixed, "budgets", [], "give one at least, such as budgets=[10,20]")
