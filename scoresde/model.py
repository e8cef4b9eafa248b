"""Score models: a network, an SDE and a preconditioning, called as `model(x, t)`."""

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self, get_args

import torch
from torch import Tensor, nn

from scoresde._shapes import Coefficient, expand
from scoresde.errors import require
from scoresde.evaluations import counted
from scoresde.nets.condition import Cond, Condition, Conditions
from scoresde.precond import Precond, Preconditioning, coefficients
from scoresde.sde import SDE, half_log_snr


class Prediction:
    """What a model says about x = alpha x_0 + sigma eps at one noise level.

    The model gives x0_hat = c_skip x + c_out F; everything else follows, each computed when asked for:

        eps = (x - alpha x0) / sigma,   score = -eps / sigma,   v = alpha eps - sigma x0

    Every quantity is a x + b F with coefficients combined in float64 before they touch a tensor, so that, for a
    network that predicts noise, eps is F itself and does not pass through x0 (where it would cancel).

    Attributes:
        x0, eps, score, v: tensors of shape (B, *event).
    """

    __slots__ = ("_alpha", "_c_out", "_c_skip", "_out", "_sigma", "_x")

    def __init__(
        self, x: Tensor, out: Tensor, alpha: Coefficient, sigma: Coefficient, c_skip: Coefficient, c_out: Coefficient
    ) -> None:
        self._x, self._out, self._alpha, self._sigma = x, out, alpha, sigma
        self._c_skip, self._c_out = c_skip, c_out

    def combine(self, x: Coefficient = 0.0, x0: Coefficient = 0.0, eps: Coefficient = 0.0) -> Tensor:
        """The linear combination `x` times x + `x0` times x0 + `eps` times eps, in two tensor operations."""
        through_x0 = x0 - eps * self._alpha / self._sigma
        a = expand(x + eps / self._sigma + through_x0 * self._c_skip, self._x)
        b = expand(through_x0 * self._c_out, self._x)
        if isinstance(a, float) and isinstance(b, float):
            return torch.add(self._out * b, self._x, alpha=a)
        return self._out * b + self._x * a

    def toward(self, other: "Prediction", scale: float) -> "Prediction":
        """This prediction + scale (other - this), of x0, eps, score and v alike; both of the same x and level."""
        out = self._out + scale * (other._out - self._out)
        return Prediction(self._x, out, self._alpha, self._sigma, self._c_skip, self._c_out)

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


