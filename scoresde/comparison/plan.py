"""What a comparison is of: the problem, the samplers, the budgets, and how often."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch

from scoresde.comparison.budget import Candidate
from scoresde.comparison.problems import Problem
from scoresde.constraints import Checked, Constraint, NonNegativeInt, ProperFraction, at_least, fitting
from scoresde.errors import InputError, require
from scoresde.runs.sizes import require_batch, require_samples
from scoresde.sde import SDE

# a step and the denoising
_Budget = Annotated[int, at_least(2), fitting(1000)]
_Samples = Annotated[int, Constraint(lambda n: n >= 20, "at least 20, fewer say nothing about a distribution")]
_Seeds = Annotated[int, Constraint(lambda n: n >= 2, "at least 2, an interval needs them; 5 or more are better")]


@dataclass(frozen=True)
class Reference(Checked):
    """How the exact endpoints are computed.

    Args:
        n: how many samples of each seed are compared with their exact endpoints; 0 for none.
        tolerance: of one step, relative.

    Raises:
        InputError: a negative n, or a tolerance outside (0, 1).
    """

    n: NonNegativeInt = 200
    tolerance: ProperFraction = 1e-9


@dataclass
class Plan(Checked):
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
        device: of an exact model; others are where they are.

    Raises:
        InputError: a value that leaves nothing to compare or no interval.
    """

    problem: Problem
    candidates: Sequence[Candidate]
    sdes: Mapping[str, SDE | None]
    budgets: Sequence[_Budget]
    n: _Samples = 500
    seed: NonNegativeInt = 0
    seeds: _Seeds = 8
    metrics: Mapping[str, Any] | Sequence[Any] = ()
    reference: Reference = field(default_factory=Reference)
    batch_size: int = 500
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def __post_init__(self) -> None:
        most = self.problem.largest_n
        if most is not None and self.n > most:
            raise InputError(f"n: {self.n} is more than the {most} training items that make the floor; give {most}")
        shape = self.problem.event_shape
        require_samples(self.n, shape)
        require_batch("batch_size", min(self.n, self.batch_size), shape, self.device)
        require(bool(self.candidates), "solvers", [], "give one at least")
        names = [c.name for c in self.candidates]
        for name in names:
            require(names.count(name) == 1, "solvers", name, "each may be there once")
        fixed = any(not c.solver.adaptive for c in self.candidates)
        require(bool(self.budgets) or not fixed, "budgets", [], "give one at least, such as budgets=[10,20]")
