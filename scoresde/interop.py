"""Models of other libraries as ours, and ours as theirs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from scoresde._shapes import expand
from scoresde.errors import InputError, refuse, require
from scoresde.evaluations import counted
from scoresde.labelled import LabelledModel
from scoresde.model import Model
from scoresde.nets.condition import Cond
from scoresde.precond import Precond
from scoresde.prediction import Prediction, rates
from scoresde.prediction import levels as levels_at
from scoresde.sde import EDMSDE, SDE, LevelsVPSDE, PathSDE, RectifiedSDE

Kind = Literal["denoiser", "x0", "eps", "v", "score", "velocity", "azula"]
Levels = Sequence[float] | Tensor | None
DataAt = Literal[0, 1] | None


def wrap(
    model: Callable[..., Any],
    kind: Kind,
    sde: SDE | None = None,
    *,
    levels: Levels = None,
    time_scale: float = 1.0,
    data_at: DataAt = None,
    sigma_data: float = 1.0,
    event_shape: tuple[int, ...] | None = None,
    device: torch.device | str = "cpu",
) -> LabelledModel:
    """Make a model of a network or function of another library; it can be sampled, compared and tuned like ours.

        kind        the function               x                            its second argument
        denoiser    D(x, sigma) = x0           x0 + sigma eps               sigma (k-diffusion, EDM)
        score       s(x, t)                    alpha x0 + sigma eps         time_scale t
        x0, eps, v  net(x, t)                  alpha x0 + sigma eps         time_scale t, or the number k of the level
        velocity    u(x, t) = dx/dt            (1 - t) x0 + t eps           time_scale t, or 1 - t with data_at=1
        azula       denoiser(x, t).mean = x0   alpha x0 + sigma eps         t of its own schedule

    The second argument is a tensor (B,). The function returns a tensor of the shape of x, or an object with `.sample`
    (diffusers) or `.mean` (azula). A condition is passed on as third argument, a mapping of names as keyword arguments.

        scoresde.wrap(unet, "eps", levels=scheduler.alphas_cumprod)

    Args:
        model: the network or function.
        kind: see above.
        sde: its path. For `denoiser` the path to sample on, `EDMSDE` by default; for `velocity` `RectifiedSDE` by
            default; not for `azula`, which knows its own, nor with `levels`.
        levels: alpha^2 of the numbered levels that the network knows, (N,); it is called with numbers from 0 to N - 1,
            between them too. A path with levels, such as `DiscreteVPSDE`, numbers them as well.
        time_scale: factor of the times, such as 1000.
        data_at: of `velocity` only, and needed there: the time at which its path has data. 0: dx/dt = eps - x0; 1 (flow
            matching): x = (1 - t) eps + t x0 and dx/dt = x0 - eps.
        sigma_data: standard deviation of the data.
        event_shape: shape of one sample.
        device: of a function that is no module with parameters.

    Returns:
        The model, on the path of the function; `.under(sde)` is the same on another.

    Raises:
        InputError: an unknown kind, or arguments that do not belong to it.
    """
    call = _interface(kind, sde, levels, time_scale, data_at, getattr(model, "schedule", None))
    net = _Foreign(model, call.sign, device)
    wrapped = LabelledModel(net, call.sde, call.quantity, sigma_data, label_scale=call.scale, label_shift=call.shift)
    wrapped.event_shape = event_shape
    return wrapped.under(sde) if kind == "denoiser" and sde is not None else wrapped


def unwrap(
    model: Model,
    kind: Kind,
    sde: SDE | None = None,
    *,
    levels: Levels = None,
    time_scale: float = 1.0,
    data_at: DataAt = None,
) -> Unwrapped:
    """The inverse of `wrap`: a model as a function of another library, so that its samplers run on ours.

        D = scoresde.unwrap(model, "denoiser")                 D(x, sigma)
        u = scoresde.unwrap(model, "velocity", data_at=1)      u(x, t)
        eps = scoresde.unwrap(model, "eps", levels=scheduler.alphas_cumprod)    eps(x, k)

    The function may be on another path than the model, which is then evaluated at the level of the same signal-to-noise
    ratio. It takes times as numbers or as tensors () or (B,); times outside its path are clamped to its ends.

    Args:
        model: the model.
        kind: see `wrap`; not azula.
        sde: the path of the function; that of the model by default, `RectifiedSDE` for `velocity`. Not for `denoiser`,
            which takes any sigma.
        levels: see `wrap`.
        time_scale: see `wrap`.
        data_at: see `wrap`.

    Raises:
        InputError: see `wrap`.
    """
    require(kind != "azula", "kind", kind, f"give one of {', '.join(get_args(Kind)[:-1])}")
    if kind == "denoiser":
        require(sde is None, "sde", sde, "a denoiser D(x, sigma) has none; leave it out")
        sde = EDMSDE(sigma_min=1e-6, sigma_max=1e6)
    elif kind != "velocity" and levels is None and sde is None:
        sde = model.sde
    return Unwrapped(model, _interface(kind, sde, levels, time_scale, data_at, None))


@dataclass(frozen=True)
class _Interface:
    """A function sign x quantity of (x, scale t + shift) on a path."""

    sde: SDE
    quantity: Precond
    scale: float = 1.0
    shift: float = 0.0
    sign: float = 1.0


def _interface(
    kind: Kind, sde: SDE | None, levels: Levels, time_scale: float, data_at: DataAt, schedule: Any
) -> _Interface:
    require(kind in get_args(Kind), "kind", kind, f"give one of {', '.join(get_args(Kind))}")
    numbers = kind in ("x0", "eps", "v")
    require(levels is None or (numbers and sde is None), "levels", "given", "it is for x0, eps or v, without an sde")
    require(data_at is None or kind == "velocity", "data_at", data_at, "it is for velocity; leave it out")
    if kind == "denoiser":
        return _Interface(sde if isinstance(sde, EDMSDE) else EDMSDE(), "x0")
    if kind == "azula":
        return _azula(schedule, sde)
    if kind == "velocity":
        return _velocity(sde or RectifiedSDE(), time_scale, data_at)
    listed = () if levels is None else tuple(torch.as_tensor(levels).tolist())
    refuse(kind == "eps" and 0.0 in listed, "levels: from eps no x0 follows where alpha = 0; leave out that level")
    return _numbered(kind, LevelsVPSDE(listed) if listed else sde, time_scale)


def _numbered(kind: Precond, path: SDE | None, time_scale: float) -> _Interface:
    """Of times that are numbers of levels, where the path has levels."""
    if path is None:
        raise InputError(f"sde: {kind} needs the path of the network; give sde=, or levels= if its times are numbered")
    return _Interface(path, kind, float(path.last_level) if isinstance(path, LevelsVPSDE) else time_scale)


def _azula(schedule: Any, sde: SDE | None) -> _Interface:
    require(schedule is not None, "model", None, "an azula denoiser has a schedule")
    require(sde is None, "sde", sde, "an azula denoiser knows its own path; use .under(sde) of the result")
    alpha, sigma = functools.partial(_part, schedule, 0), functools.partial(_part, schedule, 1)
    return _Interface(PathSDE(alpha, sigma, T=1.0, t_min=1e-3, t_train=1e-3), "x0")


def _part(schedule: Callable[[Tensor], tuple[Tensor, Tensor]], i: int, t: Tensor) -> Tensor:
    return schedule(t)[i]


def _velocity(sde: SDE, time_scale: float, data_at: DataAt) -> _Interface:
    wanted = "give 0 if its path has data at t = 0 (dx/dt = eps - x0), 1 if at t = 1 (dx/dt = x0 - eps)"
    require(data_at in (0, 1), "data_at", data_at, wanted)
    if data_at == 0:
        return _Interface(sde, "velocity", time_scale)
    return _Interface(sde, "velocity", -time_scale, time_scale, -1.0)


class _Foreign(nn.Module):
    """A foreign function as a network net(x, level[, cond])."""

    def __init__(self, function: Callable[..., Any], sign: float, device: torch.device | str) -> None:
        super().__init__()
        self.function, self.sign = function, sign
        self.register_buffer("place", torch.empty(0, device=device), persistent=False)

    def forward(self, x: Tensor, level: Tensor, cond: Cond = None) -> Any:
        if isinstance(cond, Mapping):
            out = _tensor(self.function(x, level, **cond))
        else:
            out = _tensor(self.function(x, level, *(() if cond is None else (cond,))))
        return -out if self.sign < 0 and isinstance(out, Tensor) else out


def _tensor(out: Any) -> Any:
    """The tensor in what a function returns: `.sample`, `.mean`, or the only item of a tuple."""
    one = out[0] if isinstance(out, tuple) and len(out) == 1 else out
    found = (getattr(one, name, None) for name in ("sample", "mean"))
    return next((tensor for tensor in found if isinstance(tensor, Tensor)), one)


class Unwrapped(nn.Module):
    """A model as a function of x and a level, see `unwrap`."""

    def __init__(self, model: Model, interface: _Interface) -> None:
        super().__init__()
        self.model, self.interface, self.training = model, interface, model.training

    def forward(self, x: Tensor, level: float | Tensor, cond: Cond = None) -> Tensor:
        """The quantity at x (B, *event) and the level, a number or a tensor () or (B,)."""
        call, sde = self.interface, self.model.sde
        t = (torch.as_tensor(level, dtype=torch.float64) - call.shift) / call.scale
        t = t.clamp(call.sde.t_train, call.sde.t_start if call.sde.ends_in_noise else call.sde.T)
        alpha, sigma, lam = levels_at(call.sde, t)
        here = _number(t)
        if sde is not call.sde:
            here = _number(sde.t_of_lam(torch.as_tensor(lam, dtype=torch.float64)))
            x = x * expand(levels_at(sde, here)[0] / alpha, x)
        # levels of the other path may lie beyond T, where the formulas of this one go on: so without a check of times
        prediction: Prediction = counted(functools.partial(nn.Module.__call__, self.model), x, here, cond)
        match call.quantity:
            case "velocity":
                dalpha, dsigma = rates(call.sde, t)
                return prediction.combine(x0=call.sign * dalpha, eps=call.sign * dsigma)
            case "score":
                return prediction.combine(eps=-1.0 / sigma)
            case "v":
                return prediction.combine(x0=-sigma, eps=alpha)
        return prediction.combine(**{call.quantity: 1.0})


def _number(t: Tensor) -> float | Tensor:
    """A time for all samples as a float."""
    return t if t.ndim else float(t)
