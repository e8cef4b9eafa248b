"""Exponential multistep rules: the linear part of the equation is solved exactly, one quantity is interpolated."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from scoresde.dynamics import Eta, eta_at, require_eta
from scoresde.errors import InputError, require
from scoresde.model import Model
from scoresde.sampling import published
from scoresde.sampling.coordinates import QUANTITIES, VARIABLES, Kernel, Quantity, Variable, parts, variable
from scoresde.sampling.published import Weights
from scoresde.sampling.solver import Draw, GridSolver, Step, accumulate, add
from scoresde.sde import SDE, half_log_snr

HIGHEST_ORDER = 4


class History(NamedTuple):
    """State that the next step needs.

    Attributes:
        values: the interpolated quantity at the last levels, the newest first.
        base: the last step without the terms of those values.
    """

    values: tuple[Tensor, ...]
    base: Tensor | None


@dataclass(frozen=True, repr=False)
class ExponentialMultistep(GridSolver):
    """Exponential multistep rules; most well-known fast samplers are members, see conf/solver.

    A step from t to s solves the linear part of the reverse process exactly and replaces the quantity P, see
    `scoresde.sampling.coordinates`, by the polynomial through its last `predictor` values:

        x_s = Phi x_t + sum_j w_j P_j + std z,    w_j = int of kernel times basis polynomial j

    The corrector makes the step again with the polynomial that also passes through P at s, evaluated at the predicted
    x_s. That evaluation is the one of the next step, so it costs none. The first steps use the values there are.

    Args:
        predict: P, one of x0, eps, v and velocity.
        variable: in which it is a polynomial: lambda, ratio (sigma / alpha), noise_share
            (sigma / (alpha + sigma)), time.
        predictor: number of values in a prediction, 1 to 4.
        corrector: number of values in a correction, the new one included, to 4; 0 for none.
        eta: noise level: 0 for the probability-flow ODE, 1 for the reverse SDE, or a function of lam. Such a function
            is taken as constant during a step.
        ramp_down: lower the order towards the last step of the grid, which is taken with order 1.
        weights: `exact`, or how a rule was published, see `scoresde.sampling.published`.

    Raises:
        InputError: for numbers out of range, and weights that were not published for such a rule.

    Zhang and Chen 2022 (arXiv 2204.13902), eq. 14-16; Lu et al. 2022 (arXiv 2211.01095); Zhao et al. 2023 (arXiv
    2302.04867) for the corrector; Xue et al. 2023 (arXiv 2309.05019) for eta > 0.
    """

    predict: Quantity = "x0"
    variable: Variable = "lambda"
    _: KW_ONLY
    predictor: int = 2
    corrector: int = 0
    eta: Eta = 0.0
    ramp_down: bool = False
    weights: Weights = "exact"

    def __post_init__(self) -> None:
        require(self.predict in QUANTITIES, "predict", self.predict, f"give one of {', '.join(QUANTITIES)}")
        require(self.variable in VARIABLES, "variable", self.variable, f"give one of {', '.join(VARIABLES)}")
        known = 1 <= self.predictor <= HIGHEST_ORDER
        require(known, "predictor", self.predictor, f"give an integer from 1 to {HIGHEST_ORDER}")
        known = 0 <= self.corrector <= HIGHEST_ORDER
        require(known, "corrector", self.corrector, f"give an integer from 0 (none) to {HIGHEST_ORDER}")
        require_eta(self.eta)
        kinds = get_args(Weights)
        require(self.weights in kinds, "weights", self.weights, f"give one of {', '.join(kinds)}")
        if self.weights == "dpmpp" and self.predictor > 3:
            raise InputError(f"weights: dpmpp was published up to order 3, not {self.predictor}; give weights=exact")
        if self.weights != "exact" and (self.predict not in ("x0", "eps") or self.variable != "lambda"):
            raise InputError(
                f"weights: {self.weights} was published for x0 or eps in lambda, not for {self.predict} in "
                f"{self.variable}; give weights=exact"
            )

    @property
    def order(self) -> int:
        """That of the predictor, plus one with a corrector of enough values; at most 2 with some published weights.

        constant_step has it on grids of equal steps in lam.
        """
        order = min(self.corrector, self.predictor + 1) if self.corrector else self.predictor
        return min(order, 2) if self.ramp_down or self.weights in ("dpmpp", "constant_step") else order

    @property
    def least_steps(self) -> int:
        return self.predictor

    @property
    def extrapolates(self) -> bool:
        return self.eta == 0 and self.predictor > 1 and not self.ramp_down

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        return self.coefficients(sde, times).tolist()

    def coefficients(self, sde: SDE, times: Tensor) -> Tensor:
        """One row for each of the N steps of times (N + 1,), float64 (N, 5 + predictor + corrector), differentiable.

        Columns: the time of the evaluation; factors of x0 and eps in P there; factor of x; standard deviation of the
        noise; weights of the prediction, the newest first; weights of the correction of the step before.
        """
        alpha, sigma = sde.alpha(times), sde.sigma(times)
        lam = half_log_snr(alpha, sigma)
        middle = (lam[1:] + lam[:-1]) / 2
        kernel = Kernel(self.predict, (alpha[:-1], alpha[1:]), (lam[:-1], lam[1:]), eta_at(self.eta, middle))
        at = variable(self.variable, sde, kernel.lam)
        nodes = variable(self.variable, sde, lam)
        x0, eps = parts(self.predict, alpha[:-1], sigma[:-1])
        left = [times[:-1], x0, eps, kernel.decay, kernel.std]
        columns = [torch.as_tensor(c, dtype=torch.float64).expand(len(middle)) for c in left]
        predict = self._weights(kernel, at, nodes, lam, self.predictor, newest=0)
        correct = self._weights(kernel, at, nodes, lam, self.corrector, newest=1)
        # the step before is corrected once P at its end is known
        correct = torch.cat((torch.zeros(1, self.corrector, dtype=torch.float64), correct[:-1]))
        return torch.cat((torch.stack(columns, dim=1), predict, correct), dim=1)

    def _weights(self, kernel: Kernel, at: Tensor, nodes: Tensor, lam: Tensor, order: int, newest: int) -> Tensor:
        """Weights (N, order) of the values at levels i + newest, i + newest - 1, ... in the step from level i."""
        steps, i = len(lam) - 1, torch.arange(len(lam) - 1)
        if order == 0:
            return torch.zeros(steps, 0, dtype=torch.float64)
        known = (i + 1 + newest).clamp(max=order)
        if self.ramp_down:
            known = torch.minimum(known, steps - i + newest)
        rule, done, parts = published.corrector if newest else published.predictor, [], []
        for p in sorted(set(known.tolist())):
            rows = (known == p).nonzero()[:, 0]
            levels = rows[:, None] + newest - torch.arange(p)
            weights = rule(self.weights, kernel, lam[levels], rows)
            if weights is None:
                weights = kernel.lagrange(at, nodes[levels], rows)
            parts.append(torch.nn.functional.pad(weights, (0, order - p)))
            done.append(rows)
        return torch.cat(parts)[torch.cat(done).argsort()]

    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Draw) -> Step:
        t, x0, eps, decay, std, *weights = plan
        predict, correct = weights[: self.predictor], weights[self.predictor :]
        prediction = model(x, t)
        depth = max(self.predictor, self.corrector) - 1
        values: tuple[Tensor, ...] = (prediction.combine(x0=x0, eps=eps),) if depth or self.corrector else ()
        values += state.values if state else ()
        base = None
        if not self.corrector:
            x = prediction.combine(x=decay, x0=predict[0] * x0, eps=predict[0] * eps)
            x = accumulate(x, predict[1:], values[1:])
            return Step(add(x, std, noise()) if std else x, History(values[:depth], None))
        base = accumulate(state.base, correct, values) * decay if state else x * decay
        base = add(base, std, noise()) if std else base
        c, newest = predict[0], values[0]
        x = base + c * newest if isinstance(c, Tensor) else torch.add(base, newest, alpha=c)  # base is kept
        return Step(accumulate(x, predict[1:], values[1:]), History(values[:depth], base))


class Ancestral(ExponentialMultistep):
    """Ancestral sampling: the posterior p(x_s | x_t, x0_hat) of two levels s < t.

        x_s ~ N( (sigma_s / sigma_t) e^{-h} x_t + alpha_s (1 - e^{-2h}) x0_hat,  sigma_s^2 (1 - e^{-2h}) )

    Ho et al. 2020 (arXiv 2006.11239), eq. 6-7; for VE it is eq. 47 of Song et al. 2021 (arXiv 2011.13456). It is the
    exponential rule of order 1 on x0 at eta = 1.

    Args:
        eta: noise level, 1 for the posterior.
    """

    def __init__(self, eta: Eta = 1.0) -> None:
        super().__init__(predictor=1, eta=eta)


class DPMSolverPP2M(ExponentialMultistep):
    """DPM-Solver++(2M) with exact weights: the exponential rule of order 2 on x0 in lambda.

    Lu et al. 2022 (arXiv 2211.01095), algorithm 2, has one half of (1 - e^-h) in place of the exact linear weight;
    that is `ExponentialMultistep(weights="dpmpp")`.

    Args:
        eta: noise level; 0 for the probability-flow ODE, 1 for the reverse SDE (SDE-DPM-Solver++(2M)).
    """

    def __init__(self, eta: Eta = 0.0) -> None:
        super().__init__(predictor=2, eta=eta)


class DDIM(ExponentialMultistep):
    """DDIM: order 1 on x0, with the noise of its paper, variance eta^2 sigma_s^2 (1 - e^{-2h}), eta in [0, 1].

    Song et al. 2020 (arXiv 2010.02502), eq. 12 and 16. eta = 0 is the probability-flow ODE with x0 held during the
    step, eta = 1 the posterior of DDPM; in between it differs from the other solvers' eta.

    Args:
        eta: noise level, from 0 to 1.
    """

    def __init__(self, eta: float = 0.0) -> None:
        super().__init__(predictor=1, eta=eta)

    def __post_init__(self) -> None:
        fits = isinstance(self.eta, int | float) and 0 <= self.eta <= 1
        require(fits, "eta", self.eta, "give a number from 0 to 1")

    def coefficients(self, sde: SDE, times: Tensor) -> Tensor:
        alpha, sigma, h = sde.alpha(times), sde.sigma(times), sde.lam(times).diff()
        std = eta_at(self.eta, h) * torch.sqrt(-torch.expm1(-2 * h).clamp(max=0))
        decay = sigma[1:] / sigma[:-1] * torch.sqrt(1 - std**2)
        one, weight = torch.ones_like(h), alpha[1:] - decay * alpha[:-1]
        return torch.stack((times[:-1], one, 0 * one, decay, sigma[1:] * std, weight), dim=1)
