"""The probability-flow ODE handed to a general-purpose integrator."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from scoresde.dynamics import reverse_drift
from scoresde.errors import InputError, require
from scoresde.model import Model
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.solver import NoiseSource, Solver

_ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
_FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams")


@dataclass(frozen=True)
class TorchDiffEq(Solver):
    """The probability-flow ODE dx/dt = f x - g^2 score / 2, integrated in t by torchdiffeq's `odeint`.

    An adaptive method chooses its own steps between T and t_min; a fixed-step method uses the sampler's grid. It takes
    one error norm over the whole batch, so here, unlike elsewhere, a sample depends slightly (within the tolerances) on
    its neighbours. Song et al. 2021 (arXiv 2011.13456), section 4.3.

    Args:
        method: adaptive dopri5, dopri8, bosh3, fehlberg2 or adaptive_heun; or fixed-step euler, midpoint, heun2, heun3,
            rk4, explicit_adams or implicit_adams.
        rtol, atol: relative and absolute tolerance of one step, in units of x.

    Raises:
        InputError: for an unknown method, a tolerance that is not positive, or a corrector.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5

    def __post_init__(self) -> None:
        known = _ADAPTIVE + _FIXED
        require(self.method in known, "method", self.method, f"give one of {', '.join(known)}")
        require(self.rtol > 0, "rtol", self.rtol, "give a tolerance > 0")
        require(self.atol > 0, "atol", self.atol, "give a tolerance > 0")

    @property
    def adaptive(self) -> bool:
        return self.method in _ADAPTIVE

    def check(self, corrector: Corrector | None) -> None:
        if corrector is not None:
            raise InputError("corrector: torchdiffeq takes its own steps and allows no corrector; use corrector=none")

    def integrate(
        self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None = None
    ) -> Iterator[tuple[float, Tensor]]:
        if len(times) < 2:
            return
        from torchdiffeq import odeint  # costs 0.4 s, so only when used

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            a, b, _ = reverse_drift(model.sde, float(t), eta=0.0)
            return model(x, float(t)).combine(x=float(a), eps=float(b))

        grid = (times[[0, -1]] if self.adaptive else times).to(x.device)
        # without step_t the adaptive methods step past t_min, where sigma may not exist, and interpolate back
        options = {"step_t": grid[-1:]} if self.adaptive else None
        try:
            path = odeint(velocity, x, grid, rtol=self.rtol, atol=self.atol, method=self.method, options=options)
        except AssertionError as error:  # how torchdiffeq says that no step is small enough
            raise InputError(
                f"solver: {self.method} of torchdiffeq is stuck ({error}); the model returns NaN, or the tolerances "
                f"rtol={self.rtol}, atol={self.atol} are too small for {x.dtype}"
            ) from error
        yield from zip(grid.tolist()[1:], path[1:], strict=True)
