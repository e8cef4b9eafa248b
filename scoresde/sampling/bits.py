"""The reverse steps of a chain of bits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.special import ndtri

from scoresde.chains.binomial import BitPrediction, flips
from scoresde.model import Model
from scoresde.sampling.listed import Discrete
from scoresde.sampling.solver import Draw, GridSolver, Step
from scoresde.sde import SDE


@dataclass(frozen=True, repr=False)
class BitFlips(GridSolver):
    """Reverse steps of a chain of bits: each bit flips with its probability P(x_s != x_t | x_t).

        x_s = -x_t  where  z < ndtri(P(x_s != x_t | x_t)),  else x_t,   z standard normal

    The levels may be any of the chain, or others: the flips of a step are the exact posterior, averaged over x_0 given
    x_t. Given x_t the bits of one step are drawn independently, so that few steps lose what bits have in common. The
    last step leads to clean bits. Sohl-Dickstein et al. 2015 (arXiv 1503.03585), section 2.2.
    """

    states = "bits"
    takes_corrector = bidirectional = False
    extrapolates = reaches_zero = True  # by a step to noise zero of its own
    default_grid = Discrete()
    least_steps = 2

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        alpha = sde.alpha(times)
        agree, differ = flips(alpha[:-1], alpha[1:])
        return torch.stack([times[:-1], torch.as_tensor(agree), torch.as_tensor(differ)], dim=1).tolist()

    def distribution(self, model: Model, x: Tensor, plan: Any) -> tuple[Tensor, Tensor]:
        """The bits x (B, *event) themselves, and P(x_s != x_t | x_t) of each."""
        t, agree, differ = plan
        return x, cast(BitPrediction, model(x, t)).flip(agree, differ)

    @staticmethod
    def draw(x: Tensor, flip: Tensor, noise: Draw) -> Step:
        """A draw from a distribution of a step."""
        return Step(torch.where(noise() < ndtri(flip.clamp(0, 1)), -x, x))

    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Draw) -> Step:
        return self.draw(*self.distribution(model, x, plan), noise)
