"""Custom paths: from alpha(t) and sigma(t), or from drift f(t) and diffusion g(t)."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.errors import InputError
from scoresde.sde.base import TimedSDE
from scoresde.sde.expression import parse

Function = str | Callable[[Tensor], Tensor]


class _Function:
    """An expression or a callable as a function from float64 tensors to float64 tensors of the same shape.

    Copied and pickled as what was given.
    """

    def __init__(self, given: Function, name: str) -> None:
        self.given, self.name = given, name
        self._call = parse(given, name) if isinstance(given, str) else given

    def __call__(self, t: Tensor) -> Tensor:
        return torch.as_tensor(self._call(t), dtype=torch.float64, device=t.device).expand(t.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Function, (self.given, self.name)


class _UserSDE(TimedSDE):
    """Checks the path at all times in use, and inverts lam by a table and Newton's method."""

    def _settle(self, *names: str) -> None:
        """Make the table of lam, to be called at the end of a constructor.

        Args:
            names: of the arguments that determine alpha and sigma.

        Raises:
            InputError: alpha or sigma is not finite and positive, or lam does not decrease; says where.
        """
        u = torch.linspace(0, 1, 601, dtype=torch.float64)
        first, span = self.t_train, self.T - self.t_train
        times = torch.cat((first * (self.T / first) ** u, first + span * u, self.T - span * 1e-5**u)).sort().values
        apart = torch.cat((torch.tensor([True]), times.diff() > (1e-6 * times[1:]).clamp(min=1e-14 * self.T)))
        times = times[apart & (times < self.T * (1 - 1e-6))]
        end = [] if self.ends_in_noise else [self.T]  # T has no lam there
        times = torch.cat((times.clamp(min=first), torch.tensor(end, dtype=torch.float64)))
        with torch.no_grad():
            alpha, sigma = self.alpha(times), self.sigma(times)
        for name, symbol, values in zip(names, ("alpha", "sigma"), (alpha, sigma), strict=True):
            if (bad := ~(torch.isfinite(values) & (values > 0))).any():
                t, value = float(times[bad][0]), float(values[bad][0])
                raise InputError(
                    f"{name}: {symbol} is {value:.6g} at t = {t:.6g}; it must be finite and > 0 "
                    f"from t_train = {self.t_train:g} to T = {self.T:g}"
                )
        lams = torch.log(alpha) - torch.log(sigma)
        if (rises := ~(lams.diff() < 0)).any():
            t, s = float(times[:-1][rises][0]), float(times[1:][rises][-1])
            raise InputError(
                f"{names[1]}: alpha / sigma does not fall everywhere between t = {t:.6g} and {s:.6g}; "
                f"it must, at all times from t_train = {self.t_train:g} to T = {self.T:g}"
            )
        self._times, self._lams = times, lams

    def t_of_lam(self, lam: Tensor) -> Tensor:
        """The time in [t_train, T] at which `lam` is reached, or the end that is nearest to it."""
        times, lams = self._times.to(lam.device), self._lams.to(lam.device)
        lam = lam.clamp(lams[-1], lams[0])
        i = torch.searchsorted(-lams, (-lam).contiguous()).clamp(1, len(lams) - 1)
        low, high = times[i - 1], times[i]
        t = low + (high - low) * (lams[i - 1] - lam) / (lams[i - 1] - lams[i])
        for _ in range(3):  # each step of Newton's method doubles the digits; the bracket keeps it safe
            alpha, sigma = self.alpha(t), self.sigma(t)
            dalpha, dsigma = self.slopes(t)
            excess = torch.log(alpha) - torch.log(sigma) - lam
            low, high = torch.where(excess > 0, t, low), torch.where(excess > 0, high, t)
            newton = t - excess / (dalpha / alpha - dsigma / sigma)
            t = torch.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        return t


@dataclass(eq=False, repr=False)
class PathSDE(_UserSDE):
    """The path x_t = alpha(t) x_0 + sigma(t) eps with two custom functions.

    From Python these are callables of a float64 tensor, made of torch operations so that they can be differentiated;
    from a configuration they are expressions, see `scoresde.sde.expression`. The default is the rectified path. The
    prior is N(0, sigma(T)^2 I).

    Args:
        alpha_of_t: scale of the data at t.
        sigma_of_t: standard deviation of the noise at t.
        T: see `SDE`.
        t_min: see `SDE`.
        t_train: see `SDE`.

    Raises:
        InputError: an expression cannot be read, or from t_train to T alpha or sigma is not finite and positive or
            alpha / sigma does not decrease.
    """

    alpha_of_t: Function = "1 - t"
    sigma_of_t: Function = "t"
    _: KW_ONLY
    T: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        self._alpha, self._sigma = _Function(self.alpha_of_t, "alpha_of_t"), _Function(self.sigma_of_t, "sigma_of_t")
        self._settle("alpha_of_t", "sigma_of_t")

    def alpha(self, t: Tensor) -> Tensor:
        return self._alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self._sigma(t)


