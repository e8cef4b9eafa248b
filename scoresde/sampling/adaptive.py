"""The loop over adaptive grids: every sample has its own steps, chosen by its own error."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from scoresde.errors import InputError, require
from scoresde.model import Model
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.increments import Increments, by_sample
from scoresde.sampling.solver import NoiseSource, Path, Solver

_FIRST, _SMALLEST, _LARGEST_ATTEMPTS = 0.05, 1e-9, 100_000  # steps in lam
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0


class Trial(NamedTuple):
    """One attempted step of each sample.

    Attributes:
        x: where it leads (B, *event).
        error: estimate of its local error (B, *event).
        first: the evaluation at x and the new level, where the rule has made it; else None.
    """

    x: Tensor
    error: Tensor
    first: Tensor | None


@dataclass
class _Running:
    """The samples that have not arrived, one row each.

    Attributes:
        rows: their numbers in the batch.
        x, lam: where they are.
        width: of the next step in lam.
        before: error of the last accepted step.
        first, stale: the evaluation at (x, lam), and where it has to be made.
    """

    rows: Tensor
    x: Tensor
    lam: Tensor
    width: Tensor
    before: Tensor
    first: Tensor
    stale: Tensor

    @classmethod
    def at(cls, lam: float, x: Tensor) -> "_Running":
        """All samples at the start."""
        start = torch.full((len(x),), lam, dtype=torch.float64, device=x.device)
        rows, stale = torch.arange(len(x), device=x.device), torch.ones_like(start, dtype=torch.bool)
        return cls(rows, x, start, torch.full_like(start, _FIRST), torch.ones_like(start), torch.empty_like(x), stale)

    def keep(self, which: Tensor) -> None:
        """Drop the samples that have arrived."""
        for name, value in vars(self).items():
            setattr(self, name, value[which])


@dataclass(frozen=True, repr=False)
class Adaptive(Solver):
    """Steps in lam = log(alpha / sigma), chosen for each sample alone.

    A step of a sample is accepted if its error E = rms(error / (atol + rtol max(|x|, |x_new|))) is at most 1; the next
    one is larger by 0.9 E^-a E_before^b. A hard sample neither slows nor changes an easy one, and finished samples
    leave the batch. Rejected steps cost evaluations and are counted. From data to noise, choose tolerances well
    below the first sigma: noise that is smaller than they are is lost.

    Args:
        rtol: relative tolerance of one step.
        atol: absolute tolerance of one step, in units of x.
    """

    rtol: float = 1e-3
    atol: float = 1e-3

    def __post_init__(self) -> None:
        require(self.rtol > 0, "rtol", self.rtol, "give a tolerance > 0")
        require(self.atol > 0, "atol", self.atol, "give a tolerance > 0")

    adaptive = True
    takes_corrector = False

    @property
    @abstractmethod
    def exponents(self) -> tuple[float, float]:
        """(a, b) of the step-size controller."""

    @abstractmethod
    def evaluate(self, model: Model, x: Tensor, t: Tensor) -> Tensor:
        """The first evaluation of a step from x (B, *event) at times t (B,)."""

    @abstractmethod
    def attempt(self, model: Model, x: Tensor, lam: Tensor, h: Tensor, first: Tensor, w: Tensor | None) -> Trial:
        """A step from lam (B,) to lam + h, given the first evaluation and, for rules with noise, the increment w."""

    @property
    def noisy(self) -> bool:
        """Whether `attempt` takes increments of Brownian motion."""
        return False

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        sde, out = model.sde, x.clone()
        start, end = (float(v) for v in sde.lam(times[[0, -1]]))
        toward = 1 if end > start else -1
        now, brownian = _Running.at(start, x), Increments(sde, x) if self.noisy else None
        for attempt in range(_LARGEST_ATTEMPTS):
            now.width = torch.minimum(now.width, toward * (end - now.lam))
            draws = [partial(self._draw, noise, purpose, attempt, out, now.rows) for purpose in ("solver", "bridge")]
            self._try(model, now, toward, brownian, draws)
            out[now.rows] = now.x
            running = toward * (end - now.lam) > 1e-12
            last = now.lam[(toward * now.lam).argmin()]
            yield float(sde.t_of_lam(last)) if running.any() else float(times[-1]), out.clone()
            if not running.any():
                return
            if not running.all():
                now.keep(running)
                if brownian is not None:
                    brownian.keep(running)
        raise InputError(f"solver: {type(self).__name__} has not arrived after {_LARGEST_ATTEMPTS} steps; raise rtol")

    def _try(
        self,
        model: Model,
        now: "_Running",
        toward: int,
        brownian: Increments | None,
        draws: Sequence[Callable[[], Tensor]],
    ) -> None:
        """One attempt of each sample: its step is taken if it is accepted, and its error sets the next one."""
        sde, stale, w = model.sde, now.stale, None
        if stale.any():
            mine = model.of_samples(now.rows[stale])
            now.first[stale] = self.evaluate(mine, now.x[stale], sde.t_of_lam(now.lam[stale]))
        if brownian is not None:
            now.width, w = brownian.propose(now.lam, now.width, now.x, draws[0])
        h, (a, b) = toward * now.width, self.exponents
        trial = self.attempt(model.of_samples(now.rows), now.x, now.lam, h, now.first, w)
        error = self._norm(trial.error, now.x, trial.x)
        accepted = error <= 1
        self._refuse_if_stuck(sde.t_of_lam(now.lam), now.width, error)
        if brownian is not None and w is not None:
            brownian.settle(accepted, now.lam, h, w, draws[1])
        now.x = torch.where(by_sample(accepted, now.x), trial.x, now.x)
        if trial.first is not None:
            now.first = torch.where(by_sample(accepted, now.x), trial.first, now.first)
        now.lam, now.stale = torch.where(accepted, now.lam + h, now.lam), accepted & (trial.first is None)
        now.width = now.width * (_SAFETY * error**-a * now.before**b).clamp(_SHRINK, _GROW)
        now.before = torch.where(accepted, error.clamp(min=1e-4), now.before)

    @staticmethod
    def _draw(noise: NoiseSource, purpose: str, attempt: int, x: Tensor, rows: Tensor) -> Tensor:
        """Normal numbers of the running samples, which do not depend on the others."""
        return noise.normal(purpose, attempt, x.shape, x.device, x.dtype)[rows]

    def _norm(self, error: Tensor, x: Tensor, new: Tensor) -> Tensor:
        scale = self.atol + self.rtol * torch.maximum(x.abs(), new.abs())
        return (error / scale).flatten(1).double().square().mean(1).sqrt()

    def _refuse_if_stuck(self, t: Tensor, width: Tensor, error: Tensor) -> None:
        stuck = ~torch.isfinite(error) | ((width < _SMALLEST) & (error > 1))
        if stuck.any():
            raise InputError(
                f"solver: {type(self).__name__} is stuck at t = {float(t[stuck][0]):.4g}; the model returns NaN there, "
                f"or the tolerances rtol={self.rtol}, atol={self.atol} are too small"
            )
