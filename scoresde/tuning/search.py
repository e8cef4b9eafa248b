"""Two optimisers of a grid: by gradients, and without."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from scoresde.tuning.parameters import Parameters
from scoresde.tuning.pilot import Pilot

OnStep = Callable[[int, float], None]
_RADIUS = 0.3  # of the first trials, in logits and relative weights


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
    start: Any = parameters_to_vector(free).detach().numpy().copy()
    best, found, count = start, math.inf, 0

    def error(values: Any) -> float:
        nonlocal best, found, count
        vector_to_parameters(torch.tensor(values), free)
        with torch.no_grad():
            mean = pilot.error(parameters.rule, *parameters()).mean
        count += 1
        if mean < found:
            best, found = values.copy(), mean
        if on_step is not None and count <= iterations:
            on_step(count, mean)
        return mean if math.isfinite(mean) else 1e30

    options: Any = {"maxfev": iterations, "initial_tr_radius": _RADIUS, "final_tr_radius": 1e-3 * _RADIUS}
    minimize(error, start, method="COBYQA", options=options)
    vector_to_parameters(torch.tensor(best), free)
