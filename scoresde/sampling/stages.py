"""One-step rules with several evaluations: the step they share; the rules are tableaux, see `tableaux`."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from scoresde.model import Model
from scoresde.sampling.solver import Draw, GridSolver, Step, accumulate, add


class Stage(NamedTuple):
    """One point at which x is known, as numbers.

    Attributes:
        t: its time.
        x, x0, eps: parts of the quantity P that the rule uses.
        scale: factor of the x that the step began with.
        carry, std: factor of the noise so far, and size of the new one.
        weights: of P at the stages before.
    """

    t: Any
    x: Any
    x0: Any
    eps: Any
    scale: Any
    carry: Any
    std: Any
    weights: tuple[Any, ...]


class Stages(GridSolver):
    """Rules x_i = d_i x + sum_{j < i} w_ij P_j + noise, where P_j is a combination of x_j, x0 and eps.

    The plan of a step is a list of `Stage`; the first is where it begins, the last is its result.
    """

    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Draw) -> Step:
        values: list[Tensor] = []
        at, kick = x, None  # kick: the noise that has come in so far
        for k, stage in enumerate(plan):
            if k:
                at = accumulate(x * stage.scale, stage.weights, values)
            if kick is not None:
                kick = kick * stage.carry
            if stage.std:  # zero without noise, and between two stages at one level
                z = noise(k - 1)
                kick = z * stage.std if kick is None else add(kick, stage.std, z)
            if kick is not None:
                at = at.add_(kick)  # its own: the first stage has no noise
            if k < len(plan) - 1:
                values.append(model(at, stage.t).combine(x=stage.x, x0=stage.x0, eps=stage.eps))
        return Step(at)


def steps_of(columns: list[list[Tensor]], count: int) -> list[list[Stage]]:
    """From stages of columns (N,), in the order of `Stage` with the weights last, to N lists of stages."""
    numbers = [torch.stack([c.expand(count) for c in stage], dim=1).tolist() for stage in columns]
    rows = [[stage[i] for stage in numbers] for i in range(count)]
    return [[Stage(*row[:7], tuple(row[7:])) for row in step] for step in rows]  # type: ignore[call-arg]
