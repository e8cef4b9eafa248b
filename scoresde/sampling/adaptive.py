"""The loop over adaptive grids: every sample has its own steps, chosen by its own error."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from scoresde._shapes import expand, flat
from scoresde.constraints import Positive
from scoresde.errors import InputError
from scoresde.evaluations import first_x0
from scoresde.model import Model
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.solver import MOST_STEPS, NoiseSource, Path, Solver, check_tolerances
from scoresde.sde import SDE

_SMALLEST, _ARRIVED = 1e-9, 1e-12  # steps in lam
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 2.0
_CAREFUL, _LONGEST = 0.01, 1.0  # error of the first step in units of the tolerance, and its length in lam


def by_sample(mask: Tensor, x: Tensor) -> Tensor:
    """A mask (B,) that broadcasts over x (B, *event)."""
    return mask.reshape(-1, *(1,) * (x.ndim - 1))


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
        h: the next step in lam, negative towards noise.
        before: error of the last accepted step.
        first, stale: the evaluation at (x, lam), and where it has to be made.
    """

    rows: Tensor
    x: Tensor
    lam: Tensor
    h: Tensor
    before: Tensor
    first: Tensor
    stale: Tensor

    def keep(self, which: Tensor) -> None:
        """Drop the samples that have arrived."""
        for name, value in vars(self).items():
            setattr(self, name, value[which])


