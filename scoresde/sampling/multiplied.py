"""Posterior sampling as in 2015: reverse steps of a chain, each multiplied with a second distribution."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Literal

import torch
from torch import Tensor

from scoresde.chains.evidence import Evidence
from scoresde.constraints import Positive
from scoresde.errors import InputError, require
from scoresde.model import Model
from scoresde.sampling.bits import BitFlips
from scoresde.sampling.exponential import Ancestral
from scoresde.sampling.solver import Draw, GridSolver, Step
from scoresde.sde import SDE


@dataclass(frozen=True, repr=False)
class MultipliedSteps(GridSolver):
    """Reverse steps, each multiplied with the second distribution of a `scoresde.chains.Evidence` and normalised.

        p~(x_s | x_t)  proportional to  p(x_s | x_t) r(x_s)^c

        schedule   c
        constant   power
        rising     power (1 - s / T)

    Gaussian r and bits are multiplied in closed form; a smooth r moves the mean, see `scoresde.chains.SmoothEvidence`.
    In the limit of short steps g^2 c grad log r is added to the drift of the reverse SDE. This is not the posterior:
    on data of unit variance a constant c leads to p r^(2c), so that the power 1/2 is exact there.
    Sohl-Dickstein et al. 2015 (arXiv 1503.03585), section 2.5 and table app.1.

    Args:
        solver: the reverse steps, `Ancestral` at eta=1 or `BitFlips`; by default those for the states of the model.
        schedule: see above.
        power: see above.

    Raises:
        InputError: another solver; when sampling, a model without a second distribution.
    """

    solver: Ancestral | BitFlips | None = None
    schedule: Literal["constant", "rising"] = "constant"
    power: Positive = 1.0

    takes_corrector = bidirectional = False

    def __post_init__(self) -> None:
        fine = isinstance(self.inner, Ancestral | BitFlips) and self.inner.eta == (isinstance(self.inner, Ancestral))
        require(fine, "solver", self.inner, "give Ancestral with eta=1, or BitFlips")

    @property
    def inner(self) -> Ancestral | BitFlips:
        """The reverse steps."""
        return Ancestral() if self.solver is None else self.solver

    states = property(attrgetter("inner.states"))
    default_grid = property(attrgetter("inner.default_grid"))
    least_steps = property(attrgetter("inner.least_steps"))
    extrapolates = property(attrgetter("inner.extrapolates"))
    reaches_zero = property(attrgetter("inner.reaches_zero"))

    def suited(self, model: Model) -> "MultipliedSteps":
        if not isinstance(model, Evidence):
            wanted = "make GaussianEvidence, SmoothEvidence or BitEvidence the outermost wrapper"
            raise InputError(f"model: {type(model).__name__} has no second distribution; {wanted}")
        own = self.solver or (BitFlips() if model.states == "bits" else Ancestral())
        model.check_part("solver", own)
        return replace(self, solver=own)

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        share = 1 - times[1:] / sde.T if self.schedule == "rising" else torch.ones(len(times) - 1)
        return list(zip(self.inner.plan(sde, times), (self.power * share).tolist(), strict=True))

    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Draw) -> Step:
        assert isinstance(model, Evidence)
        own, power = plan
        first, second = self.inner.distribution(model.model, x, own)
        return self.inner.draw(*model.multiplied(first, second, power), noise)
