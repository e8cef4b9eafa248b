"""One-step rules with several evaluations: Runge-Kutta rules of the probability-flow ODE, and exponential ones.

The rules are tableaux, see `scoresde.sampling.tableaux`.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from scoresde.constraints import Constraint
from scoresde.dynamics import Eta, eta_at, reverse_drift
from scoresde.model import Model
from scoresde.sampling.coordinates import Kernel, parts, time_of
from scoresde.sampling.solver import Draw, GridSolver, Step, accumulate, add
from scoresde.sampling.tableaux import EXPLICIT, EXPONENTIAL, Tableau
from scoresde.sde import SDE

RungeKuttaVariable = Literal["ratio", "noise_share", "time"]


class Stage(NamedTuple):
    """One point at which x is known, as numbers or as tensors (N,).

    Attributes:
        t: its time.
        x, x0, eps: parts of the quantity P that the rule uses.
        scale: factor of the x that the step began with.
        carry, std: factor of the noise so far, and size of the new one.
        weights: of P at the stages before; at the last stage those of the error follow.
    """

    t: Any
    x: Any
    x0: Any
    eps: Any
    scale: Any
    carry: Any
    std: Any
    weights: tuple[Any, ...]

    def value(self, model: Model, x: Tensor) -> Tensor:
        """P at x (B, *event), one evaluation."""
        return model(x, self.t).combine(x=self.x, x0=self.x0, eps=self.eps)


class Stages(GridSolver):
    """Rules x_i = d_i x + sum_{j < i} w_ij P_j + noise, where P_j is a combination of x_j, x0 and eps.

    The plan of a step is a list of `Stage`; the first is where it begins, the last is its result.

    Attributes:
        tableaux: the rules that `tableau` may name.
    """

    tableau: str
    tableaux: ClassVar[dict[str, Tableau[Any]]]

    @property
    def rule(self) -> Tableau[Any]:
        """The numbers of the rule."""
        return self.tableaux[self.tableau]

    @abstractmethod
    def stages(self, sde: SDE, t: Tensor, s: Tensor) -> Iterator[Stage]:
        """Yield the stages of the steps from times t (N,) to s (N,), as tensors (N,)."""

    @property
    def order(self) -> int:
        return self.rule.order

    @property
    def evaluations(self) -> int:
        return len(self.rule.b)

    @property
    def extrapolates(self) -> bool:
        return self.eta == 0 and self.order > 1

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        stages = self.stages(sde, times[:-1], times[1:])
        numbers = [torch.stack((*columns, *weights), dim=1).tolist() for *columns, weights in stages]
        return [[Stage._make((*row[:7], tuple(row[7:]))) for row in step] for step in zip(*numbers, strict=True)]

    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Draw) -> Step:
        first, *stages = plan
        values, kick = [first.value(model, x)], None  # kick: the noise that has come in so far
        for k, stage in enumerate(stages, 1):
            at = accumulate(x * stage.scale, stage.weights, values)
            if kick is not None:
                kick = kick * stage.carry
            if stage.std:  # zero without noise, and between two stages at one level
                z = noise(k - 1)
                kick = z * stage.std if kick is None else add(kick, stage.std, z)
            if kick is not None:
                at = at.add_(kick)
            if k < len(stages):
                values.append(stage.value(model, at))
        return Step(at)


@dataclass(frozen=True, repr=False)
class RungeKutta(Stages):
    """Explicit Runge-Kutta rules for the probability-flow ODE, written as dy/dq = P with x = m y.

        variable    q                        m                 P
        ratio       sigma / alpha            alpha             eps
        noise_share sigma / (alpha + sigma)  alpha + sigma     eps - x0
        time        t                        1                 f x + g^2 / (2 sigma) eps

    In the first two there is no linear term left, whatever the SDE.

    Args:
        tableau: euler, midpoint, heun, ralston (order 2), bosh3 (Bogacki-Shampine), rk4, dopri5 (Dormand-Prince).
        variable: see above.

    Raises:
        InputError: for an unknown tableau or variable.

    Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, sections II.1 and II.4-5; the coordinates
    are those of Karras et al. 2022 (arXiv 2206.00364) and of the rectified path (arXiv 2209.03003).
    """

    tableau: Annotated[str, Constraint(EXPLICIT.__contains__, f"one of {', '.join(EXPLICIT)}")] = "heun"
    variable: RungeKuttaVariable = "ratio"

    tableaux = EXPLICIT

    def stages(self, sde: SDE, t: Tensor, s: Tensor) -> Iterator[Stage]:
        rule, zero, (q, m, parts_of_p) = self.rule, torch.zeros_like(t), self._flow(sde, t)
        yield Stage(t, *parts_of_p, torch.ones_like(t), zero, zero, ())
        last = self._flow(sde, s)
        h = last[0] - q
        for c, row in zip((*rule.c, 1), (*rule.a, rule.b + rule.error), strict=True):
            time = s if c == 1 else time_of(self.variable, sde, q + c * h)
            _, here, parts_of_p = last if c == 1 else self._flow(sde, time)
            yield Stage(time, *parts_of_p, here / m, zero, zero, tuple(here * h * w for w in row))

    def _flow(self, sde: SDE, t: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """q, m and the parts (x, x0, eps) of P."""
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        zero, one = torch.zeros_like(t), torch.ones_like(t)
        if self.variable == "ratio":
            return sigma / alpha, alpha, (zero, zero, one)
        if self.variable == "noise_share":
            return sigma / (alpha + sigma), alpha + sigma, (zero, -one, one)
        f, b, _ = reverse_drift(sde, t, 0.0)
        return t, one, (f, zero, b)


class Heun(RungeKutta):
    """Heun's rule of order 2 on dy/dr = eps(alpha y, t), with y = x / alpha and r = sigma / alpha.

        y' = y_t + (r_s - r_t) eps_t,   y_s = y_t + (r_s - r_t)/2 (eps_t + eps(alpha_s y', s))

    Two evaluations a step; with the denoising step of the sampler at the end it is algorithm 1 of Karras et al. 2022
    (arXiv 2206.00364) without churn.
    """

    def __init__(self, variable: RungeKuttaVariable = "ratio") -> None:
        super().__init__("heun", variable)

    extrapolates = False  # the published last step is Euler's


@dataclass(frozen=True, repr=False)
class ExponentialRungeKutta(Stages):
    """Exponential Runge-Kutta rules in lam for the reverse process of noise level eta, see `tableaux`.

    With noise, the stages see the Brownian path of the step: what was drawn up to a stage is part of all later ones.

    Args:
        tableau: midpoint, heun (order 2), thirds (order 3) or krogstad (order 4).
        predict: x0 or eps, the quantity that the stages interpolate.
        eta: noise level: 0 for the probability-flow ODE, 1 for the reverse SDE, or a function of lam.

    Raises:
        InputError: for an unknown tableau or quantity, or a negative eta.

    Members: DPM-Solver-2 and -3 (eps) and DPM-Solver++(2S) and (3S) (x0) of Lu et al. 2022 (arXiv 2206.00927,
    2211.01095), at eta = 1 SEEDS-2 and -3 (Gonzalez et al. 2023, arXiv 2305.14267), and Krogstad's ETD4RK.
    """

    tableau: Annotated[str, Constraint(EXPONENTIAL.__contains__, f"one of {', '.join(EXPONENTIAL)}")] = "midpoint"
    predict: Literal["x0", "eps"] = "x0"
    eta: Eta = 0.0

    tableaux = EXPONENTIAL

    def stages(self, sde: SDE, t: Tensor, s: Tensor) -> Iterator[Stage]:
        rule, zero, alpha, lam = self.rule, torch.zeros_like(t), sde.alpha(t), sde.lam(t)
        of_x0, of_eps = (zero + part for part in parts(self.predict, alpha, sde.sigma(t)))  # constant in t
        yield Stage(t, zero, of_x0, of_eps, torch.ones_like(t), zero, zero, ())
        h = sde.lam(s) - lam
        eta = eta_at(self.eta, lam + h / 2)
        before = alpha, lam
        for c, row in zip((*rule.c, 1), (*rule.a, rule.b + rule.error), strict=True):
            time = sde.t_of_lam(lam + c * h)
            here = sde.alpha(time), lam + c * h
            whole = Kernel(self.predict, (alpha, here[0]), (lam, here[1]), eta)
            new = Kernel(self.predict, (before[0], here[0]), (before[1], here[1]), eta) if self.eta else whole
            weights = (sum((a * c**power * whole.moment(power) for power, a in enumerate(p) if a), zero) for p in row)
            yield Stage(time, zero, of_x0, of_eps, whole.decay, new.decay, new.std, tuple(weights))
            before = here
