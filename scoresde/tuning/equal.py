"""Times placed by the local error, without optimisation."""

import numpy as np
import torch
from torch import Tensor

from scoresde.model import Model
from scoresde.sampling.coordinates import parts, variable
from scoresde.sampling.exponential import ExponentialMultistep
from scoresde.sampling.grid import LambdaUniform
from scoresde.tuning.pilot import no_noise

_GROWTH = 0.5  # of a step at most, in units of the one before


@torch.no_grad()
def equal_error(model: Model, rule: ExponentialMultistep, x: Tensor, points: int, fine: int = 200) -> Tensor:
    """Times (points,) with about the same local error of the rule in every step, without optimisation.

    A rule of order p on the quantity P in the variable w makes a local error of about dw^(p+1) |P^(p)(w)|, so points
    lie with density |P^(p)|^(1/(p+1)) in w. The derivative is a divided difference along a fine path of a few samples.

    Args:
        model: what predicts.
        rule: whose local error it is.
        x: starts (B, *event); a few are enough.
        points: number of times, from T to t_min.
        fine: steps of that path, one evaluation each.
    """
    sde = model.sde
    times = LambdaUniform()(sde, fine)
    levels, values, here = sde.remember(times), [], x
    walk = ExponentialMultistep("velocity", "noise_share", predictor=3)
    state = None
    for row, level in zip(walk.plan(sde, times), levels[:-1], strict=True):
        of_x0, of_eps = parts(rule.predict, level.alpha, level.sigma)
        values.append(model(here, row[0]).combine(x0=of_x0, eps=of_eps))
        here, state = walk.step(model, here, row, state, no_noise)
    w = variable(rule.variable, sde, sde.lam(times[:-1]))
    difference = torch.stack(values).flatten(1).double()
    for k in range(1, rule.predictor + 1):  # divided differences of order p, up to a factor
        difference = difference.diff(dim=0) / (w[k:] - w[:-k]).abs()[:, None].to(difference.device)
    size = difference.square().mean(1).sqrt().cpu()
    lost = rule.predictor // 2, rule.predictor - rule.predictor // 2  # at each end
    middle = torch.nn.functional.pad(size[None, None], lost, mode="replicate")
    smooth = torch.nn.functional.avg_pool1d(middle, 9, 1, 4, count_include_pad=False)[0, 0]
    density = smooth[1:] ** (1 / (rule.predictor + 1))
    length = w.diff().abs()
    # the polynomial of a step passes through the values of those before it, so steps may only grow by degrees
    apart = (w[1:, None] - w[None, 1:]).abs()
    step = (density * length).sum() / ((points - 1) * density.clamp(min=1e-12 * density.max()))
    step = (step + _GROWTH * apart).amin(1)
    mass = torch.cat((torch.zeros(1, dtype=torch.float64), torch.cumsum(length / step, 0)))
    lam = np.interp(np.linspace(0, float(mass[-1]), points), mass.numpy(), sde.lam(times[:-1]).numpy())
    found = sde.t_of_lam(torch.from_numpy(lam))
    found[0], found[-1] = sde.T, sde.t_min
    return found
