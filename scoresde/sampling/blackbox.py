"""The probability-flow ODE handed to a general-purpose integrator, of torchdiffeq or of scipy."""

import math
import warnings
from dataclasses import dataclass
from itertools import count
from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from scoresde.constraints import Constraint, Positive
from scoresde.dynamics import reverse_drift
from scoresde.errors import InputError, one_line
from scoresde.model import Model
from scoresde.sampling.coordinates import parts
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.solver import MOST_STEPS, NoiseSource, Path, Solver, check_tolerances

_Adaptive = Literal["dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun"]
_Fixed = Literal["euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams"]
_MOST_KEPT = 10_000_000  # values of a path, which take 40 MB in float32


def _no_less_than(least: float) -> Constraint:
    return Constraint(lambda rtol: least <= rtol <= 1, f"a tolerance from {least:g} to 1")


@dataclass(frozen=True, repr=False)
class BlackBox(Solver):
    """An integrator that takes its own steps: one error norm over the batch, no noise and no corrector."""

    method: str
    rtol: Annotated[float, _no_less_than(1e-13)] = 1e-5
    atol: Positive = 1e-5

    takes_corrector = False


@dataclass(frozen=True, repr=False)
class TorchDiffEq(BlackBox):
    """The probability-flow ODE dx/dt = f x - g^2 score / 2, integrated in t by torchdiffeq's `odeint`.

    An adaptive method chooses its own steps, and yields the states at the times of the sampler's grid (for large
    batches only at the end); a fixed-step method uses the grid. It takes one error norm over the whole batch, so here,
    unlike elsewhere, a sample depends slightly (within the tolerances) on its neighbours. Song et al.
    2021 (arXiv 2011.13456), section 4.3.

    Args:
        method: adaptive dopri5, dopri8, bosh3, fehlberg2 or adaptive_heun; or fixed-step euler, midpoint, heun2, heun3,
            rk4, explicit_adams or implicit_adams.
        rtol: relative tolerance of one step.
        atol: absolute tolerance of one step, in units of x.

    Raises:
        InputError: for an unknown method, a tolerance that is not positive, or a corrector.
    """

    method: Literal[_Adaptive, _Fixed] = "dopri5"

    @property
    def adaptive(self) -> bool:
        return self.method in get_args(_Adaptive)

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        from torchdiffeq import odeint  # costs 0.4 s, so only when used

        check_tolerances(self.rtol, self.atol, x)
        low, high = sorted(times[[0, -1]].tolist())
        t = float(times[0])

        def velocity(at: Tensor, x: Tensor) -> Tensor:
            nonlocal t
            t = min(max(float(at), low), high)  # the search for a first step may look beyond the end
            a, b, _ = reverse_drift(model.sde, t, eta=0.0)
            rate = model(x, t).combine(x=float(a), eps=float(b))
            _require_finite(bool(torch.isfinite(rate).all()), t)
            return rate

        # states between the steps of an adaptive method are interpolated and do not change them; all of them are kept
        # until the end, so that large batches leave them out
        dense = not self.adaptive or len(times) * x.numel() <= _MOST_KEPT
        grid = (times if dense else times[[0, -1]]).to(x.device)
        # without step_t the adaptive methods step past the end, where sigma may not exist, and interpolate back
        options = {"step_t": grid[-1:], "max_num_steps": MOST_STEPS} if self.adaptive else None
        try:
            path = odeint(velocity, x, grid, rtol=self.rtol, atol=self.atol, method=self.method, options=options)
        except AssertionError as error:  # torchdiffeq found no step small enough, or took too many
            raise InputError(
                f"solver: {self.method} of torchdiffeq is stuck at t = {t:.6g} ({one_line(error)}); the tolerances "
                f"rtol={self.rtol}, atol={self.atol} are too small for {x.dtype}"
            ) from error
        yield from zip(grid.tolist()[1:], path[1:], strict=True)


