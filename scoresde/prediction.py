"""The prediction of a model at a noisy x: one value, read as x0, eps, score, v or velocity."""

import math
from numbers import Real
from typing import Self, cast

import torch
from torch import Tensor

from scoresde._shapes import Coefficient, expand
from scoresde.errors import InputError, require
from scoresde.precond import Precond, coefficients
from scoresde.sde import SDE, half_log_snr
from scoresde.variance import LearnedVariance

_QUANTITIES = ("x0", "eps", "v", "velocity", "score")
_ROUNDING = 1e-6  # T in float32 may lie above T
Level = tuple[Coefficient, Coefficient, Coefficient]


def levels(sde: SDE, t: float | Tensor) -> Level:
    """(alpha, sigma, lam) at t: floats for one time, float64 tensors (B,) for a time per sample."""
    if isinstance(t, Tensor) and t.ndim > 0:
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        return alpha, sigma, half_log_snr(alpha, sigma)
    return sde.at(float(t))


def check_time(sde: SDE, t: float | Tensor, x: Tensor) -> None:
    """Refuse times at which the path has no level: outside [0, T], or where alpha or sigma is 0.

    Only numbers and tensors on the CPU are looked at, since others would have to be waited for.

    Args:
        sde: the path.
        t: one number, or one for each sample (B,).
        x: the samples (B, *event).

    Raises:
        InputError: for such a time, NaN, or a tensor of another shape.
    """
    if type(t) is float and 0 < t < sde.T:
        return  # of a sampling loop
    if isinstance(t, Tensor):
        require(t.shape in ((), x.shape[:1]), "t", tuple(t.shape), f"give one number, or a tensor ({len(x)},)")
        ends = [float(end) for end in t.detach().aminmax()] if t.device.type == "cpu" and t.numel() else []
    else:
        number: object = t  # also of numpy
        require(isinstance(number, Real) and not isinstance(number, bool), "t", t, "give a number, or a tensor (B,)")
        ends = [float(t)]
    for end in ends:
        inside = 0 <= end <= sde.T * (1 + _ROUNDING)
        require(inside, "t", end, f"give a time from t_train = {sde.t_train:g} to T = {sde.T:g}")
        if end == 0 or end >= sde.T:
            alpha, sigma, lam = sde.at(end)
            wanted = f"alpha(t) = {alpha:g} and sigma(t) = {sigma:g} there; give a time in (0, T = {sde.T:g})"
            require(math.isfinite(lam), "t", end, wanted)


def rates(sde: SDE, t: float | Tensor) -> tuple[Coefficient, Coefficient]:
    """(alpha', sigma') at t: floats for one time, float64 tensors (B,) for a time per sample."""
    dalpha, dsigma = sde.slopes(t)
    return (dalpha, dsigma) if dalpha.ndim else (float(dalpha), float(dsigma))


