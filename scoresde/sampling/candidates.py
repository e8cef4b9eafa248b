"""What `Auto` combines: interpolations of the same evaluations, as rows of coefficients over the last of them."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from scoresde.dynamics import Eta, eta_at
from scoresde.errors import refuse
from scoresde.sampling.coordinates import Kernel, Quantity, basis, parts
from scoresde.sde import SDE

LEVELS = 5  # levels of which x and x0_hat are kept
_TO_ZERO = 26.0  # in lam: from the last level to one that stands for noise zero
_MOST_NOISE = 0.16  # in lam: what the noise of one step may take back


class Candidate(NamedTuple):
    """P as the polynomial through its last `order` values, see `scoresde.sampling.coordinates`.

    Attributes:
        name: for people.
        quantity: P.
        variable: as a function of lam, finite at noise zero.
        order: number of values.
    """

    name: str
    quantity: Quantity
    variable: Callable[[Tensor], Tensor]
    order: int


def _levelled(scale: float) -> Callable[[Tensor], Tensor]:
    """log(r^2 + scale^2): like lam where the noise is larger than the scale, like r^2 where it is smaller."""
    return lambda lam: torch.logaddexp(-2 * lam, torch.full_like(lam, 2 * math.log(scale)))


def _angle(lam: Tensor) -> Tensor:
    return torch.atan(torch.exp(-lam))


def _made(quantity: Quantity, variable: Callable[[Tensor], Tensor], near: str, *orders: int) -> tuple[Candidate, ...]:
    return tuple(Candidate(f"{quantity} order {order}{near}", quantity, variable, order) for order in orders)


CANDIDATES = (*_made("v", _angle, "", 2, 4), *_made("x0", _levelled(0.1), " near 0.1", 2, 4))
# noise moves x off the path of the values before, so that few of them say something about the next
WITH_NOISE = (*_made("v", _angle, "", 1, 2), *_made("x0", _levelled(0.1), " near 0.1", 1, 2))
FIRST, ONLY = 0, 2  # of both: what takes the first step, and the only one


def candidates(eta: Eta) -> tuple[Candidate, ...]:
    """Those for a noise level."""
    return CANDIDATES if eta == 0 else WITH_NOISE


def rows(sde: SDE, times: Tensor, sigma_data: float, eta: Eta = 0.0) -> tuple[Tensor, Tensor]:
    """Coefficients of the C candidates at the N levels where a step begins, and the noise of the N steps.

    The last axis: x, then x0_hat, at the last LEVELS levels; level i stands in place i mod LEVELS. The three rows give
    what a candidate expected of x0_hat at this level, less what came; x here, if the step before is made again with
    what came, without noise; and x where the step ends, d beyond the next level in lam, as a part of it there.

    Args:
        sde: the path.
        times: of the grid (N + 1,); the last may be 0, for noise zero.
        sigma_data: standard deviation of the data; candidates see r = sigma / (alpha sigma_data).
        eta: noise level.

    Returns:
        Coefficients (N, 3, C, 2 LEVELS), and the standard deviation (N,) of the noise that leads from d beyond the
        next level back to it, sigma sqrt(1 - e^-2d) there; float64.
    """
    zero = times[-1] <= 0
    times = times[:-1] if zero else times
    lam, alpha = sde.lam(times), sde.alpha(times)
    if zero:
        lam, alpha = torch.cat((lam, lam[-1:] + _TO_ZERO)), torch.cat((alpha, torch.ones_like(alpha[-1:])))
    beyond = (eta_at(eta, (lam[1:] + lam[:-1]) / 2) ** 2 * lam.diff()).clamp(max=_MOST_NOISE)
    if zero:
        beyond[-1] = 0
    std = alpha[1:] * torch.exp(-lam[1:]) * (-torch.expm1(-2 * beyond)).sqrt()
    unit = math.log(sigma_data)
    levels, ends = (tuple((of + unit).tolist()) for of in (lam, lam[1:] + beyond))
    return _all_rows(candidates(eta), levels, ends, tuple(alpha.tolist())), std


@lru_cache(maxsize=16)  # a batch takes those of the one before
def _all_rows(
    of: tuple[Candidate, ...], levels: tuple[float, ...], ends: tuple[float, ...], alphas: tuple[float, ...]
) -> Tensor:
    lam, end, alpha = (torch.tensor(values, dtype=torch.float64) for values in (levels, ends, alphas))
    found = torch.stack([_rows(candidate, lam, end) for candidate in of], dim=2)
    here, behind = torch.arange(len(found))[:, None], _behind(len(found))
    found = found.gather(4, behind[:, None, None, None].expand(found.shape))
    # from y = x / alpha to x
    found[..., 0, :] /= alpha[(here - behind).clamp(min=0)][:, None, None]
    found[:, 1] *= alpha[:-1, None, None, None]
    found[:, 2] *= alpha[1:, None, None, None]
    return found.flatten(3)


def _behind(steps: int) -> Tensor:
    """Levels from each place to the newest, at each level (N, LEVELS)."""
    return (torch.arange(steps)[:, None] - torch.arange(LEVELS)) % LEVELS


def shifted(found: Tensor, shifts: Tensor) -> Tensor:
    """`rows` with something added to the weights of x0_hat in the x at the next level, of all candidates.

    Args:
        found: those of N levels.
        shifts: (N, LEVELS), the newest level first.

    Raises:
        InputError: shifts of another grid.
    """
    wanted = len(found), LEVELS
    refuse(shifts.shape != wanted, f"coefficients: those of {len(found)} steps are of shape {wanted}; tune again")
    found = found.clone()  # which others share
    found[:, 2, :, LEVELS:] += shifts.gather(1, _behind(len(found)))[:, None]
    return found


def _rows(candidate: Candidate, lam: Tensor, end: Tensor) -> Tensor:
    """The rows of one candidate for steps from lam[i] to end[i], float64 (N, 3, 2, LEVELS), the newest level first."""
    steps, order = len(lam) - 1, candidate.order
    one, ratio = torch.ones(steps, dtype=torch.float64), torch.exp(-lam[:-1])
    kernel = Kernel(candidate.quantity, (one, one), (lam[:-1], end), 0 * one)
    at, nodes = candidate.variable(kernel.lam), candidate.variable(lam)
    of_x0, of_eps = parts(candidate.quantity, one, ratio)
    value = torch.stack((of_eps / ratio * one, of_x0 - of_eps / ratio))  # P = value[0] y + value[1] x0, at each level
    found = torch.zeros(steps, 3, 2, LEVELS, dtype=torch.float64)

    def write(row: int, here: Tensor, known: Tensor, weights: Tensor) -> None:
        """The sum of weights (M, p) times P at the known levels (M, p), in a row of the levels here (M,)."""
        behind = here[:, None] - known
        found[here[:, None], row, :, behind] = (weights * value[:, known]).movedim(0, 2)

    for here, known in _windows(steps, order, behind=1):
        write(0, here, known, basis(nodes[here, None], nodes[known])[..., 0])
    for here, known in _windows(steps, min(order + 1, LEVELS - 1), behind=0):
        here, known = here[here > 0], known[here > 0]
        write(1, here, known, kernel.lagrange(at, nodes[known], here - 1))
    for here, known in _windows(steps, order, behind=0):
        write(2, here, known, kernel.lagrange(at, nodes[known], here))
    found[1:, 0, :, 0] -= value.T[1:]
    found[:, 0] /= value[1, :, None, None]  # from P to x0, at the same y
    found[1:, 1, 0, 1] += kernel.decay[:-1]
    found[:, 2, 0, 0] += kernel.decay
    return found


def _windows(steps: int, order: int, behind: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Levels (M,) with the p <= order levels (M, p) known there, the newest `behind` before them, for each p."""
    known = (torch.arange(steps) + 1 - behind).clamp(max=order)
    for p in range(1, order + 1):
        here = (known == p).nonzero()[:, 0]
        yield here, here[:, None] - behind - torch.arange(p)