class Increments:
    """The increment of each sample's Brownian motion in t over its next step in lam.

    Drawing again after a rejection would keep small increments and drop large ones: in two dimensions this halves the
    variance of the samples. So a rejected increment is split by a Brownian bridge; its first half is the next attempt,
    and the second follows when the first is used up.

    Args:
        sde: gives t at lam.
        x: (B, *event), for shape, type and device.
    """

    def __init__(self, sde: SDE, x: Tensor) -> None:
        self._sde = sde
        self._depth = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        self._widths: list[Tensor] = []
        self._values: list[Tensor] = []

    def propose(self, lam: Tensor, h: Tensor, x: Tensor, draw: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """(h, w): steps (B,), at most those that were asked for, and increments (B, *event) over them."""
        fresh = self._depth == 0
        if fresh.any():
            span = self._sde.t_of_lam(lam) - self._sde.t_of_lam(lam + h)
            self._put(0, fresh, h, expand(span.sqrt(), x) * draw(), x)
            self._depth = self._depth + fresh
        w = torch.zeros_like(x)
        for level, (width, value) in enumerate(zip(self._widths, self._values, strict=True)):
            top = self._depth == level + 1
            h, w = torch.where(top, width, h), torch.where(by_sample(top, x), value, w)
        return h, w

    def settle(self, accepted: Tensor, lam: Tensor, h: Tensor, w: Tensor, draw: Callable[[], Tensor]) -> None:
        """Drop the increments that were used, and split those that were rejected."""
        if not accepted.all():
            t, middle, s = (self._sde.t_of_lam(lam + part * h) for part in (0.0, 0.5, 1.0))
            first, second = t - middle, middle - s
            share, spread = first / (first + second), (first * second / (first + second)).sqrt()
            near = expand(share, w) * w + expand(spread, w) * draw()
            for level in range(len(self._widths), 0, -1):
                top = ~accepted & (self._depth == level)
                if top.any():
                    self._put(level - 1, top, h / 2, w - near, w)
                    self._put(level, top, h / 2, near, w)
        self._depth = torch.where(accepted, self._depth - 1, self._depth + 1)

    def keep(self, rows: Tensor) -> None:
        """Drop the samples that have arrived."""
        self._depth = self._depth[rows]
        self._widths = [width[rows] for width in self._widths]
        self._values = [value[rows] for value in self._values]

    def _put(self, level: int, rows: Tensor, width: Tensor, value: Tensor, x: Tensor) -> None:
        if level == len(self._widths):
            self._widths.append(torch.zeros_like(width))
            self._values.append(torch.zeros_like(x))
        self._widths[level] = torch.where(rows, width, self._widths[level])
        self._values[level] = torch.where(by_sample(rows, x), value, self._values[level])


@dataclass(frozen=True, repr=False)
class Adaptive(Solver):
    """Steps in lam = log(alpha / sigma), chosen for each sample alone.

    A step of a sample is accepted if its error E = rms(error / (atol + rtol max(|x|, |x_new|))) is at most 1; the next
    one is 0.9 E^-a E_before^b times as long, at most 2. The first comes from the first evaluation, as in Hairer,
    Norsett and Wanner, section II.4, with E the same norm:

        h^(order + 1) E(d) = 0.01,   d = min(|alpha x0_hat|, |sigma eps_hat|),   h <= 1

    d bounds alpha dx0_hat/dlam, the first term that no rule takes exactly: for Gaussian data around 0 this is
    (alpha x0_hat) (sigma eps_hat) / x.

    A hard sample neither slows nor changes an easy one, and finished samples leave the batch; the number of steps of a
    sampler is ignored, also if it is 1. Rejected steps cost evaluations and are counted. From data to noise, choose
    tolerances well below the first sigma: noise that is smaller than they are is lost.

    Args:
        rtol: relative tolerance of one step.
        atol: absolute tolerance of one step, in units of x.
    """

    rtol: Positive = 1e-3
    atol: Positive = 1e-3

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

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        check_tolerances(self.rtol, self.atol, x)
        sde, out = model.sde, x.clone()
        normal = partial(noise.normal, shape=x.shape, device=x.device, dtype=x.dtype)
        start, end = (float(v) for v in sde.lam(times[[0, -1]]))
        rows, one = torch.arange(len(x), device=x.device), torch.ones(len(x), dtype=torch.float64, device=x.device)
        first, h = self._begin(model, x, sde.t_of_lam(start * one))
        h = h * math.copysign(1.0, end - start)
        now = _Running(rows, x, lam=start * one, h=h, before=one, first=first, stale=one == 0)
        brownian = Increments(sde, x) if self.eta != 0 else None
        for attempt in range(MOST_STEPS):
            left = end - now.lam
            now.h = torch.where(now.h.abs() < left.abs(), now.h, left)
            self._try(model, now, brownian, partial(normal, step=attempt))
            out[now.rows] = now.x
            left = (end - now.lam).abs()
            running = left > _ARRIVED
            yield float(sde.t_of_lam(now.lam[left.argmax()])) if running.any() else float(times[-1]), out.clone()
            if not running.any():
                return
            if not running.all():
                now.keep(running)
                if brownian is not None:
                    brownian.keep(running)
        raise InputError(
            f"solver: {type(self).__name__} is stuck: after {MOST_STEPS} steps it is at t = "
            f"{float(sde.t_of_lam(now.lam)[0]):.4g} (lam = {float(now.lam[0]):.4g}, next step {float(now.h[0]):.2g}); "
            f"raise the tolerances rtol={self.rtol}, atol={self.atol}"
        )

    def _begin(self, model: Model, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The first evaluation, and from it the length (B,) of the first step."""
        with first_x0() as seen:
            first = self.evaluate(model, x, t)
        signal = expand(model.sde.alpha(t), x) * seen[0]
        bend = torch.minimum(signal.abs(), (x - signal).abs())
        size = self._size(bend, x.abs())
        return first, (_CAREFUL / size).pow(1 / ((self.order or 1) + 1)).clamp(max=_LONGEST)

    def _size(self, error: Tensor, x: Tensor) -> Tensor:
        """The norm (B,) of errors in units of the tolerances at values of size x."""
        return flat(error / (self.atol + self.rtol * x)).double().square().mean(1).sqrt()

    def _try(self, model: Model, now: _Running, brownian: Increments | None, draw: Callable[[str], Tensor]) -> None:
        """One attempt of each sample: its step is taken if it is accepted, and its error sets the next one.

        `draw` gives the numbers of all samples; those of the running ones do not depend on which others run.
        """
        sde, stale, w = model.sde, now.stale, None
        if stale.any():
            mine = model.of_samples(now.rows[stale])
            now.first[stale] = self.evaluate(mine, now.x[stale], sde.t_of_lam(now.lam[stale]))
        if brownian is not None:
            now.h, w = brownian.propose(now.lam, now.h, now.x, lambda: draw("solver")[now.rows])
        trial, (a, b) = self.attempt(model.of_samples(now.rows), now.x, now.lam, now.h, now.first, w), self.exponents
        error = self._size(trial.error, torch.maximum(now.x.abs(), trial.x.abs()))
        accepted, stuck = error <= 1, ~torch.isfinite(error) | ((now.h.abs() < _SMALLEST) & (error > 1))
        if stuck.any():
            t = float(sde.t_of_lam(now.lam)[stuck][0])
            raise InputError(
                f"solver: {type(self).__name__} is stuck at t = {t:.4g}; the model returns NaN there, or the "
                f"tolerances rtol={self.rtol}, atol={self.atol} are too small"
            )
        if brownian is not None and w is not None:
            brownian.settle(accepted, now.lam, now.h, w, lambda: draw("bridge")[now.rows])
        now.x = torch.where(by_sample(accepted, now.x), trial.x, now.x)
        if trial.first is not None:
            now.first = torch.where(by_sample(accepted, now.x), trial.first, now.first)
        now.lam, now.stale = torch.where(accepted, now.lam + now.h, now.lam), accepted & (trial.first is None)
        now.h = now.h * (_SAFETY * error**-a * now.before**b).clamp(_SHRINK, _GROW)
        now.before = torch.where(accepted, error.clamp(min=1e-4), now.before)
