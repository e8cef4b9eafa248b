"""Explicit Runge-Kutta rules for the probability-flow ODE."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scoresde.model import Model
from scoresde.sampling.solver import GridSolver, Step
from scoresde.sde import SDE


@dataclass(frozen=True)
class Heun(GridSolver):
    """Heun's rule of order 2 on dy/dr = eps(alpha y, t), with y = x / alpha and r = sigma / alpha.

        y' = y_t + (r_s - r_t) eps_t,   y_s = y_t + (r_s - r_t)/2 (eps_t + eps(alpha_s y', s))

    In these coordinates the probability-flow ODE has no linear term, for every SDE. Two evaluations a step; with the
    denoising step of the sampler at the end it is algorithm 1 of Karras et al. 2022 (arXiv 2206.00364) without churn.
    """

    evaluations = 2

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        alpha = sde.alpha(times)
        r = sde.sigma(times) / alpha
        ratio = alpha[1:] / alpha[:-1]
        return torch.stack((times[:-1], times[1:], ratio, alpha[1:] * r.diff()), dim=1).tolist()

    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Callable[[], Tensor]) -> Step:
        t, s, ratio, h = plan
        now = model(x, t)
        ahead = model(now.combine(x=ratio, eps=h), s)
        return Step(now.combine(x=ratio, eps=h / 2).add_(ahead.eps, alpha=h / 2))
