"""Samplers: solver x time grid x steps x eta x corrector, from the prior to finished samples."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from scoresde.errors import InputError, require
from scoresde.evaluations import count_evaluations, evaluating
from scoresde.model import Model
from scoresde.noise import Noise, chunks
from scoresde.sampling.auto import Auto
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.grid import Grid
from scoresde.sampling.last_step import clean, first_x0
from scoresde.sampling.solver import NoiseSource, Solver


@dataclass(frozen=True)
class Samples:
    """What a sampler returns.

    Attributes:
        x: the samples, (n, *event), in the units of the model.
        nfe: network evaluations per sample, counted where they happened.
        seconds: wall-clock time.
    """

    x: Tensor
    nfe: float
    seconds: float


class Sampler:
    """Draws samples from a model; it sees neither network nor data nor configuration.

    Starts from the prior N(0, prior_std^2 I) at T and takes `steps` steps. The last step is the removal of the noise
    that is left at t_min, x <- x0_hat(x, t_min), one evaluation; after a rule of order 2 or more on the
    probability-flow ODE it is extrapolated to noise zero, see `scoresde.sampling.last_step.clean`. The other steps run
    on the grid from T to t_min.

    Sample k depends on (seed, k) alone, not on n, the batch size or the other samples.

    Args:
        solver: the rule for one step; `Auto` unless given.
        grid: where the times lie; equal steps in lam, or what suits `Auto`, unless given.
        steps: number of steps, the last one included.
        eta: noise level in place of the solver's own, see `scoresde.dynamics`; None keeps that.
        corrector: applied after each step of the solver.
        denoise: take the last step to clean data; if False all steps run on the grid and end at t_min.

    Raises:
        InputError: if steps is not positive or the solver cannot do what is asked.
    """

    def __init__(
        self,
        solver: Solver | None = None,
        grid: Grid | None = None,
        steps: int = 50,
        eta: float | None = None,
        corrector: Corrector | None = None,
        denoise: bool = True,
    ) -> None:
        require(steps >= 1, "steps", steps, "give an integer >= 1")
        solver = Auto() if solver is None else solver
        least, name = solver.least_steps, type(solver).__name__
        require(steps >= least, "steps", steps, f"{name} of order {least} needs an integer >= {least}")
        self.solver = solver if eta is None else solver.with_eta(eta)
        self.grid = self.solver.default_grid if grid is None else grid
        self.steps, self.corrector, self.denoise = steps, corrector, denoise
        self.solver.check(corrector)

    def times(self, model: Model) -> Tensor:
        """The times of the grid, float64 on the host, from T to t_min."""
        return self.grid(model.sde, self.steps + (0 if self.denoise else 1))

    def path(self, model: Model, x: Tensor, noise: NoiseSource) -> Iterator[tuple[float, Tensor]]:
        """Yield (t, x) from (T, x) on; the last one is the sample, at t = 0 if denoised.

        Args:
            model: what predicts these samples.
            x: (B, *event), a draw from the prior.
            noise: random numbers of these B samples.
        """
        times = self.times(model)
        last, before = (float(times[0]), x), None
        yield last
        way = self.solver.integrate(model, times, x, noise, self.corrector)
        if self.denoise and self.solver.extrapolates and self.corrector is None and len(times) > 1:
            for last in islice(way, len(times) - 2):
                yield last
            with first_x0() as seen:
                last = next(way)
            before = seen[0]
            yield last
        for last in way:
            yield last
        if self.denoise:
            yield 0.0, clean(model, last[1], last[0], before, times)

    def prior(
        self, model: Model, event_shape: Sequence[int], n: int, noise: NoiseSource, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Draws (n, *event) from the prior N(0, prior_std^2 I)."""
        z = noise.normal("prior", 0, (n, *event_shape), model.device, dtype)
        return z * model.sde.prior_std

    def batches(
        self,
        model: Model,
        event_shape: Sequence[int],
        n: int,
        seed: int = 0,
        batch_size: int = 500,
        dtype: torch.dtype = torch.float32,
        on_step: Callable[[int], None] | None = None,
    ) -> Iterator[Samples]:
        """Yield the samples in batches, so that memory stays bounded; arguments as for `sample`."""
        require(n >= 1, "n", n, "give an integer >= 1")
        require(batch_size >= 1, "batch_size", batch_size, "give an integer >= 1")
        for rows in chunks(range(n), batch_size):
            yield self._batch(model, event_shape, rows, Noise(seed, rows), dtype, on_step)

    def _batch(
        self,
        model: Model,
        event_shape: Sequence[int],
        rows: range,
        noise: Noise,
        dtype: torch.dtype,
        on_step: Callable[[int], None] | None,
    ) -> Samples:
        n, began = len(rows), time.perf_counter()
        with evaluating(model), torch.no_grad(), count_evaluations() as spent:
            mine = model.of_samples(torch.tensor(rows))
            start = self.prior(model, event_shape, n, noise, dtype)
            for _, x in self.path(mine, start, noise):  # noqa: B007 - the last one is the sample
                if on_step is not None:
                    on_step(n)
        nfe, seconds = spent.samples / n, time.perf_counter() - began
        if not torch.isfinite(x).all():
            bad = int((~torch.isfinite(x.flatten(1)).all(1)).sum())
            t, name = self._broken_at(mine, start, noise), type(self.solver).__name__
            raise InputError(
                f"sampler: {bad} of {n} samples are NaN or infinite, first at t = {t:.4g} (solver {name}, "
                f"steps={self.steps}); use more steps, or a checkpoint from before training diverged"
            )
        return Samples(x, nfe, seconds)

    @torch.no_grad()
    def _broken_at(self, model: Model, start: Tensor, noise: Noise) -> float:
        """The first time at which x is not finite; integrates again, since checking each step would be slow."""
        with evaluating(model):
            return next((t for t, x in self.path(model, start, noise) if not torch.isfinite(x).all()), math.nan)

    def sample(
        self,
        model: Model,
        event_shape: Sequence[int],
        n: int,
        seed: int = 0,
        batch_size: int = 500,
        dtype: torch.dtype = torch.float32,
        on_step: Callable[[int], None] | None = None,
    ) -> Samples:
        """Draw n samples.

        Args:
            model: what predicts.
            event_shape: shape of one sample.
            n: number of samples.
            seed: with the index of a sample, decides everything random about it.
            batch_size: samples computed at once; it does not change the samples.
            dtype: float32 or float64, of the state; the network keeps its own.
            on_step: called after each step with the number of samples that took it (for a progress bar).
        """
        parts = list(self.batches(model, event_shape, n, seed, batch_size, dtype, on_step))
        nfe = math.fsum(p.nfe * len(p.x) for p in parts) / n
        return Samples(torch.cat([p.x for p in parts]), nfe, math.fsum(p.seconds for p in parts))
