"""A grid and the coefficients of a rule as free numbers, which any optimiser may move anywhere."""

import torch
from torch import Tensor

from scoresde.sampling.exponential import ExponentialMultistep
from scoresde.sde import SDE

_SMALLEST = 1e-3  # of a step, as a share of the mean step: two times may not meet


class Parameters:
    """A grid and coefficients as free numbers: steps in lam as logits, changes of the weights as offsets."""

    def __init__(self, sde: SDE, rule: ExponentialMultistep, times: Tensor, coefficients: bool) -> None:
        self.sde, self.rule = sde, rule
        lam = sde.lam(times)
        self._first, self._span = float(lam[0]), float(lam[-1] - lam[0])
        shares = torch.cat((lam.diff() / self._span, torch.tensor([0.01], dtype=torch.float64)))
        self.logits = torch.log(shares).requires_grad_()
        self.offsets = torch.zeros(len(times) - 1, rule.predictor, dtype=torch.float64, requires_grad=coefficients)

    @property
    def free(self) -> list[Tensor]:
        """What the optimiser moves."""
        return [p for p in (self.logits, self.offsets) if p.requires_grad]

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Times (N,) and the rows of the rule on them, with the offsets.

        The last share is what is left before t_min, so the grid may end earlier.
        """
        share = torch.softmax(self.logits, 0) + _SMALLEST / len(self.logits)
        lam = self._first + self._span * torch.cumsum(share / share.sum(), 0)[:-1]
        times = torch.cat((torch.tensor([self.sde.T], dtype=torch.float64), self.sde.t_of_lam(lam)))
        rows = self.rule.coefficients(self.sde, times)
        if not self.offsets.requires_grad:
            return times, rows
        weights = rows[:, 5 : 5 + self.rule.predictor]
        whole, used = weights.sum(1, keepdim=True).detach(), (weights != 0).to(rows.dtype)
        return times, torch.cat((rows[:, :5], rows[:, 5:] + self.offsets * whole * used), dim=1)
