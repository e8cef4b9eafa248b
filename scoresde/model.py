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
from scoresde.prediction import Level, Prediction, check_output, levels, rates
from scoresde.sde import SDE


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

    def levels(self, t: float | Tensor) -> Level:
        """(alpha, sigma, lam) at t: floats for one time, float64 tensors (B,) for a time per sample."""
        return levels(self.sde, t)


_SAME_ON_EVERY_PATH: tuple[Precond, ...] = ("eps", "x0", "edm")  # the others change with the length of x


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
        self._known_times: dict[float, float] = {}
        self._known_slopes: dict[float, tuple[Coefficient, Coefficient]] = {}

    def under(self, sde: SDE) -> Self:
        """The same network under another path: it is asked at the level with the same signal-to-noise ratio."""
        other = copy.copy(self)
        other.sde = sde
        return other

    @property
    def device(self) -> torch.device:
        tensor: Tensor | None = _first_parameter(self.net)
        tensor = next(self.net.buffers(), None) if tensor is None else tensor
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def conditions(self) -> Mapping[str, Condition]:
        found = getattr(self.net, "condition", None)
        return found.members if isinstance(found, Conditions) else {}

    def preconditioning(self, alpha: Coefficient, sigma: Coefficient, lam: Coefficient) -> Preconditioning:
        """The four coefficients at a level, as returned by `levels`."""
        if self._trained_with is self.sde or self.precond in _SAME_ON_EVERY_PATH:
            return self._coefficients(alpha, sigma, lam)
        ratio, alpha, sigma = self._where_trained(alpha, lam)
        c = self._coefficients(alpha, sigma, lam)
        return Preconditioning(c.c_in * ratio, c.c_skip * ratio, c.c_out, c.c_noise)

    def _coefficients(self, alpha: Coefficient, sigma: Coefficient, lam: Coefficient) -> Preconditioning:
        """The coefficients at a level of the path that the network knows."""
        slopes = self._slopes(lam) if self.precond == "velocity" else None
        return coefficients(self.precond, alpha, sigma, lam, self.sigma_data, slopes)

    def _slopes(self, lam: Coefficient) -> tuple[Coefficient, Coefficient]:
        """(alpha', sigma') at a level of the path that the network knows."""
        if isinstance(lam, Tensor):
            return rates(self._trained_with, self._time_there(lam))
        if lam not in self._known_slopes:
            self._known_slopes[lam] = rates(self._trained_with, self._time_there(lam))
        return self._known_slopes[lam]

    def _where_trained(self, alpha: Coefficient, lam: Coefficient) -> tuple[Coefficient, ...]:
        """(ratio, alpha, sigma) of the level `lam` on the path that the network knows: x there is ratio x here."""
        t = torch.as_tensor(self._time_there(lam), dtype=torch.float64)
        levels = self._trained_with.alpha(t), self._trained_with.sigma(t)
        alpha_there, sigma_there = levels if isinstance(lam, Tensor) else (float(level) for level in levels)
        return alpha_there / alpha, alpha_there, sigma_there

    def _time_there(self, lam: Coefficient) -> Coefficient:
        """The time of the level `lam` on the path that the network knows."""
        if isinstance(lam, Tensor):
            return self._trained_with.t_of_lam(lam)
        if lam not in self._known_times:  # an inversion may cost as much as a small network
            self._known_times[lam] = float(self._trained_with.t_of_lam(torch.tensor(lam, dtype=torch.float64)))
        return self._known_times[lam]

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        level = self.levels(t)
        c = self.preconditioning(*level)
        return Prediction(x, self.raw(x, c, cond), self.sde, t, c.c_skip, c.c_out, level=level)

    def raw(self, x: Tensor, c: Preconditioning, cond: Cond = None) -> Tensor:
        """The network's own output at the preconditioning `c`, in the dtype of x; only here is the network called.

        Raises:
            InputError: the network returns another shape than that of x, or no tensor.
        """
        parameter = _first_parameter(self.net)
        dtype = x.dtype if parameter is None else parameter.dtype
        if isinstance(c.c_noise, Tensor):
            level = c.c_noise.to(device=x.device, dtype=dtype)
        else:
            # one number seen B times: a network may notice (stride 0) and embed it once
            level = torch.full((1,), c.c_noise, device=x.device, dtype=dtype).expand(x.shape[0])
        scaled = (x * expand(c.c_in, x)).to(dtype)
        out: Tensor = self.net(scaled, level) if cond is None else self.net(scaled, level, cond)
        check_output(out, x, f"model.net: {type(self.net).__name__}")
        return out.to(x.dtype)


def _first_parameter(module: nn.Module) -> nn.Parameter | None:
    """The first of `module.parameters()`, without the generators, which cost more than a preconditioning."""
    for parameter in module._parameters.values():
        if parameter is not None:
            return parameter
    for child in module._modules.values():
        if child is not None and (found := _first_parameter(child)) is not None:
            return found
    return None
