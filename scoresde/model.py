"""Score models: a network, an SDE and a preconditioning, called as `model(x, t)`."""

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn

from scoresde._shapes import Coefficient, expand
from scoresde.constraints import Checked, Positive
from scoresde.errors import InputError, refuse
from scoresde.evaluations import counted
from scoresde.nets.condition import Cond, Condition, conditions_of
from scoresde.precond import Precond, Preconditioning, coefficients
from scoresde.prediction import Level, Prediction, check_output, check_time, levels, rates
from scoresde.sde import SDE
from scoresde.variance import LearnedVariance, Variance

S = TypeVar("S")  # a sampler, of which models know nothing else
States = Literal["gaussian", "bits"]  # what x_t is: alpha x0 + sigma eps, or bits some of which were redrawn
_STATES: dict[States, dict[str, str]] = {
    "gaussian": {"name": "a Gaussian path", "solver": "auto", "loss": "edm"},
    "bits": {"name": "a chain of bits", "solver": "bit_flips", "loss": "binomial"},
}


class Model(nn.Module):
    """Base class of everything that predicts clean data from noisy data: what samplers take.

    A subclass implements `forward`, and `device` if it has neither parameters nor buffers. Evaluations are counted by
    the call, see `count_evaluations`.

    Attributes:
        sde: the path of the noisy data.
        sigma_data: standard deviation of the data, over all values; 1 if unknown.
        event_shape: shape of one sample; None if unknown.
        states: what x_t is; solvers and losses are made for one kind.
    """

    states: States = "gaussian"
    sde: SDE
    sigma_data: float
    event_shape: tuple[int, ...] | None

    def __init__(self, sde: SDE) -> None:
        super().__init__()
        self.sde, self.sigma_data, self.event_shape = sde, 1.0, None

    def __call__(self, x: Tensor, t: float | Tensor, *args: Any, **kwargs: Any) -> Prediction:
        """`forward` at a time of the path, with its evaluations counted, see `scoresde.count_evaluations`.

        Raises:
            InputError: a time at which the path has no level, see `scoresde.prediction.check_time`.
        """
        check_time(self.sde, t, x)
        prediction: Prediction = counted(super().__call__, x, t, *args, **kwargs)
        return prediction

    @property
    def device(self) -> torch.device:
        """The device of x: where the first parameter or buffer lies."""
        return device_of(self)

    @abstractmethod
    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        """Predict from x (B, *event) at time t, one float for all or a tensor (B,)."""

    @property
    def cost(self) -> int:
        """Evaluations of the network for each sample in one call."""
        return 1

    def cost_at(self, t: float) -> int:
        """`cost` in a call at t, where it depends on that."""
        return self.cost

    @property
    def conditions(self) -> Mapping[str, Condition]:
        """The conditions that the network takes, by name."""
        return {}

    def of_samples(self, rows: Tensor) -> "Model":
        """The model for a batch of samples with the numbers `rows` (B,); itself unless samples differ by number."""
        return self

    @property
    def usual_solver(self) -> Any:
        """The solver of a sampler that names none; None for that of all models, `scoresde.sampling.Auto`."""
        return None

    def suits(self, sampler: S) -> S:
        """The sampler for this model: itself, unless the model needs steps of its own between those of the solver."""
        return sampler

    def under(self, sde: SDE) -> "Model":
        """The same model on another path, for those that can change it.

        Raises:
            InputError: it works on its own path only.
        """
        raise InputError(f"sdes: {type(self).__name__} works under its own SDE only; leave sdes out")

    def prior(self, z: Tensor) -> Tensor:
        """Draws from the prior by standard normal numbers z (B, *event)."""
        return z * self.sde.prior_std

    def check_part(self, key: str, part: Any) -> None:
        """Refuse a solver or a loss, by its key in a configuration, that is made for another kind of states."""
        theirs, own = (_STATES[states] for states in (part.states, self.states))
        what = f"{key}: {type(part).__name__} is for {theirs['name']}, and this model is {own['name']}"
        refuse(theirs is not own, f"{what}; use {key}={own[key]}")

    def needs_gaussian(self, what: str) -> None:
        """Refuse `what`, which works on Gaussian paths only, if this model is of another kind."""
        own = _STATES[self.states]["name"]
        refuse(self.states != "gaussian", f"{what}: works on a Gaussian path only, and this model is {own}; sample it")

    def check_data(self, items: Tensor) -> None:
        """Raise InputError for training items (N, *event) in model units that are no data of this model."""

    def levels(self, t: float | Tensor) -> Level:
        """(alpha, sigma, lam) at t: floats for one time, float64 tensors (B,) for a time per sample."""
        return levels(self.sde, t)


class NetworkModel(Model):
    """Base class of models around one network, which training trains: `ScoreModel`, and the chains.

    Attributes:
        net: the network, called as net(x, c) or net(x, c, cond).
        usual_loss: the name of the one that `scoresde.train` takes.
    """

    net: nn.Module
    usual_loss = "edm"

    @property
    @abstractmethod
    def meaning(self) -> str:
        """What the output of the network stands for, in words."""

    @property
    def outputs(self) -> int:
        """Channels of the output for each of x."""
        return 1

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return conditions_of(self.net)

    def raw(self, x: Tensor, c: Preconditioning, cond: Cond = None) -> Tensor:
        """The output of the network at the preconditioning `c`, in the dtype of x; the only call of the network.

        Raises:
            InputError: the network does not return a tensor of the shape of x, or of twice its channels.
        """
        out = evaluated(self.net, x, c, cond)
        check_output(out, x, f"model.net: {type(self.net).__name__}", self.outputs)
        return out.to(x.dtype)