class Prediction:
    """The prediction of a model at x = alpha x_0 + sigma eps, for one noise level or one per sample.

    The model predicts x0_hat = c_skip x + c_out F; the other quantities follow, each computed on access:

        eps = (x - alpha x0) / sigma,   score = -eps / sigma,   v = alpha eps - sigma x0
        velocity = alpha' x0 + sigma' eps

    Every quantity is a x + b F with coefficients combined in float64 before they touch a tensor, so that, for a
    network that predicts noise, eps is F itself and does not pass through x0 (where it would cancel).

    `Prediction.of` makes one from any of these quantities; the constructor takes F with its coefficients.

    Args:
        x: the noisy samples, (B, *event).
        out: F, of the shape of x.
        sde: the path.
        t: the time, a float or (B,).
        c_skip: see above; a float or (B,).
        c_out: see above; a float or (B,).
        variance: of x_0 given x, broadcastable to x; None where the model does not predict it.
        level: `levels(sde, t)`, if already computed.
        learned: the variance of reverse steps that a network learned, see `scoresde.variance`; None without.

    Attributes:
        x0, eps, score, v, velocity: tensors of shape (B, *event).
    """

    __slots__ = ("_alpha", "_c_out", "_c_skip", "_out", "_sde", "_sigma", "_t", "_x", "learned", "variance")

    def __init__(
        self,
        x: Tensor,
        out: Tensor,
        sde: SDE,
        t: float | Tensor,
        c_skip: Coefficient,
        c_out: Coefficient,
        variance: Tensor | None = None,
        level: Level | None = None,
        learned: LearnedVariance | None = None,
    ) -> None:
        self._x, self._out, self._sde, self._t = x, out, sde, t
        self._alpha, self._sigma, _ = levels(sde, t) if level is None else level
        self._c_skip, self._c_out, self.variance, self.learned = c_skip, c_out, variance, learned

    @classmethod
    def of(cls, x: Tensor, sde: SDE, t: float | Tensor, *, variance: Tensor | None = None, **quantity: Tensor) -> Self:
        """The prediction of which one quantity is given.

            Prediction.of(x, sde, t, eps=net(x, t))

        Args:
            x: see the class.
            sde: see the class.
            t: see the class.
            variance: see the class.
            quantity: one of x0, eps, v, velocity and score, of the shape of x.

        Raises:
            InputError: none or several of them, or one of another shape than x.
        """
        one = len(quantity) == 1 and quantity.keys() < set(_QUANTITIES)
        require(one, "prediction", list(quantity), f"give one of {', '.join(_QUANTITIES)}")
        ((kind, out),) = quantity.items()
        check_output(out, x, f"prediction: {kind}")
        level, slopes = levels(sde, t), rates(sde, t) if kind == "velocity" else None
        c = coefficients(cast(Precond, kind), *level, slopes=slopes)
        return cls(x, out, sde, t, c.c_skip, c.c_out, variance, level)

    def combine(self, x: Coefficient = 0.0, x0: Coefficient = 0.0, eps: Coefficient = 0.0) -> Tensor:
        """The linear combination `x` times x + `x0` times x0 + `eps` times eps, in two tensor operations."""
        through_x0 = x0 - eps * self._alpha / self._sigma
        return _sum(self._x, x + eps / self._sigma + through_x0 * self._c_skip, self._out, through_x0 * self._c_out)

    def toward(self, other: "Prediction", scale: Coefficient) -> "Prediction":
        """This prediction + scale (other - this), of x0, eps, score, v and velocity alike.

        Args:
            other: a prediction at the same x and level, made from any quantity; its variances are kept.
            scale: a number, or one for each sample (B,).

        Raises:
            InputError: the other prediction is of another level.
        """
        if isinstance(self._alpha, float) and isinstance(other._alpha, float):
            here, there = (self._alpha, self._sigma), (other._alpha, other._sigma)
            require(here == there, "prediction", there, f"give one at the same (alpha, sigma) = {here}")
        out, skip, ratio = other._out, (other._c_skip - self._c_skip) / self._c_out, other._c_out / self._c_out
        if not (isinstance(ratio, float) and ratio == 1 and skip == 0):
            out = _sum(self._x, skip, out, ratio)  # the same x0 in the quantity of this prediction
        out = self._out + expand(scale, out) * (out - self._out)
        variance = self.variance if other.variance is None else other.variance
        learned = self.learned if other.learned is None else other.learned
        level = self._alpha, self._sigma, 0.0
        return Prediction(self._x, out, self._sde, self._t, self._c_skip, self._c_out, variance, level, learned)

    def moved(self, shift: Tensor) -> "Prediction":
        """This prediction with `shift`, of the shape of x, added to x0."""
        out, level = self._out + shift * expand(1 / self._c_out, shift), (self._alpha, self._sigma, 0.0)
        return Prediction(self._x, out, self._sde, self._t, self._c_skip, self._c_out, self.variance, level)

    def with_noise_of(self, other: "Prediction") -> "Prediction":
        """x0 of this prediction and eps of another of the same level, which is a prediction at alpha x0 + sigma eps."""
        x0, level = self.x0, (self._alpha, self._sigma, 0.0)
        x = x0 * expand(self._alpha, x0) + other.eps * expand(self._sigma, x0)
        return Prediction(x, x0, self._sde, self._t, 0.0, 1.0, level=level)

    @property
    def cancelled(self) -> Coefficient:
        """sigma c_skip: the noise in x0_hat that F has to cancel, sigma / alpha for networks that predict noise."""
        return self._sigma * self._c_skip

    @property
    def x0(self) -> Tensor:
        return self.combine(x0=1.0)

    @property
    def eps(self) -> Tensor:
        return self.combine(eps=1.0)

    @property
    def score(self) -> Tensor:
        return self.combine(eps=-1.0 / self._sigma)

    @property
    def v(self) -> Tensor:
        return self.combine(x0=-self._sigma, eps=self._alpha)

    @property
    def velocity(self) -> Tensor:
        dalpha, dsigma = rates(self._sde, self._t)
        return self.combine(x0=dalpha, eps=dsigma)


def _sum(x: Tensor, of_x: Coefficient, out: Tensor, of_out: Coefficient) -> Tensor:
    a, b = expand(of_x, x), expand(of_out, x)
    if isinstance(a, float) and isinstance(b, float):
        return torch.add(out * b, x, alpha=a)
    return out * b + x * a


def check_output(out: object, x: Tensor, name: str, halves: int = 1) -> None:
    """Raise InputError unless `out` is a tensor of the shape of x, or with twice its channels if `halves` is 2."""
    if not isinstance(out, Tensor):
        raise InputError(
            f"{name} returned {type(out).__name__} where a tensor of shape {tuple(x.shape)} is expected; return the "
            "tensor alone, or see scoresde.wrap for networks with another interface"
        )
    wanted = (*x.shape[:1], *(halves * n for n in x.shape[1:2]), *x.shape[2:])
    if out.shape != wanted or x.ndim < halves:
        twice = halves == 1 and out.ndim == x.ndim > 1 and out.shape[1] == 2 * x.shape[1]
        hint = "; give model.variance=range if the second half of its channels are variances" if twice else ""
        need = "the shape of its input" if halves == 1 else "twice the channels; give net.outputs=2, or variance=fixed"
        raise InputError(
            f"{name} returned shape {tuple(out.shape)} for an input of shape {tuple(x.shape)}; it must return {need}"
            f"{hint}"
        )