def _require_finite(finite: bool, t: float) -> None:
    if not finite:
        raise InputError(
            f"solver: the model returns NaN or infinity at t = {t:.4g}; use smaller tolerances, or a checkpoint "
            "from before training diverged"
        )


_Explicit = Literal["RK23", "RK45", "DOP853"]
_Implicit = Literal["Radau", "BDF", "LSODA"]
_MOST_DERIVATIVES = 20_000_000  # of a batch, which take 160 MB


@dataclass(frozen=True, repr=False)
class SciPy(BlackBox):
    """The probability-flow ODE, integrated by an adaptive method of scipy.

    The state is u = x / rho with rho = sqrt(alpha^2 + sigma^2), the variable the angle phi = atan(sigma / alpha):

        u = cos(phi) x_0 + sin(phi) eps,   du/dphi = cos(phi) eps_hat - sin(phi) x0_hat = v_hat / rho

    In these coordinates (Lu and Song 2024, arXiv 2410.11081, section 3) the equation of every SDE runs over an
    interval within [0, pi/2], has no coefficient that diverges or vanishes, and a state of the order of one or of the
    data, so that tolerances mean the same for every SDE. It is never evaluated outside the given times. At
    the times of the sampler's grid it yields the state, by interpolation (DOP853 at its own steps).

    The state is float64 on the host; the model sees it in the type and on the device of x. It takes one error norm
    over the whole batch, so here, unlike elsewhere, a sample depends slightly (within the tolerances) on its
    neighbours; a small batch is integrated in larger steps.

    Args:
        method: RK23, RK45 or DOP853, which are explicit; or Radau, BDF or LSODA, which are implicit. These
            differentiate the model, sample by sample, by as many further evaluations as an event has values (LSODA
            only where the equation is stiff), and are for small events.
        rtol: relative tolerance of one step.
        atol: absolute tolerance of one step, in units of u.

    Raises:
        InputError: for an unknown method, a tolerance that is out of range, or a corrector; from `integrate` if the
            model returns NaN, no step is small enough, or the derivatives would not fit into memory.
    """

    method: Literal[_Explicit, _Implicit] = "RK45"
    adaptive = True

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        check_tolerances(self.rtol, self.atol, x)
        flow = _Flow(model, float(times[0]), float(times[-1]), x)
        model.sde.remember(times)
        due = [] if self.method == "DOP853" else [(t, flow.angle(t)) for t in reversed(times.tolist()[1:])]
        stepper = self._stepper(flow, x)
        message: str | None
        for steps in count():
            if stepper.status != "running":
                return
            with warnings.catch_warnings():  # LSODA also warns of what `status` reports
                warnings.simplefilter("ignore")
                message = stepper.step()
            if stepper.status == "failed" or steps == MOST_STEPS:
                why = " ".join(str(message or "too many").split())
                raise InputError(
                    f"solver: {self.method} of scipy is stuck at t = {flow.time(stepper.t):.4g} after {steps} steps "
                    f"({why}); the tolerances rtol={self.rtol}, atol={self.atol} may be too small for {x.dtype}"
                )
            if self.method == "DOP853":  # at its own steps, since its interpolation would cost evaluations
                t = flow.time(stepper.t)
                yield t, flow.state(stepper.y, t)
            while due and (stepper.t - due[-1][1]) * stepper.direction >= 0:
                t, angle = due.pop()
                yield t, flow.state(stepper.dense_output()(angle), t)

    def _stepper(self, flow: "_Flow", x: Tensor) -> Any:
        import scipy.integrate  # takes a while, so only when used

        size, jacobian = x[0].numel(), {}
        implicit = self.method in get_args(_Implicit)
        if implicit and x.numel() * size > _MOST_DERIVATIVES:
            raise InputError(
                f"solver: {self.method} of scipy needs {size} x {size} derivatives for each of {len(x)} samples; "
                "use method=RK45, or a smaller batch_size"
            )
        if self.method == "LSODA":
            jacobian = {"jac": flow.banded, "lband": size - 1, "uband": size - 1}
        elif implicit:
            jacobian = {"jac": flow.sparse}
        make = getattr(scipy.integrate, self.method)
        return make(flow.rate, flow.first, flow.start, flow.last, rtol=self.rtol, atol=self.atol, **jacobian)