_NODES, _WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(8))
_NODES, _WEIGHTS = (1 + _NODES) / 2, _WEIGHTS / 2  # Gauss-Legendre on [0, 1], exact to degree 15
_TOLERANCE = 1e-12  # of one panel, relative
_MOST_PANELS = 2000


@dataclass(eq=False, repr=False)
class DriftSDE(_UserSDE):
    """The diffusion dx = f(t) x dt + g(t) dw with a custom drift and diffusion coefficient.

        alpha(t) = exp(int_0^t f),   sigma^2(t) = int_0^t g^2(s) exp(2 int_s^t f) ds,   alpha(0) = 1,  sigma(0) = 0

    The integrals use Gauss-Legendre rules on panels that are halved until halving them again changes nothing. All
    terms are positive, so sigma keeps its relative precision down to t = 0.

    From Python f and g are callables of a float64 tensor (they need not be differentiable); from a configuration they
    are expressions, see `scoresde.sde.expression`. The default is that of `VPSDE`. The prior is N(0, sigma(T)^2 I).

    Args:
        drift: f(t), the rate of growth of x; negative for decay.
        diffusion: g(t), in units of x per square root of time.
        T: see `SDE`.
        t_min: see `SDE`.
        t_train: see `SDE`.

    Raises:
        InputError: an expression cannot be read, f or g is not finite or not integrable within [0, T], or g is zero.
    """

    drift: Function = "-0.5*(0.1 + 19.9*t)"
    diffusion: Function = "sqrt(0.1 + 19.9*t)"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._f, self._g = _Function(self.drift, "drift"), _Function(self.diffusion, "diffusion")
        with torch.no_grad():
            self._edges, self._log_alphas, self._variances = self._panels()
        self._settle("drift", "diffusion")

    def alpha(self, t: Tensor) -> Tensor:
        now = t.detach()
        start, log_alpha, _ = self._before(now)
        growth, _ = self._carry(start, now)
        alpha = torch.exp(log_alpha + growth)
        return alpha + self._f(now) * alpha * (t - now) if t.requires_grad else alpha

    def sigma(self, t: Tensor) -> Tensor:
        now = t.detach()
        start, _, variance = self._before(now)
        growth, added = self._carry(start, now)
        sigma = torch.sqrt(variance * torch.exp(2 * growth) + added)
        if not t.requires_grad:
            return sigma
        # the derivative from the equation, not that of the quadrature
        return sigma + (self._g(now) ** 2 / (2 * sigma) + self._f(now) * sigma) * (t - now)

    def _before(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The edge before t, with log alpha and sigma^2 there."""
        edges = self._edges.to(t.device)
        i = (torch.searchsorted(edges, t.contiguous()) - 1).clamp(0, len(edges) - 2)
        return edges[i], self._log_alphas.to(t.device)[i], self._variances.to(t.device)[i]

    def _carry(self, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """int f and int g^2(s) exp(2 int_s^end f) ds from start to end."""
        nodes, weights, length = _NODES.to(end.device), _WEIGHTS.to(end.device), end - start
        s = start[..., None] + length[..., None] * nodes
        rest = end[..., None] - s
        growth = rest * (self._f(s[..., None] + rest[..., None] * nodes) @ weights)
        added = length * ((self._g(s) ** 2 * torch.exp(2 * growth)) @ weights)
        return length * (self._f(s) @ weights), added

    def _panels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Edges of the panels, with log alpha and sigma^2 at each."""
        edges = torch.linspace(0, self.T, 9, dtype=torch.float64)
        while len(edges) <= _MOST_PANELS:
            start, end = edges[:-1], edges[1:]
            self._require_finite(start, end)
            middle = (start + end) / 2
            growth, added = self._carry(start, end)
            (g1, a1), (g2, a2) = self._carry(start, middle), self._carry(middle, end)
            halves = a1 * torch.exp(2 * g2) + a2
            rough = (growth - g1 - g2).abs() > _TOLERANCE * (1 + growth.abs())
            rough |= (added - halves).abs() > _TOLERANCE * halves
            rough &= end - start > 1e-14 * self.T  # at a jump of f or g halving never ends
            if not rough.any():
                variances = [0.0]
                for factor, more in zip(torch.exp(2 * growth).tolist(), added.tolist(), strict=True):
                    variances.append(variances[-1] * factor + more)
                log_alphas = torch.cat((torch.zeros(1, dtype=torch.float64), growth.cumsum(0)))
                return edges, log_alphas, torch.tensor(variances, dtype=torch.float64)
            edges = torch.cat((edges, middle[rough])).sort().values
        where = float(middle[rough][0])
        raise InputError(f"drift: f or g varies too wildly near t = {where:.6g}; give smooth functions")

    def _require_finite(self, start: Tensor, end: Tensor) -> None:
        s = start[:, None] + (end - start)[:, None] * _NODES
        for name, function in (("drift", self._f), ("diffusion", self._g)):
            values = function(s)
            if (bad := ~torch.isfinite(values)).any():
                t, value = float(s[bad][0]), float(values[bad][0])
                raise InputError(f"{name}: {value} at t = {t:.6g}; it must be finite within (0, T = {self.T:g})")