def evaluated(net: nn.Module, x: Tensor, c: Preconditioning, cond: Cond = None) -> Tensor:
    """The output of a network at x (B, *event) and the preconditioning `c`, in the dtype of the network."""
    parameter = _first_parameter(net)
    dtype = x.dtype if parameter is None else parameter.dtype
    if isinstance(c.c_noise, Tensor):
        level = c.c_noise.to(device=x.device, dtype=dtype)
    else:
        # an expanded number (stride 0): networks may embed it once
        level = torch.full((1,), c.c_noise, device=x.device, dtype=dtype).expand(x.shape[0])
    scaled = (x * expand(c.c_in, x)).to(dtype)
    out: Tensor = net(scaled, level) if cond is None else net(scaled, level, cond)
    return out


class _Place(NamedTuple):
    """A level on a path, with (alpha', sigma') where they are needed."""

    t: Coefficient
    alpha: Coefficient
    sigma: Coefficient
    slopes: tuple[Coefficient, Coefficient] | None


_SAME_ON_EVERY_PATH: tuple[Precond, ...] = ("eps", "x0", "edm")  # the others change with the length of x


class ScoreModel(Checked, NetworkModel):
    """A network trained on noisy data, with its SDE and preconditioning.

        x0_hat = c_skip x + c_out net(c_in x, c_noise[, cond]),   score = (alpha x0_hat - x) / sigma^2

    Args:
        net: any module called `net(x, c)` or `net(x, c, cond)` with x (B, *event) and c (B,), returning (B, *event), or
            twice the channels if variances are learned.
        sde: the forward diffusion.
        precond: the quantity that the network predicts, see `scoresde.precond`.
        sigma_data: standard deviation of the data, over all values.
        variance: of the steps of a reverse chain: `fixed`, or what the second half of the output stands for, see
            `scoresde.variance`.

    Raises:
        InputError: for an unknown preconditioning or a sigma_data that is not positive.
    """

    def __init__(
        self,
        net: nn.Module,
        sde: SDE,
        precond: Precond = "edm",
        sigma_data: Positive = 0.5,
        variance: Variance = "fixed",
    ) -> None:
        super().__init__(sde)
        self.variance: Variance = variance
        self.net, self.precond, self.sigma_data, self._trained_with = net, precond, sigma_data, sde
        self.event_shape = getattr(net, "event_shape", None)
        self._places: dict[float, _Place] = {}

    def under(self, sde: SDE) -> Self:
        """The same network on another path, evaluated at the level of the same signal-to-noise ratio."""
        other = copy.copy(self)
        other.sde = sde
        return other

    @property
    def meaning(self) -> str:
        return f"{self.precond} preconditioning"

    @property
    def outputs(self) -> int:
        return 1 if self.variance == "fixed" else 2

    def preconditioning(self, alpha: Coefficient, sigma: Coefficient, lam: Coefficient) -> Preconditioning:
        """The four coefficients at a level, as returned by `levels`."""
        same_path = self._trained_with is self.sde or self.precond in _SAME_ON_EVERY_PATH
        if same_path and self.precond != "velocity":
            return coefficients(self.precond, alpha, sigma, lam, self.sigma_data)
        _, alpha_there, sigma_there, slopes = self._where_trained(lam)
        c = coefficients(self.precond, alpha_there, sigma_there, lam, self.sigma_data, slopes)
        ratio = alpha_there / alpha  # x there is ratio x here
        return Preconditioning(c.c_in * ratio, c.c_skip * ratio, c.c_out, c.c_noise)

    def _where_trained(self, lam: Coefficient) -> _Place:
        """The level `lam` on the path that the network was trained on; numbers are remembered."""
        known = None if isinstance(lam, Tensor) else self._places.get(lam)
        if known is not None:
            return known
        t, path = self._trained_with.t_of_lam(torch.as_tensor(lam, dtype=torch.float64)), self._trained_with
        slopes = rates(path, t) if self.precond == "velocity" else None
        place = _Place(t if isinstance(lam, Tensor) else float(t), *levels(path, t)[:2], slopes)
        if not isinstance(lam, Tensor):
            self._places[lam] = place  # an inversion may cost as much as a small network
        return place

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        level = self.levels(t)
        c = self.preconditioning(*level)
        out, learned = self.halves(x, c, cond)
        return Prediction(x, out, self.sde, t, c.c_skip, c.c_out, level=level, learned=learned)

    def halves(self, x: Tensor, c: Preconditioning, cond: Cond = None) -> tuple[Tensor, LearnedVariance | None]:
        """The output of the network at the preconditioning `c` as F and, if it is learned, the variance."""
        out = self.raw(x, c, cond)
        if self.variance == "fixed":
            return out, None
        out, raw = out.chunk(2, dim=1)
        return out, LearnedVariance(self.variance, raw)


def device_of(module: nn.Module) -> torch.device:
    """Where the first parameter or buffer of a module lies; the CPU if it has none."""
    tensor: Tensor | None = _first_parameter(module)
    tensor = next(module.buffers(), None) if tensor is None else tensor
    return torch.device("cpu") if tensor is None else tensor.device


def _first_parameter(module: nn.Module) -> nn.Parameter | None:
    """The first of `module.parameters()`, without the generators, which cost more than a preconditioning."""
    for parameter in module._parameters.values():
        if parameter is not None:
            return parameter
    for child in module._modules.values():
        if child is not None and (found := _first_parameter(child)) is not None:
            return found
    return None
