"""Grids from the local errors along a fine path, by dynamic programming: no gradient, hardly an evaluation."""

from collections.abc import Iterator

import torch
from torch import Tensor

from scoresde._shapes import flat
from scoresde.model import Model
from scoresde.noise import Noise
from scoresde.sampling.auto import Auto
from scoresde.sampling.sampler import Sampler

FINE = 96  # steps of the path
LEVELS = 48  # of it that a grid may take
GROWTH = (1.2, 1.5, 2.0, 3.0)  # of the weight of a local error, from step to step


@torch.no_grad()
def grids(model: Model, x: Tensor, points: int) -> Iterator[Tensor]:
    """Grids of N points before noise zero whose weighted sum of local errors is the least, for four growths g.

        minimise  sum_k g^(k - 1) e(i_(k-1), i_k, i_(k+1))^2   over   0 = i_0 < ... < i_N = M

    with e(h, i, j) what the Adams-Bashforth rule of order 2 on v in the angle misses from level i to j on a fine path
    of M levels, if it knows the exact values at h and i: mean over samples, for data of unit variance. Chen et al. 2024
    (arXiv 2405.11326), section 4, take the errors of Euler's rule, and not their squares.

    Args:
        model: what predicts.
        x: starts (B, *event); a few are enough.
        points: N, of which the first is T.
    """
    *path, (_, end) = Sampler(Auto(), steps=FINE).path(model, x, Noise(0))
    path = path[:: FINE // LEVELS]
    times = torch.tensor([t for t, _ in path], dtype=torch.float64)
    costs = local_errors(model, path, end) ** 2
    for growth in GROWTH:
        yield times[shortest(costs, points, growth)]


def local_errors(model: Model, path: list[tuple[float, Tensor]], end: Tensor) -> Tensor:
    """e(h, i, j) of `grids` (M, M, M + 1), infinite unless h <= i < j; with h = i that of order 1.

    Args:
        model: what predicts.
        path: (t, x) at M levels, the first T.
        end: its end at noise zero, level M.
    """
    angles, states, slopes = [], [], []
    for t, x in path:  # x / rho moves with dx / dangle = v, rho^2 = alpha^2 + sigma_data^-2 sigma^2
        level, s = model.sde.at(t), model.sigma_data
        ratio = level.sigma / (level.alpha * s)
        cosine = (1 + ratio * ratio) ** -0.5
        y, x0 = flat(x).double() / level.alpha, flat(model(x, t).x0).double()
        angles.append(torch.atan(torch.tensor(ratio, dtype=torch.float64)))
        states.append(y * cosine / s)
        slopes.append(cosine * ((y - x0) / ratio - ratio * x0) / s)
    states.append(flat(end).double() / model.sigma_data)
    angle, state, slope = torch.stack([*angles, torch.zeros_like(angles[0])]), torch.stack(states), torch.stack(slopes)
    m = len(slope)
    found = torch.full((m, m, m + 1), torch.inf, dtype=torch.float64)
    for i in range(m):
        step = (angle[i + 1 :] - angle[i]).to(state)
        straight = state[i] + step[:, None, None] * slope[i] - state[i + 1 :]
        bend = slope[i] - slope[: i + 1]
        bend[:-1] /= (angle[i] - angle[:i]).to(state)[:, None, None]
        factor = step**2 / 2  # |straight + factor bend|^2, for all h and j at once
        squares = torch.einsum("jnd,hnd->nhj", straight, bend) * 2 * factor
        squares += bend.square().sum(2).T[:, :, None] * factor**2 + straight.square().sum(2).T[:, None]
        found[: i + 1, i, i + 1 :] = squares.clamp(min=0).sqrt().mean(0).cpu()
    return found


def shortest(costs: Tensor, steps: int, growth: float) -> list[int]:
    """i_0, ..., i_(N-1) of the path 0 = i_0 < ... < i_N = M with the least sum of costs.

    Args:
        costs: c(h, i, j) of a step from i to j that comes from h, (M, M, M + 1); c(0, 0, j) of the first.
        steps: N, at most M.
        growth: of the weight of a cost, from step to step.
    """
    m = len(costs)
    left, ways = torch.full((m, m + 1), torch.inf, dtype=torch.float64), list[Tensor]()
    left[:, m] = 0  # at level j, come from i
    for _ in range(steps):
        least, way = (costs + growth * left).min(2)
        ways.append(way)
        left = torch.cat((least, torch.full((m, 1), torch.inf, dtype=torch.float64)), 1)
    path, before = [0], 0
    for way in reversed(ways[1:]):
        before, now = path[-1], int(way[before, path[-1]])
        path.append(now)
    return path
