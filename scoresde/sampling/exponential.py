"""Exponential multistep rules: the linear part of the equation is solved exactly, one quantity is interpolated."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from scoresde.constraints import Constraint, Fraction, Positive
from scoresde.dynamics import Eta, eta_at
from scoresde.errors import InputError, refuse, require
from scoresde.model import Model
from scoresde.sampling import published
from scoresde.sampling.coordinates import Kernel, Quantity, Variable, parts, variable
from scoresde.sampling.grid import Terminal
from scoresde.sampling.published import Weights
from scoresde.sampling.solver import Draw, GridSolver, Step, accumulate, add
from scoresde.sde import SDE, half_log_snr
from scoresde.variance import log_variances

StepVariance = Literal["lower", "upper", "learned"]
_LONGEST = 2.0  # steps beyond the mean of those before, in which a polynomial is extrapolated


@dataclass(frozen=True, repr=False)
class ExponentialMultistep(GridSolver):
    """Exponential multistep rules; most well-known fast samplers are members, see conf/solver.

    A step from t to s solves the linear part of the reverse process exactly and replaces the quantity P, see
    `scoresde.sampling.coordinates`, by the polynomial through its last `predictor` values:

        x_s = Phi x_t + sum_j w_j P_j + std z,    w_j = int of kernel times basis polynomial j

    The corrector makes the step again with the polynomial that also passes through P at s, evaluated at the predicted
    x_s. That evaluation is the one of the next step, so it costs none. The first steps use the values there are;
    with exact weights of x0 in lambda, a step of more than twice the mean of those before uses fewer.

    Args:
        predict: P, one of x0, eps, v and velocity.
        variable: in which it is a polynomial: lambda, ratio (sigma / alpha), noise_share
            (sigma / (alpha + sigma)), angle (atan(sigma / alpha)), time.
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
    predictor: Annotated[int, Constraint(range(1, 5).__contains__, "an integer from 1 to 4")] = 2
    corrector: Annotated[int, Constraint(range(5).__contains__, "an integer from 0 (none) to 4")] = 0
    eta: Eta = 0.0
    ramp_down: bool = False
    weights: Weights = "exact"

    def __post_init__(self) -> None:
        beyond = self.weights == "dpmpp" and self.predictor > 3
        refuse(beyond, f"weights: dpmpp was published up to order 3, not {self.predictor}; give weights=exact")
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

    @property
    def renoises(self) -> bool:
        return self.predict == "x0" and not self.corrector

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        return self.coefficients(sde, times).tolist()

    def coefficients(self, sde: SDE, times: Tensor) -> Tensor:
        """One row for each of the N steps of times (N + 1,), float64 (N, 5 + predictor + corrector).

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
        left = [c + torch.zeros_like(middle) for c in (times[:-1], x0, eps, kernel.decay, kernel.std)]
        predict = self._weights(kernel, at, nodes, lam, self.predictor, newest=0)
        correct = self._weights(kernel, at, nodes, lam, self.corrector, newest=1)
        # the step before is corrected once P at its end is known
        correct = torch.cat((torch.zeros(1, self.corrector, dtype=torch.float64), correct[:-1]))
        return torch.cat((torch.stack(left, dim=1), predict, correct), dim=1)

    def _weights(self, kernel: Kernel, at: Tensor, nodes: Tensor, lam: Tensor, order: int, newest: int) -> Tensor:
        """Weights (N, order) of the values at levels i + newest, i + newest - 1, ... in the step from level i."""
        steps, i = len(lam) - 1, torch.arange(len(lam) - 1)
        found = torch.zeros(steps, order, dtype=torch.float64)
        if order == 0:
            return found
        known = (i + 1 + newest).clamp(max=order)
        if self.ramp_down:
            known = torch.minimum(known, steps - i + newest)
        limited = (self.weights, self.predict, self.variable, newest) == ("exact", "x0", "lambda", 0)
        for p in range(order, 1 if limited else order, -1):
            # far beyond its values a polynomial in lam is worse than one of fewer values
            before = (nodes[:-1] - nodes.roll(p - 1)[:-1]).abs() / (p - 1)
            known[(known == p) & (nodes.diff().abs() > _LONGEST * before)] = p - 1
        rule = published.corrector if newest else published.predictor
        for p in sorted(set(known.tolist())):
            rows = (known == p).nonzero()[:, 0]
            levels = rows[:, None] + newest - torch.arange(p)
            weights = rule(self.weights, kernel, lam[levels], rows)
            found[rows, :p] = kernel.lagrange(at, nodes[levels], rows) if weights is None else weights
        return found

    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Draw) -> Step:
        # the state: P at the last levels, the newest first, and the last step without the terms of those values
        before, base = state or ((), None)
        t, x0, eps, decay, std, *weights = plan
        predict, correct = weights[: self.predictor], weights[self.predictor :]
        prediction = model(x, t)
        depth = max(self.predictor, self.corrector) - 1
        values = (prediction.combine(x0=x0, eps=eps), *before) if depth or self.corrector else before
        if not self.corrector:
            x = prediction.combine(x=decay, x0=predict[0] * x0, eps=predict[0] * eps)
            x = accumulate(x, predict[1:], values[1:])
            return Step(add(x, std, noise()) if std else x, (values[:depth], None))
        base = (x if base is None else accumulate(base, correct, values)) * decay
        base = add(base, std, noise()) if std else base
        x = torch.add(base, values[0], alpha=predict[0])  # base is kept
        return Step(accumulate(x, predict[1:], values[1:]), (values[:depth], base))


class Ancestral(ExponentialMultistep):
    """Ancestral sampling: the posterior p(x_s | x_t, x0_hat) of two levels s < t.

        x_s ~ N( (sigma_s / sigma_t) e^{-h} x_t + alpha_s (1 - e^{-2h}) x0_hat,  sigma_s^2 (1 - e^{-2h}) )

        variance   of the step
        lower      sigma_s^2 (1 - e^{-2h}), as above: DDPM's beta-tilde, right for data that are a point
        upper      sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2: DDPM's beta, right for data of unit variance
        learned    what the network says of the step from t to s, whichever levels they are, see `scoresde.variance`

    Ho et al. 2020 (arXiv 2006.11239), eq. 6-7 and section 3.2; for VE it is eq. 47 of Song et al. 2021 (arXiv
    2011.13456); learned: Nichol and Dhariwal 2021 (arXiv 2102.09672), eq. 15 and 19. With the lower variance it is the
    exponential rule of order 1 on x0 at eta = 1.

    Args:
        eta: noise level, 1 for the posterior.
        variance: see above; those other than lower are made for eta = 1.
        clip: x0_hat is clipped to [-clip, clip] in model units, as the code of both papers does at 1; None for not.

    Raises:
        InputError: another variance than lower with another eta; from a step, a model that has learned none.
    """

    default_grid = Terminal(low=0.1)  # see docs/howto/choosing-a-sampler.md
    variance: StepVariance
    clip: float | None

    def __init__(self, eta: Eta = 1.0, variance: StepVariance = "lower", clip: Positive | None = None) -> None:
        require(variance == "lower" or eta == 1, "variance", variance, "give eta=1, or variance=lower")
        vars(self).update(variance=variance, clip=clip)
        super().__init__(predictor=1, eta=eta)

    def coefficients(self, sde: SDE, times: Tensor) -> Tensor:
        rows = super().coefficients(sde, times)
        if self.variance == "lower":
            return rows
        lower, upper = (log[:-1] for log in log_variances(sde.sigma(times), sde.lam(times)))
        rows[:, 4] = torch.exp(upper / 2)
        return torch.cat((rows, torch.stack((lower, upper), dim=1)), dim=1)

    def distribution(self, model: Model, x: Tensor, plan: Any) -> tuple[Tensor, Any]:
        """Mean and standard deviation of x_s given x (B, *event)."""
        t, _, _, decay, std, weight, *ends = plan
        prediction = model(x, t)
        if self.clip is None:
            mean = prediction.combine(x=decay, x0=weight)
        else:
            mean = add(x * decay, weight, prediction.x0.clamp(-self.clip, self.clip))
        if self.variance != "learned":
            return mean, std
        if prediction.learned is None:
            raise InputError("variance: 'learned' is not possible; this model has learned none; give lower or upper")
        return mean, torch.exp(prediction.learned.log(*ends) / 2)

    @property
    def renoises(self) -> bool:
        return self.clip is None

    @staticmethod
    def draw(mean: Tensor, std: Any, noise: Draw) -> Step:
        """A draw from a distribution of a step."""
        return Step(add(mean, std, noise()) if isinstance(std, Tensor) or std else mean)

    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Draw) -> Step:
        return self.draw(*self.distribution(model, x, plan), noise)


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

    def __init__(self, eta: Fraction = 0.0) -> None:
        super().__init__(predictor=1, eta=eta)

    def coefficients(self, sde: SDE, times: Tensor) -> Tensor:
        alpha, sigma, h = sde.alpha(times), sde.sigma(times), sde.lam(times).diff()
        std = eta_at(self.eta, h) * torch.sqrt(-torch.expm1(-2 * h).clamp(max=0))
        decay = sigma[1:] / sigma[:-1] * torch.sqrt(1 - std**2)
        one, weight = torch.ones_like(h), alpha[1:] - decay * alpha[:-1]
        return torch.stack((times[:-1], one, 0 * one, decay, sigma[1:] * std, weight), dim=1)