class _Flow:
    """du/dphi of `SciPy` for one batch, in the form of scipy: functions of a float and a flat array."""

    def __init__(self, model: Model, start: float, end: float, x: Tensor) -> None:
        self.model = model
        self.shape, self.device, self.dtype = x.shape, x.device, x.dtype
        self.first, self.last, level = self.angle(start), self.angle(end), model.sde.at(start)
        self._ends = {self.first: start, self.last: end}
        x64 = x.detach().to("cpu", torch.float64)
        self.start = (x64 / math.hypot(level.alpha, level.sigma)).numpy().ravel()

    def angle(self, t: float) -> float:
        """phi at a time."""
        level = self.model.sde.at(t)
        return math.atan2(level.sigma, level.alpha)

    def time(self, phi: float) -> float:
        """The time at an angle; exact at both ends, and never beyond them, where a search for a first step may look."""
        phi = min(max(phi, min(self._ends)), max(self._ends))
        if phi in self._ends:
            return self._ends[phi]
        lam = math.log(math.cos(phi)) - math.log(math.sin(phi))
        low, high = sorted(self._ends.values())
        return min(max(float(self.model.sde.t_of_lam(torch.tensor(lam, dtype=torch.float64))), low), high)

    def state(self, u: np.ndarray, t: float) -> Tensor:
        """x of the flat u."""
        level = self.model.sde.at(t)
        x = torch.from_numpy(u * math.hypot(level.alpha, level.sigma))
        return x.reshape(self.shape).to(self.device, self.dtype)

    def rate(self, phi: float, u: np.ndarray) -> np.ndarray:
        """du/dphi."""
        t = self.time(phi)
        level = self.model.sde.at(t)
        of_x0, of_eps = parts("v", level.alpha, level.sigma)
        v = self.model(self.state(u, t), t).combine(x0=of_x0, eps=of_eps)
        rate = v.detach().to("cpu", torch.float64).numpy().ravel()
        _require_finite(bool(np.isfinite(rate).all()), t)
        return rate

    def derivatives(self, phi: float, u: np.ndarray) -> np.ndarray:
        """The derivative of each sample's rate by its own values, (B, D, D), in differences fit for x's type.

        scipy's own differences are of the order of 1e-8, which is nothing in float32.
        """
        rows = u.reshape(self.shape[0], -1)
        here, step = self.rate(phi, u), math.sqrt(torch.finfo(self.dtype).eps)
        columns = []
        for d in range(rows.shape[1]):
            moved = rows.copy()
            moved[:, d] += step * np.maximum(np.abs(rows[:, d]), 1.0)
            difference = (self.rate(phi, moved.ravel()) - here).reshape(rows.shape)
            columns.append(difference / (moved[:, d] - rows[:, d])[:, None])
        return np.stack(columns, axis=2)

    def sparse(self, phi: float, u: np.ndarray) -> Any:
        """The derivatives as a sparse matrix (B D, B D) of blocks along the diagonal."""
        from scipy.sparse import bsr_matrix

        blocks = self.derivatives(phi, u)
        count = len(blocks)
        return bsr_matrix((blocks, np.arange(count), np.arange(count + 1))).tocsc()

    def banded(self, phi: float, u: np.ndarray) -> np.ndarray:
        """The derivatives in the form of LSODA, 2 D - 1 diagonals: entry (i, j) in row i - j + D - 1, column j."""
        blocks = self.derivatives(phi, u)
        count, size, _ = blocks.shape
        packed, (i, j) = np.zeros((2 * size - 1, count, size)), np.indices((size, size))
        packed[i - j + size - 1, :, j] = blocks.transpose(1, 2, 0)
        return packed.reshape(2 * size - 1, count * size)
