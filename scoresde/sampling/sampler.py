"""Samplers: solver x time grid x steps x eta x corrector, from the prior to finished samples."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Annotated, Any

import torch
from torch import Tensor

from scoresde._shapes import flat
from scoresde.constraints import at_least, fitting
from scoresde.described import Rebuildable
from scoresde.errors import InputError, require
from scoresde.evaluations import count_evaluations, evaluating, first_x0
from scoresde.model import Model
from scoresde.noise import Noise, chunks, take
from scoresde.sampling.auto import Auto
from scoresde.sampling.choices import choices_of, noting
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.foresight import say_once
from scoresde.sampling.grid import Grid, require_known
from scoresde.sampling.last_step import clean
from scoresde.sampling.samples import Samples
from scoresde.sampling.solver import NoiseSource, Path, Solver


class Sampler(Rebuildable):
    """Draws samples from a model; it sees neither network nor data nor configuration.

    Starts from the prior N(0, prior_std^2 I) at T and takes `steps` steps. The last step is the removal of the noise
    that is left at t_min, x <- x0_hat(x, t_min), one evaluation; after a rule of order 2 or more on the
    probability-flow ODE it is extrapolated to noise zero, see `clean`. The other steps run
    on the grid from T to t_min. A solver of the ODE also runs between any two levels, in either direction:

        sampler.sample(model, start=x, at=sde.t_min, to=sde.T)    # encode data as noise
        sampler.sample(model, start=x, at=0.5)                    # continue from a noise level to clean data

    Sample k depends on (seed, k) alone, not on n, the batch size or the other samples.

    Args:
        solver: the rule for one step; by default `Auto`, or what a model names, see `Model.usual_solver`.
        grid: where the times lie; by default equal steps in lam, or the solver's own, such as that of `Auto`.
        steps: number of steps, the last one included; a solver that chooses its own ignores it, also if it is 1.
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
        steps: Annotated[int, at_least(1), fitting(1000)] = 50,
        *,
        eta: float | None = None,
        corrector: Corrector | None = None,
        denoise: bool = True,
    ) -> None:
        self._usual_solver, self._usual_grid = solver is None, grid is None
        solver = Auto() if solver is None else solver
        solver.check_steps(steps)
        self.solver = solver if eta is None else solver.with_eta(eta)
        self.grid = self.solver.default_grid if grid is None else grid
        self.steps, self.eta, self.corrector, self.denoise = steps, eta, corrector, denoise
        self.solver.check(corrector)

    def times(
        self,
        model: Model,
        at: float | None = None,
        to: float | None = None,
        event_shape: Sequence[int] | None = None,
    ) -> Tensor:
        """The times of the grid, float64 on the host, from `at` (T) to `to` (t_min), for events of a shape."""
        sde = model.sde
        require_known(sde, at=at, to=to)
        below = to is None and at is not None and at <= sde.t_min
        require(not below, "at", at, f"give a time above t_min = {sde.t_min:g}, or the time to go to, to=")
        require(at is None or at != to, "to", to, "give a time other than at")
        points = self.steps + (0 if self._ends_clean(to) else 1)
        grid, smooth = self.grid.scaled(model, event_shape), self.denoise and self._smooth
        to = sde.t_min if to is None and grid.leads_to_zero and not smooth else to
        times = grid(sde, max(points, 2) if self.solver.adaptive else points, at, to)  # it takes its own steps
        self.solver.check_levels(sde, times, event_shape)
        return times

    def suited(self, model: Model, event_shape: Sequence[int] | None = None) -> "Sampler":
        """The sampler with the solver for a model, and with the grid that its own looks up, see `PilotGrid`.

        A model may bring a solver for samplers that name none, and steps of its own, see `Model.suits`.

        Raises:
            InputError: the solver is made for another kind of states.
        """
        usual: Solver | None = model.usual_solver if self._usual_solver else None
        named = self if usual is None else self._with(usual if self.eta is None else usual.with_eta(self.eta))
        other = model.suits(named)
        solver = other.solver.suited(model)
        other = other if solver is other.solver else other._with(solver)
        grid = other.grid.lookup(other, model, model.event_shape if event_shape is None else event_shape)
        if grid is not other.grid:
            other = copy.copy(other)
            other.grid = grid
        return other

    def _with(self, solver: Solver) -> "Sampler":
        """The sampler with another solver, and its grid where none was given."""
        solver.check_steps(self.steps)
        solver.check(self.corrector)
        other = copy.copy(self)
        other.solver, other._usual_solver = solver, False
        other.grid = solver.default_grid if self._usual_grid else self.grid
        return other

    def _ends_clean(self, to: float | None) -> bool:
        return self.denoise and to is None

    @property
    def _smooth(self) -> bool:
        """Whether the last step to clean data can be extrapolated from several evaluations."""
        return self.corrector is None and self.solver.extrapolates

    def path(
        self, model: Model, x: Tensor, noise: NoiseSource, at: float | None = None, to: float | None = None
    ) -> Path:
        """Yield (t, x) from the start on; the last one is the sample, at t = 0 if denoised.

        Args:
            model: what predicts these samples.
            x: (B, *event), the state at time `at`: by default a draw from the prior.
            noise: random numbers of these B samples.
            at: first time, see `sample`.
            to: last time, see `sample`.
        """
        times, denoise = self.times(model, at, to, x.shape[1:]), self._ends_clean(to)
        last, before = (float(times[0]), x), None
        yield last
        if denoise and self._smooth and self.solver.reaches_zero:
            return (yield from self.solver.integrate(model, torch.cat((times, torch.zeros(1))), x, noise))
        path = self.solver.integrate(model, times, x, noise, self.corrector)
        if denoise and self._smooth and len(times) > 1:
            for last in islice(path, len(times) - 2):
                yield last
            with first_x0() as seen:
                last = next(path)
            before = seen[0]
            yield last
        for last in path:
            yield last
        if denoise:
            yield 0.0, clean(model, last[1], last[0], before, times)

    def prior(
        self, model: Model, event_shape: Sequence[int], n: int, noise: NoiseSource, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Draws (n, *event) from the prior, see `scoresde.Model.prior`."""
        return model.prior(noise.normal("prior", 0, (n, *event_shape), model.device, dtype))

    def _trajectory(
        self,
        model: Model,
        event_shape: Sequence[int] | None = None,
        *,
        rows: range,
        seed: int = 0,
        start: Tensor | None = None,
        at: float | None = None,
        to: float | None = None,
        dtype: torch.dtype | None = None,
        noise: NoiseSource | None = None,
    ) -> Path:
        """Yield (t, x) of the samples number `rows` of a seed, all at once, in evaluation mode and without gradients.

        Args:
            model: what predicts.
            event_shape: shape of one sample; by default that of the model.
            rows: the samples, such as range(500, 1000).
            seed: with the index of a sample, decides everything random about it.
            start: see `sample`.
            at: see `sample`.
            to: see `sample`.
            dtype: see `sample`.
            noise: random numbers in place of those of the seed.
        """
        noise = Noise(seed, rows) if noise is None else noise
        suited = self.suited(model, event_shape if start is None else start.shape[1:])
        if start is None:
            require(at is None, "at", at, "give the state at that time, start=")
            shape = model.event_shape if event_shape is None else event_shape
            if shape is None:
                raise InputError("event_shape: this model does not know its own; give the shape of one sample")
            start = self.prior(model, shape, len(rows), noise, dtype or torch.float32)
        start = start.to(model.device, dtype or start.dtype)
        with evaluating(model):
            own = model.of_samples(torch.arange(rows.start, rows.stop, rows.step))
            yield from suited.path(own, start, noise, at, to)

    trajectory = torch.no_grad()(_trajectory)  # a batch switches gradients off once, not at every step

    def batches(
        self,
        model: Model,
        event_shape: Sequence[int] | None = None,
        n: int | None = None,
        *,
        rows: range | None = None,
        start: Tensor | None = None,
        batch_size: int = 500,
        on_step: Callable[[int], None] | None = None,
        **request: Any,
    ) -> Iterator[Samples]:
        """Yield the samples in batches, so that memory stays bounded; arguments as for `sample`."""
        require(batch_size >= 1, "batch_size", batch_size, "give an integer >= 1")
        rows, suited = _rows(n, rows, start), self.suited(model, event_shape if start is None else start.shape[1:])
        for mine in chunks(range(len(rows)), batch_size):
            x = None if start is None else take(start, mine)
            own = rows[mine.start : mine.stop]
            walk = partial(suited._trajectory, model, event_shape, rows=own, start=x, **request)
            yield self._batch(len(mine), walk, on_step)

    @torch.no_grad()
    def _batch(self, n: int, walk: Callable[[], Path], on_step: Callable[[int], None] | None) -> Samples:
        began = time.perf_counter()
        with count_evaluations() as spent, noting() as noted:
            for _, x in walk():  # noqa: B007 - the last one is the sample
                if on_step is not None:
                    on_step(n)
        finite = bool(torch.isfinite(x).all())  # waits for the device, as the time must
        nfe, seconds = spent.samples / n, time.perf_counter() - began
        if not finite:
            bad = int((~torch.isfinite(flat(x)).all(1)).sum())
            # the trajectory is computed again, since looking at each step would wait for the device
            t = next((t for t, x in walk() if not torch.isfinite(x).all()), math.nan)
            raise InputError(
                f"sampler: {bad} of {n} samples are NaN or infinite, first at t = {t:.4g} (solver "
                f"{self.solver.called}, steps={self.steps}); use more steps, or a checkpoint from before "
                "training diverged"
            )
        return Samples(x, nfe, seconds, choices_of(noted), spent.products / n)

    def sample(
        self,
        model: Model,
        event_shape: Sequence[int] | None = None,
        n: int | None = None,
        *,
        seed: int = 0,
        rows: range | None = None,
        start: Tensor | None = None,
        at: float | None = None,
        to: float | None = None,
        batch_size: int = 500,
        dtype: torch.dtype | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> Samples:
        """Draw samples, or carry a state from one noise level to another.

        Steps that are too few, or on a grid that does not suit the solver, are said on stderr, see `foresight`.

        Args:
            model: what predicts.
            event_shape: shape of one sample; by default that of the model.
            n: number of samples.
            seed: with the index of a sample, decides everything random about it.
            rows: the indices of the samples, such as range(500, 1000), in place of 0 ... n - 1.
            start: the state (n, *event) at time `at`, in place of a draw from the prior.
            at: the time at which to begin; T by default.
            to: the time at which to end, without the last step to clean data; None goes down to clean data.
            batch_size: samples computed at once; it does not change the samples.
            dtype: float32 or float64, of the state; the network keeps its own. By default that of start, or float32.
            on_step: called after each step with the number of samples that took it (for a progress bar).

        Raises:
            InputError: no number of samples, times that the SDE or the solver does not allow, or samples that are NaN.
        """
        suited = self.suited(model, event_shape if start is None else start.shape[1:])
        if start is None and to is None:
            say_once(suited, model.sde, model.sigma_data)
        request: dict[str, Any] = {"seed": seed, "at": at, "to": to, "dtype": dtype, "batch_size": batch_size}
        return Samples.joined(suited.batches(model, event_shape, n, rows=rows, start=start, on_step=on_step, **request))


def _rows(n: int | None, rows: range | None, start: Tensor | None) -> range:
    """The indices of the samples, given by their number, their indices or their start."""
    if rows is None:
        n = len(start) if n is None and start is not None else n
        require(n is not None and n >= 1, "n", n, "give an integer >= 1")
        rows = range(n or 0)
    require(len(rows) >= 1, "rows", rows, "give a range of at least one index, such as range(500, 1000)")
    require(n is None or n == len(rows), "n", n, f"rows has {len(rows)}; leave n out")
    if start is not None:
        require(len(start) == len(rows), "start", tuple(start.shape), f"give one state for each of {len(rows)} samples")
    return rows