class Model(nn.Module):
    """Anything that predicts clean data from noisy data: the interface that samplers and losses see.

    Attributes:
        sde: the path on which it was made.
        sigma_data: standard deviation of the data, over all values; 1 where it is not known.
        event_shape: shape of one sample; None where it is not known.
    """

    sde: SDE
    sigma_data: float
    event_shape: tuple[int, ...] | None

    def __init__(self, sde: SDE) -> None:
        super().__init__()
        self.sde, self.sigma_data, self.event_shape = sde, 1.0, None

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Prediction:
        """`forward`, with its evaluations counted, see `scoresde.count_evaluations`."""
        prediction: Prediction = counted(super().__call__, x, *args, **kwargs)
        return prediction

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where x must lie."""

    @abstractmethod
    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        """Predict from x (B, *event) at time t, one float for all or a tensor (B,)."""

    @property
    def cost(self) -> int:
        """Evaluations of the network for each sample in one call."""
        return 1

    @property
    def conditions(self) -> Mapping[str, Condition]:
        """The conditions that the network takes, by name."""
        return {}

    def of_samples(self, rows: Tensor) -> "Model":
        """The model for a batch of the samples number `rows` (B,); itself unless it tells samples apart by number."""
        return self

    def levels(self, t: float | Tensor) -> tuple[Coefficient, Coefficient, Coefficient]:
        """(alpha, sigma, lam) at t: floats for one time, float64 tensors (B,) for a time per sample."""
        if isinstance(t, Tensor) and t.ndim > 0:
            alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
            return alpha, sigma, half_log_snr(alpha, sigma)
        return self.sde.at(float(t))


_SAME_ON_EVERY_PATH: tuple[Precond, ...] = ("eps", "x0", "edm")  # v and the score change with the length of x


class ScoreModel(Model):
    """A network that has learned the score of noised data, under an SDE.

        x0_hat = c_skip x + c_out net(c_in x, c_noise[, cond]),   score = (alpha x0_hat - x) / sigma^2

    Args:
        net: any module called `net(x, c)` or `net(x, c, cond)` with x (B, *event) and c (B,), returning (B, *event).
        sde: the forward diffusion.
        precond: what the output of the network stands for, see `scoresde.precond`.
        sigma_data: standard deviation of the data, over all values.

    Raises:
        InputError: for an unknown preconditioning or a sigma_data that is not positive.
    """

    def __init__(self, net: nn.Module, sde: SDE, precond: Precond = "edm", sigma_data: float = 0.5) -> None:
        super().__init__(sde)
        require(precond in get_args(Precond), "precond", precond, f"give one of {', '.join(get_args(Precond))}")
        require(sigma_data > 0, "sigma_data", sigma_data, "give a standard deviation > 0")
        self.net, self.precond, self.sigma_data, self._trained_with = net, precond, sigma_data, sde
        self.event_shape = getattr(net, "event_shape", None)

    def under(self, sde: SDE) -> Self:
        """The same network under another path: it is asked at the level with the same signal-to-noise ratio."""
        other = copy.copy(self)
        other.sde = sde
        return other

    @property
    def device(self) -> torch.device:
        parameter = next(self.net.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    @property
    def conditions(self) -> Mapping[str, Condition]:
        found = getattr(self.net, "condition", None)
        return found.members if isinstance(found, Conditions) else {}

    def preconditioning(self, alpha: Coefficient, sigma: Coefficient, lam: Coefficient) -> Preconditioning:
        """The four coefficients at a level, as returned by `levels`."""
        if self._trained_with is self.sde or self.precond in _SAME_ON_EVERY_PATH:
            return coefficients(self.precond, alpha, sigma, lam, self.sigma_data)
        ratio, alpha, sigma = self._where_trained(alpha, lam)
        c = coefficients(self.precond, alpha, sigma, lam, self.sigma_data)
        return Preconditioning(c.c_in * ratio, c.c_skip * ratio, c.c_out, c.c_noise)

    def _where_trained(self, alpha: Coefficient, lam: Coefficient) -> tuple[Coefficient, ...]:
        """(ratio, alpha, sigma) of the level `lam` on the path that the network knows: x there is ratio x here."""
        t = torch.as_tensor(self._time_there(lam), dtype=torch.float64)
        levels = self._trained_with.alpha(t), self._trained_with.sigma(t)
        alpha_there, sigma_there = levels if isinstance(lam, Tensor) else (float(level) for level in levels)
        return alpha_there / alpha, alpha_there, sigma_there

    def _time_there(self, lam: Coefficient) -> Coefficient:
        """The time of the level `lam` on the path that the network knows."""
        t = self._trained_with.t_of_lam(torch.as_tensor(lam, dtype=torch.float64))
        return t if isinstance(lam, Tensor) else float(t)

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        alpha, sigma, lam = self.levels(t)
        c = self.preconditioning(alpha, sigma, lam)
        return Prediction(x, self.raw(x, c, cond), alpha, sigma, c.c_skip, c.c_out)

    def raw(self, x: Tensor, c: Preconditioning, cond: Cond = None) -> Tensor:
        """The network's own output at the preconditioning `c`, in the dtype of x; only here is the network called."""
        parameter = next(self.net.parameters(), None)
        dtype = x.dtype if parameter is None else parameter.dtype
        if isinstance(c.c_noise, Tensor):
            level = c.c_noise.to(device=x.device, dtype=dtype)
        else:
            # one number seen B times: a network may notice (stride 0) and embed it once
            level = torch.full((1,), c.c_noise, device=x.device, dtype=dtype).expand(x.shape[0])
        scaled = (x * expand(c.c_in, x)).to(dtype)
        out: Tensor = self.net(scaled, level) if cond is None else self.net(scaled, level, cond)
        return out.to(x.dtype)
