"""A population of samples that walks down the levels of split Gibbs sampling, with weights that are exact."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from scoresde._shapes import flat
from scoresde.constraints import Count, NonNegativeInt, between
from scoresde.model import Model
from scoresde.posterior.alternating import cleaned, largest, normals, spread, with_noise
from scoresde.posterior.base import Posterior, posterior_in
from scoresde.posterior.steps import Loop
from scoresde.progress import note
from scoresde.sampling import Corrector, Grid, Solver, Terminal
from scoresde.sampling.solver import NoiseSource, Path
from scoresde.sampling.wrappers import Renamed

_FEW, _ENOUGH = 2, 0.5  # effective samples: too few of them, and the share above which none is replaced
_LAST = 0.8  # about the share that is effective at the last level for s = 0, where y determines what it sees
_KEPT = 0.6  # of the velocity, by a move of step 1
_LOW = 0.3  # of the spread of x0 given x, below which its steps are no longer equal in lambda
_SAID: set[int] = set()  # sizes of populations that collapsed, which is said once


@dataclass(frozen=True, repr=False)
class Population(Loop):
    """Samples that are weighted, resampled and moved at each level: exact for many of them, and without derivatives.

        p_s(x0, z) ~ p(x0) N(z; x0, s^2 I) N(y; A z, sigma_y^2 I)
        p_s(x0) ~ p(x0) N(y; A x0, sigma_y^2 I + s^2 A A^T)
        w <- w p_s'(x0) / p_s(x0)   from level s to s'
        dz = v dt,   dv = (D_y - z - c v) dt + (2 c P)^(1/2) dW,   P = (A^T A / sigma_y^2 + I / s^2)^-1

    are those of `Gibbs`, the weights of x0, and moves of z at a level. The marginal of z, p_s(z) N(y; A z, sigma_y^2 I)
    has a known score, which P turns into D_y - z with D_y the mean of N(D, s^2 I) given y: a move of underdamped
    Langevin dynamics takes one evaluation, and goes about s where y says nothing. The weights correct how many samples
    are in modes between which none moves. First x0 is drawn from the prior; at each level x0 is weighted, z is drawn
    from x0 and y, moved, and cleaned to the next x0; at the end x0 is weighted for s = 0. Where fewer than half of the
    samples are effective they are resampled systematically.

    Levels have equal distances in log r, r = S / (S + |A|^2 sd^2) with S = sigma_y^2 + s^2 |A|^2, by which Fisher's
    information measures N(0, sd^2 I) seen with noise S; from r = 1, the prior, to where 80 % of the weights for s = 0
    are effective if y has more to say than the prior. There are `steps` of the sampler; its grid is not used. In all
    first + steps (moves + inner) evaluations of a sample.

    The samples of a batch that have the same y are one population: a sample depends on the others, and so on the batch
    size. It is exact as populations, steps and inner evaluations grow and `step` falls; of Gaussian data many moves
    keep the distribution whatever their step. A sample that is alone has no weights.

    Samples are 1.3 (1.1 to 1.6) floors away at sigma_y = 0.05 and 1.2 (0.88 to 1.7) at 0.3 from the exact posterior
    of 8-D mixtures (benchmarks/posterior.py, 5 problems, n = 2,000, 95 %), and the exact denoiser 1.1 (0.82 to 1.5)
    and 1.4 (0.96 to 1.9).

    Args:
        inner: evaluations from a level to clean data.
        moves: of a sample at a level.
        first: evaluations for the first draw, from the prior.
        step: of a move, in the shortest time scale that the dynamics can have.

    Raises:
        InputError: see `Posterior`.

    Wu et al. 2024 (arXiv 2405.18782) for the levels; Leimkuhler and Matthews 2013 (J. Chem. Phys. 138, 174102), BAOAB,
    for the moves; Del Moral, Doucet and Jasra 2006 (J. R. Stat. Soc. B 68, 411), eq. 31, for the weights.
    """

    inner: Count = 4
    moves: NonNegativeInt = 6
    first: Count = 20
    step: Annotated[float, between(0, 2)] = 1.0

    divides = reaches_zero = True
    usual_solver = None

    def solver(self, solver: Solver) -> Solver:
        return with_noise(self, solver)

    def carry(
        self, solver: Solver, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, then: Corrector | None
    ) -> Path:
        asked, end, before = posterior_in(model), float(times[-1]), math.inf
        top, own = float(times[0]), Renamed(noise, "first ")
        x0 = cleaned(solver, model, x, top, own, then, self.first, _down(asked, top))
        crowd = Crowd(asked, x0)
        for i, t in enumerate(self.levels(asked, times, x0)):
            level, own = model.sde.at(t), Renamed(noise, f"level {i} ")
            s = level.sigma / level.alpha
            x0, before = crowd.resampled(x0, before, s, own, _ENOUGH), s
            z = asked.pulled(x0, s**2) + spread(asked, x0, s, normals(own))
            x = level.alpha * self.moved(asked, model, z, t, own)
            x0 = cleaned(solver, model, x, t, own, then, self.inner, _down(asked, t))
            yield t, x
        x0 = crowd.resampled(x0, before, 0.0, Renamed(noise, "end "), 1.0)
        if end > 0:
            z = noise.normal("end", 0, x0.shape, x0.device, x0.dtype)
            x0 = model.sde.at(end).alpha * x0 + model.sde.at(end).sigma * z
        yield end, x0

    def moved(self, asked: Posterior, model: Model, z: Tensor, t: float, noise: NoiseSource) -> Tensor:
        """z (B, *event) after the moves at t, which keep p_s(z) N(y; A z, sigma_y^2 I)."""
        alpha, sigma, _ = model.sde.at(t)
        s, h, kept = sigma / alpha, self.step, _KEPT**self.step
        v = spread(asked, z, s, normals(Renamed(noise, "start ")))
        for k in range(self.moves):
            force = asked.pulled(model(alpha * z, t).x0, s**2) - z
            v = v + (h if k else h / 2) * force  # the second half of one move and the first of the next
            z = z + h / 2 * v
            v = kept * v + (1 - kept**2) ** 0.5 * spread(asked, z, s, normals(Renamed(noise, f"move {k} ")))
            z = z + h / 2 * v
        return z

    def levels(self, asked: Posterior, times: Tensor, x0: Tensor) -> list[float]:
        """Times of the levels: one less than there are times."""
        sde, noise, count = asked.sde, asked.observation.sigma_y**2, len(times) - 1
        gain = max(largest(asked, x0), 1e-30)
        prior = gain * asked.sigma_data**2
        # N(0, S) weighted for N(0, noise) leaves exp(-M (S / noise - 1)^2 / 2) of M numbers
        last = noise * (1 + math.sqrt(-2 * math.log(_LAST) / asked.y[0].numel()))
        shares = torch.arange(1, count + 1, dtype=torch.float64) / count
        r = torch.exp(shares * math.log(last / (last + prior)))
        s2 = (prior * r / (1 - r) - noise) / gain
        top, bottom = (float(sde.lam(t)) for t in (float(times[0]), float(times[-1]) or sde.t_min))
        lams = (-0.5 * s2.clamp(min=1e-300).log()).clamp(top, max(top, bottom))
        return [float(t) for t in sde.t_of_lam(lams).clamp(max=float(times[0]))]


def _down(asked: Posterior, t: float) -> Grid:
    """The grid from t to clean data: equal steps in lambda, down to a share of the spread of x0 given x."""
    spread_of_x0 = float(1 + asked.sigma_data**2 / asked.noise_ratio(t)) ** -0.5
    return Terminal(low=_LOW * spread_of_x0).scaled(asked, asked.event_shape)


class Crowd:
    """Samples with weights, of which those with the same y replace each other."""

    def __init__(self, asked: Posterior, x0: Tensor) -> None:
        self._asked, self.weights = asked, torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
        self._group: Tensor = torch.unique(asked.rows(x0).flatten(1), dim=0, return_inverse=True)[1]

    def _log_likelihood(self, left: Tensor, s: float) -> Tensor:
        """log N(left; 0, sigma_y^2 I + s^2 A A^T) but for a constant, (B,); 0 at infinite s."""
        if s == math.inf:
            return torch.zeros(len(left), dtype=torch.float64, device=left.device)
        solved = self._asked.observation.solve(left, s**2, self._asked.observation.sigma_y**2)
        return -0.5 * (flat(left) * flat(solved)).sum(1)

    def resampled(self, x0: Tensor, before: float, s: float, noise: NoiseSource, enough: float) -> Tensor:
        """x0 (B, *event) of the level `before`, as samples of the level s."""
        left = self._asked.left(x0).double()
        self.weights = self.weights + self._log_likelihood(left, s) - self._log_likelihood(left, before)
        shift = noise.normal("resample", 0, (len(x0), 1), x0.device, torch.float64)[:, 0]
        rows = torch.arange(len(x0), device=x0.device)
        for group in range(count) if (count := int(self._group.max()) + 1) < len(x0) else ():
            own = (self._group == group).nonzero()[:, 0]
            w = torch.softmax(self.weights[own], 0)
            effective = float(1 / w.square().sum())
            if effective < _FEW and len(own) > 1:
                _say(effective, len(own), s)
            if effective < enough * len(own):
                rows[own], self.weights[own] = own[_systematic(w, shift[own[0]])], 0.0
        return x0[rows]


def _systematic(w: Tensor, z: Tensor) -> Tensor:
    """The numbers of n samples with the weights w (n,), by one normal number: each is taken n w times, rounded."""
    places = (torch.arange(len(w), device=w.device) + torch.special.ndtr(z)) / len(w)
    return torch.searchsorted(w.cumsum(0), places).clamp(max=len(w) - 1)


def _say(effective: float, among: int, s: float) -> None:
    if among not in _SAID:
        _SAID.add(among)
        remedy = "draw more samples in a batch, or take more steps"
        note(f"warning: {effective:.1f} of {among} samples are effective at s = {s:.3g}; {remedy}")
