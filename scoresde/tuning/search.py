"""A grid and the coefficients of a rule as free numbers, and two optimisers of them: by gradients, and without."""

import math
from collections.abc import Callable
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from scoresde.sampling.exponential import ExponentialMultistep
from scoresde.sde import SDE
from scoresde.tuning.pilot import Pilot

OnStep = Callable[[int, float], None]
_SMALLEST = 1e-3  # of a step, as a share of the mean step: two times may not meet
_RADIUS = 0.3  # of the first trials, in logits and relative weights


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
        times = torch.cat((torch.tensor([self.sde.t_start], dtype=torch.float64), self.sde.t_of_lam(lam)))
        rows = self.rule.coefficients(self.sde, times)
        if not self.offsets.requires_grad:
            return times, rows
        weights = rows[:, 5 : 5 + self.rule.predictor]
        whole, used = weights.sum(1, keepdim=True).detach(), (weights != 0).to(rows.dtype)
        return times, torch.cat((rows[:, :5], rows[:, 5:] + self.offsets * whole * used), dim=1)


def descend(
    parameters: Parameters, pilot: Pilot, iterations: int, batch_size: int, rate: float, on_step: OnStep | None
) -> None:
    """Adam, with a rate that falls to zero."""
    free = parameters.free
    optimizer = torch.optim.Adam(free, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(iterations, 1))
    for k in range(iterations):
        which = (torch.arange(batch_size) + k * batch_size) % len(pilot.x)
        loss = pilot.distances(parameters.rule, *parameters(), which).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if not all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in free):
            return  # what was found so far is judged like the rest
        optimizer.step()
        schedule.step()
        if on_step is not None:
            on_step(k + 1, float(loss.detach()))


def search(parameters: Parameters, pilot: Pilot, iterations: int, on_step: OnStep | None) -> None:
    """COBYQA (Ragonneau and Zhang 2023), which fits a quadratic model to the errors that it has seen.

    Needs no gradient, so no memory beyond that of sampling; each iteration is one error of the whole pilot.
    """
    from scipy.optimize import minimize  # takes a while to import

    free = parameters.free
    numbers = count(1)

    def error(values: Any) -> float:
        vector_to_parameters(torch.tensor(values), free)
        with torch.no_grad():
            mean = pilot.error(parameters.rule, *parameters()).mean
        if on_step is not None and (number := next(numbers)) <= iterations:
            on_step(number, mean)
        return mean if math.isfinite(mean) else 1e30

    options: Any = {"maxfev": iterations, "initial_tr_radius": _RADIUS, "final_tr_radius": 1e-3 * _RADIUS}
    start: Any = parameters_to_vector(free).detach().numpy()
    best = minimize(error, start, method="COBYQA", options=options).x
    vector_to_parameters(torch.tensor(best), free)
