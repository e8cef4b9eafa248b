"""Log densities of data under a model, by the solvers that also draw samples."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from scoresde._shapes import flat
from scoresde.constraints import Positive, at_least, fitting
from scoresde.described import Rebuildable
from scoresde.divergence import Divergence, ExactTrace, Hutchinson
from scoresde.divergence.products import require_derivative
from scoresde.errors import InputError, refuse, require
from scoresde.evaluations import count_evaluations, evaluating, uncounted
from scoresde.likelihood.augmented import Augmented, Draws, Moves
from scoresde.model import Model
from scoresde.named import named
from scoresde.noise import Noise, chunks
from scoresde.sampling import Auto, Cosine, ExponentialMultistep, Grid, Sampler, Solver

_RULE, _GRID = ExponentialMultistep("v", "noise_share", predictor=3, corrector=4), Cosine("angle", 0.7)
_EXACT, _PROBES = 100, 8  # values of an item up to which a trace is exact, and directions of larger ones
_FINER = 4  # times the steps of a second solve
_NAMED, _FEW = 5, 2  # items that a message names, and that are looked at before all others


@dataclass(frozen=True)
class LogDensity:
    """Log densities of n items.

    Attributes:
        nats: (n,), float64.
        error: the standard error of each, from the random directions alone; 0 of an exact trace, NaN of a single one.
        half: half the 95 % interval of each, by Student's t with that error.
        latent: the items carried to noise, (n, *event), float64.
        again: whether each was solved a second time, see `Likelihood`, (n,).
        nfe: network evaluations per item, those of second solves included; value and divergence are one.
        products: Jacobian-vector products per item.
        seconds: wall-clock time.
    """

    nats: Tensor
    error: Tensor
    half: Tensor
    latent: Tensor
    again: Tensor
    nfe: float
    products: float
    seconds: float


class Likelihood(Rebuildable):
    """The log density of data under a model, by the probability-flow ODE from data to noise.

        log p(x) = log p_T(x_T) + int div(dx/dt) dt

    The solver, the grid and the number of steps are those of sampling, see `Augmented`. The density is that of noisy
    data at the cut-off, the smallest time of the SDE (t_train). Song et al. 2021 (arXiv 2011.13456), section 4.3.

    Args:
        solver: of the probability-flow ODE; None for the multistep rule of order 4 on v (three values, and a
            corrector of four) in the noise share.
        grid: of times, from data to noise; None for `Cosine("angle", 0.7)`. Both were chosen by measurement.
        divergence: None for the exact trace of items of at most 100 values, which costs as many products, and for 8
            Hadamard directions of larger ones.
        steps: number of steps; a solver that chooses its own ignores it.
        again: with the default solver, items that a corrector moves by more nats for each of their values are solved a
            second time, with four times the steps: those that pass from one mode to another. None: no item.

    Raises:
        InputError: a solver with noise; or random directions that are drawn at every step, with a solver whose steps
            or weights depend on them.
    """

    def __init__(
        self,
        solver: Solver | None = None,
        grid: Grid | None = None,
        divergence: Divergence | None = None,
        steps: Annotated[int, at_least(1), fitting(1000)] = 50,
        again: Positive | None = 0.025,
    ) -> None:
        self.again = again if solver is None else None
        solver, grid = _RULE if solver is None else solver, _GRID if grid is None else grid
        self._sampler = Sampler(solver, grid, steps, denoise=False)
        self._finer = Sampler(solver, grid, _FINER * steps, denoise=False)
        self.solver, self.grid, self.steps = self._sampler.solver, self._sampler.grid, steps
        self.divergence = divergence
        name = self.solver.called
        refuse(
            not self.solver.bidirectional,
            f"solver: {name} adds noise, and a likelihood needs the probability-flow ODE; use solver=heun, or eta=0",
        )
        self._depends = self.solver.adaptive or isinstance(self.solver, Auto)
        refuse(
            self._depends and divergence is not None and divergence.fresh,
            f"divergence: fresh directions are not possible with {name}, whose steps or weights would depend on them; "
            "use fresh=false, or a solver of fixed steps such as heun",
        )

    @classmethod
    def of(
        cls, solver: Solver | str | None, grid: Grid | str | None, divergence: Divergence | str | None, steps: int
    ) -> "Likelihood":
        """From objects, or from their names in conf, for means over many items: none is solved again."""
        parts: dict[str, Any] = {"solver": solver, "grid": grid, "divergence": divergence}
        parts = {key: named(key, one) if isinstance(one, str) else one for key, one in parts.items()}
        return cls(**parts, steps=steps, again=None)

    def _divergence(self, size: int) -> Divergence:
        """That for items of so many values."""
        if self.divergence is not None:
            return self.divergence
        return ExactTrace() if size <= _EXACT else Hutchinson(_PROBES, "hadamard", fresh=not self._depends)

    def __call__(
        self,
        model: Model,
        x: Tensor,
        *,
        seed: int = 0,
        rows: range | None = None,
        at: float | None = None,
        batch_size: int = 500,
        prior: Callable[[Tensor], Tensor] | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> LogDensity:
        """Log densities in model units.

        Args:
            model: what predicts.
            x: items (n, *event) in model units, at the cut-off.
            seed: with the index of an item, decides its random directions.
            rows: the indices of the items, in place of 0 ... n - 1.
            at: the cut-off; None for t_train of the SDE.
            batch_size: items computed at once; it does not change the densities.
            prior: log p_T (B,) of the last x (B, *event); None for that of N(0, prior_std^2).
            on_step: called after each step with the number of items that took it.

        Raises:
            InputError: data of another shape or not finite, a model of another kind, or densities that are not finite.
        """
        model.needs_gaussian("likelihood")
        rows = range(len(x)) if rows is None else rows
        require(len(rows) == len(x) > 0, "x", tuple(x.shape), f"give one item for each of {len(rows)} rows")
        shape = tuple(x.shape[1:]) if model.event_shape is None else tuple(model.event_shape)
        require(tuple(x.shape[1:]) == shape, "x", tuple(x.shape), f"this model takes items of shape {shape}")
        require(batch_size >= 1, "batch_size", batch_size, "give an integer >= 1")
        _require_finite("x", "item", x, rows)
        began, found, divergence = time.perf_counter(), [], self._divergence(math.prod(shape))
        at = model.sde.t_train if at is None else at
        _require_derivative(model, x[:_FEW].to(model.device, torch.float64), rows[:_FEW])
        with count_evaluations() as spent:
            for mine in chunks(range(len(x)), batch_size):
                part = x[mine.start : mine.stop].to(model.device)
                own = rows[mine.start : mine.stop]
                found.append(self._batch(model, part, own, divergence, seed, at, prior, on_step))
        nats, error, latent, again = (torch.cat(parts) for parts in zip(*found, strict=True))
        _require_finite("likelihood", "density", nats, rows)
        nfe = spent.samples / len(x)
        products = nfe / model.cost * divergence.products(math.prod(shape))
        half, seconds = divergence.quantile() * error, time.perf_counter() - began
        return LogDensity(nats, error, half, latent, again, nfe, products, seconds)

    def _batch(
        self,
        model: Model,
        x: Tensor,
        rows: range,
        divergence: Divergence,
        seed: int,
        at: float,
        prior: Callable[[Tensor], Tensor] | None,
        on_step: Callable[[int], None] | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Densities, their errors, the latent, and which were solved a second time."""
        shape, moves = tuple(x.shape[1:]), Moves(torch.zeros(len(x), dtype=torch.float64, device=x.device))
        augmented = Augmented(model, divergence, Draws(seed, rows, shape), shape, moves if self.again else None)

        def solved(sampler: Sampler, own: Augmented, some: range, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            sde, start = model.sde, own.start(x)
            for t, z in sampler.trajectory(own, rows=some, start=start, at=at, to=sde.T):  # noqa: B007
                if on_step is not None and sampler is self._sampler:
                    on_step(len(x))
            last, ell = own.parted(z, t)  # the last one
            value, error = divergence.estimate(ell)
            log_p = normal(last, sde.prior_std) if prior is None else prior(last).double()
            return log_p + value + own.gaussian(t, at), error, last

        found = solved(self._sampler, augmented, rows, x)
        again = moves.nats > (self.again or math.inf) * augmented.size
        if again.any():
            chosen = torch.tensor(rows)[again.cpu()]
            fine = Augmented(model, divergence, Draws(seed, rows, shape), shape).of_samples(chosen)
            for whole, part in zip(found, solved(self._finer, fine, range(len(chosen)), x[again]), strict=True):
                whole[again] = part
        return *found, again.cpu()


def _require_derivative(model: Model, x: Tensor, rows: range) -> None:
    """Refuse a model without a divergence, before any time is spent."""
    if x[0].numel() > 1:
        sde, lam = model.sde, torch.tensor(-math.log(model.sigma_data), dtype=torch.float64)
        t = min(max(float(sde.t_of_lam(lam)), sde.t_train), sde.t_start)
        direction = Noise(0).normal("direction", 0, x.shape, x.device, x.dtype) * model.sigma_data
        with torch.no_grad(), evaluating(model), uncounted():
            own = model.of_samples(torch.tensor(rows))
            require_derivative(lambda x: own(x, t).eps, x, direction)


def normal(x: Tensor, std: float) -> Tensor:
    """The log density of N(0, std^2)."""
    squares = flat(x).double().square().sum(1) / std**2
    return -0.5 * (squares + x[0].numel() * math.log(2 * math.pi * std**2))


def _require_finite(name: str, what: str, values: Tensor, rows: range) -> None:
    """Refuse values (n, ...) that are not finite, by the numbers of their items."""
    bad = (~torch.isfinite(flat(values))).any(1).nonzero()[:, 0].tolist()
    if bad:
        some = ", ".join(str(rows[i]) for i in bad[:_NAMED]) + (", ..." if len(bad) > _NAMED else "")
        raise InputError(
            f"{name}: the {what} of {len(bad)} of {len(values)} items is NaN or infinite, those of number {some}"
        )
