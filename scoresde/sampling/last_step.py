"""The last step of a sampler: from the last level with noise to none."""

import torch
from torch import Tensor

from scoresde.model import Model


def clean(model: Model, x: Tensor, t: float | Tensor, before: Tensor | None, times: Tensor) -> Tensor:
    """x0 at noise zero from x (B, *event) at t, the last of `times`; one evaluation.

        x0_hat(t) + w (x0_hat(t) - x0_hat(t')),   w = r^2 / (r'^2 - r^2),   r = sigma / alpha

    Along a solution of the probability-flow ODE x0_hat has an expansion in r^2, as what solves the heat equation has in
    its time. So the line through its values at the last two levels t' > t is exact to order r^2 r'^2 at r = 0, where
    x0_hat(t) alone leaves an error of order r^2: without this no number of steps could come closer.

    Args:
        model: what predicts.
        x: the state at t.
        t: the last time, a float or one for each sample.
        before: x0_hat at times[-2]; None leaves x0_hat(t) as it is.
        times: of the grid (N,), float64.
    """
    x0 = model(x, t).x0
    if before is None:
        return x0
    return x0 + (x0 - before) * float(1 / torch.expm1(2 * model.sde.lam(times[-2:]).diff()))
