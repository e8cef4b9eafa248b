"""Split Gibbs sampling by a population of samples, whose weights are exact."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde._shapes import flat
from scoresde.constraints import Count, NonNegative, Positive
from scoresde.model import Model
from scoresde.posterior.alternating import Gibbs, cleaned, largest, normals
from scoresde.posterior.base import Posterior, posterior_in
from scoresde.progress import note
from scoresde.sampling import Corrector, Solver
from scoresde.sampling.solver import NoiseSource, Path
from scoresde.sampling.wrappers import Renamed

_FEW, _ENOUGH = 2, 0.5  # effective samples: too few of them, and the share above which none is replaced
_SAID: set[int] = set()  # sizes of populations that collapsed, which is said once


@dataclass(frozen=True, repr=False)
class Population(Gibbs):
    """Split Gibbs sampling with samples that are weighted and resampled at each level: exact, and without derivatives.

        p_s(x0) ~ p(x0) N(y; A x0, sigma_y^2 I + s^2 A A^T),   w <- w p_s'(x0) / p_s(x0)   from level s to s'

    is what `Gibbs` has at level s. It cannot move between modes that are further apart than s. The weights correct how
    many samples are in each, and need no density of the prior. First x0 is drawn from the prior and weighted for the
    highest level; at the end it is weighted for s = 0. Where fewer than half of the samples are effective they are
    resampled systematically.

    The samples of a batch that have the same y are one population: a sample depends on the others, and so on the batch
    size. It is exact for large ones; a sample that is alone is one of `Gibbs`. The levels are `steps` of the sampler,
    equal in log s from `highest` to `lowest`; its grid is not used. In all first + steps inner evaluations of a sample.

    Samples are 1.5 (1.2 to 1.9) floors away at sigma_y = 0.05 and 1.8 (0.80 to 4.0) at 0.3 from the exact posterior
    of 8-D mixtures (benchmarks/posterior.py, 5 problems, n = 2,000, 95 %), and the exact denoiser 1.1 (0.82 to 1.5)
    and 1.4 (0.96 to 1.9).

    Args:
        inner: evaluations from a level to clean data.
        sweeps: how often each level is visited.
        first: evaluations for the first draw, from the prior.
        highest: first level s, in standard deviations of the data.
        lowest: last level; None for sigma_y / |A|, below which p_s hardly changes.

    Raises:
        InputError: see `Posterior`.

    Wu et al. 2024 (arXiv 2405.18782) for the moves, and Del Moral, Doucet and Jasra 2006 for the weights (J. R. Stat.
    Soc. B 68, 411), eq. 31.
    """

    inner: Count = 8
    first: Count = 20
    highest: Positive = 2.0
    lowest: NonNegative | None = None

    reaches_zero = True
    usual_solver = None

    def carry(
        self, solver: Solver, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, then: Corrector | None
    ) -> Path:
        asked, end, before = posterior_in(model), float(times[-1]), math.inf
        x0 = cleaned(solver, model, x, float(times[0]), Renamed(noise, "first "), then, self.first)
        crowd = Crowd(asked, x0)
        for i, t in enumerate(self._levels(asked, times, x0)):
            level = model.sde.at(t)
            s = level.sigma / level.alpha
            x0, before = crowd.resampled(x0, before, s, Renamed(noise, f"level {i} "), _ENOUGH), s
            for k in range(self.sweeps):
                own = Renamed(noise, f"level {i} {k} ")
                x = level.alpha * self.noised(asked, x0, s, normals(own))
                x0 = cleaned(solver, model, x, t, own, then, self.inner)
            yield t, x
        x0 = crowd.resampled(x0, before, 0.0, Renamed(noise, "end "), 1.0)
        if end > 0:
            z = noise.normal("end", 0, x0.shape, x0.device, x0.dtype)
            x0 = model.sde.at(end).alpha * x0 + model.sde.at(end).sigma * z
        yield end, x0

    def _levels(self, asked: Posterior, times: Tensor, x0: Tensor) -> list[float]:
        """Times of the levels: one less than there are times."""
        sde, wanted = asked.sde, self.lowest
        if wanted is None:
            wanted = asked.observation.sigma_y / largest(asked, x0) ** 0.5
        last = float(times[-1]) or sde.t_min
        top, bottom = (float(sde.lam(t)) for t in (float(times[0]), last))
        first = max(top, -math.log(self.highest * asked.sigma_data))
        lams = torch.linspace(first, max(first, min(bottom, -math.log(max(wanted, 1e-30)))), len(times) - 1)
        return [float(t) for t in sde.t_of_lam(lams.double())]


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
