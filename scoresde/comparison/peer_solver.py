"""Samplers of diffusers and azula by name, as solvers that a comparison can measure."""

import importlib
import importlib.util
import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from scoresde.comparison.peers import Azula, Denoise, Peer, Scheduler
from scoresde.errors import InputError, did_you_mean, refuse
from scoresde.model import Model
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.solver import NoiseSource, Path, Solver
from scoresde.sde import SDE, VPSDE, RectifiedSDE

PREFIX = "peer:"
# the scheduler and its settings; without an order its levels are in sigma
_RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DPMSolverMultistep", {"solver_order": 1}),
    "dpmpp_2m": ("DPMSolverMultistep", {"solver_order": 2}),
    "dpmpp_3m": ("DPMSolverMultistep", {"solver_order": 3}),
    "dpmpp_2s": ("DPMSolverSinglestep", {"solver_order": 2, "lower_order_final": True}),
    "unipc": ("UniPCMultistep", {"solver_order": 2}),
    "unipc_3": ("UniPCMultistep", {"solver_order": 3}),
    "deis": ("DEISMultistep", {"solver_order": 2}),
    "euler": ("Euler", {}),
    "heun": ("Heun", {}),
    "lms": ("LMS", {}),
}
_LEVELS = ("", "karras", "exponential")
_AZULA = {rule: f"{rule}ABSampler" for rule in ("z", "v", "zE", "xE", "RE")}
_SCHEDULES = {"vp": "VP", "ve": "VE", "cosine": "Cosine", "rectified": "Rectified"}


def names() -> dict[str, tuple[str, ...]]:
    """All peers with their parts: rule and levels of diffusers; azula, rule, order and schedule."""
    found: dict[str, tuple[str, ...]] = {"_".join(filter(None, parts)): parts for parts in product(_RULES, _LEVELS)}
    for parts in product(_AZULA, "1234", _SCHEDULES):
        found[f"azula_{parts[0].lower()}ab_{'_'.join(parts[1:])}"] = ("azula", *parts)
    return found


def peer(name: str, sde: SDE) -> Peer:
    """A peer on a path, with the levels that its library gives such models.

    Schedulers of diffusers have the betas of a `VPSDE`, its flow levels on a `RectifiedSDE`, and EDM's levels, between
    those of t_start and t_min, on others and for levels that flow models do not have there.

    Raises:
        InputError: the library has no such levels for this path.
    """
    parts = names()[name]
    return _azula(sde, *parts[1:]) if parts[0] == "azula" else _scheduler(name, sde, *parts)


def _scheduler(name: str, sde: SDE, rule: str, levels: str) -> Scheduler:
    scheduler, settings = _RULES[rule]
    cost = 2 if rule == "heun" else 1
    if isinstance(sde, VPSDE):
        settings = settings | {"beta_start": sde.beta_min / 1000, "beta_end": sde.beta_max / 1000}
        settings |= {f"use_{levels}_sigmas": True} if levels else {}
        in_sigma = "solver_order" not in settings
        return Scheduler(_of(scheduler + "Discrete" * in_sigma, settings), "sigma" if in_sigma else "vp", cost)
    if isinstance(sde, RectifiedSDE) and not levels and rule != "lms":
        settings = settings and settings | {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
        return Scheduler(_of(scheduler if settings else f"FlowMatch{scheduler}Discrete", settings), "flow", cost)
    if rule not in ("ddim", "dpmpp_2m", "dpmpp_3m", "euler"):
        raise InputError(
            f"solvers: {PREFIX}{name} has no levels for {type(sde).__name__}; take ddim, euler, dpmpp_2m or dpmpp_3m"
        )
    low, high = ends(sde)
    levelled = {"sigma_min": low, "sigma_max": high, "sigma_data": 1.0, "sigma_schedule": levels or "karras"}
    return Scheduler(_of(f"EDM{scheduler}", settings | levelled), "edm")


def _of(scheduler: str, settings: dict[str, Any]) -> Any:
    return getattr(importlib.import_module("diffusers"), f"{scheduler}Scheduler")(**settings)


def _azula(sde: SDE, rule: str, order: str, schedule: str) -> Azula:
    noise, sample = (importlib.import_module(f"azula.{part}") for part in ("noise", "sample"))
    low, high = ends(sde)
    known = getattr(noise, f"{_SCHEDULES[schedule]}Schedule")
    made = known(low, high) if schedule == "ve" else known(alpha_min=1 / high, sigma_min=low)
    return Azula(getattr(sample, _AZULA[rule]), made, {"order": int(order)})


def ends(sde: SDE) -> tuple[float, float]:
    """The lowest and the highest sigma / alpha of a sampler."""
    low, high = torch.exp(-sde.lam(torch.tensor([sde.t_min, sde.t_start], dtype=torch.float64))).tolist()
    return low, high


def denoiser(model: Model) -> Denoise:
    """x0_hat(y, r) of a model; outside its path that of the nearest level, for x of the size that it knows there."""
    sde = model.sde

    def denoise(y: Tensor, r: float) -> Tensor:
        t = float(sde.t_of_lam(torch.tensor(-math.log(r), dtype=torch.float64)).clamp(sde.t_train, sde.t_start))
        level = sde.at(t)
        return model(y * (math.hypot(level.alpha, level.sigma) / math.hypot(1, r)), t).x0

    return denoise


@dataclass(frozen=True, repr=False)
class PeerSolver(Solver):
    """A sampler of another library, from noise to data in its own steps; a grid only says how many evaluations.

    Args:
        name: see `names`.

    Raises:
        InputError: no such peer, or its library is not installed.
    """

    name: str

    takes_corrector = False

    def __post_init__(self) -> None:
        known = names()
        wrong = f"solvers: {PREFIX}{self.name} is not known{did_you_mean(self.name, known, PREFIX)}"
        refuse(self.name not in known, wrong)
        library = "azula" if known[self.name][0] == "azula" else "diffusers"
        spec, needs = importlib.util.find_spec(library), f"needs {library}; pip install 'scoresde[peers]'"
        refuse(spec is None or spec.origin is None, f"solvers: {PREFIX}{self.name} {needs}")

    @property
    def extrapolates(self) -> bool:
        return True

    reaches_zero = extrapolates

    @property
    def bidirectional(self) -> bool:
        return False

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        drawn = peer(self.name, model.sde)(denoiser(model), x / model.sde.prior_std, len(times) - 1)
        yield float(times[-1]), drawn.x
