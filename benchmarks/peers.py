"""Samplers of other libraries on exact scores: their own loops, levels and starts.

A peer is called with a law, standard normal starts z (n, D) and a number of evaluations, and returns what it drew, the
scale of its start (y = scale z where y = x / alpha), the sigma / alpha there, and the evaluations it spent. The loops
of diffusers and azula are those of `scoresde.compare`; k-diffusion and flow_matching have their own here. DPM-Solver's
own code is in no registry: diffusers has its rules, the single-step ones too, and k-diffusion has DPM-Solver-fast.

    pip install --no-deps azula einops k-diffusion flow-matching
"""

import importlib
import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scoresde import SDE, VPSDE, RectifiedSDE
from scoresde.comparison.peer_solver import ends
from scoresde.comparison.peers import Azula, Denoise, Peer, Scheduler
from scoresde.comparison.peers import Drawn as Start
from scoresde.comparison.reference import Distribution

Settings = Iterator[tuple[str, Peer]]
_BETAS = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
_NO_SIGNAL = 1e-6  # alpha of flow_matching's start, which is 0


class Drawn(NamedTuple):
    x: Tensor
    scale: float
    ratio: float
    calls: int


@dataclass(frozen=True)
class OnLaw:
    """A peer with an exact denoiser, which counts its evaluations."""

    peer: Peer

    def __call__(self, law: Distribution, z: Tensor, budget: int) -> Drawn:
        calls = 0

        def denoise(y: Tensor, r: float) -> Tensor:
            nonlocal calls
            calls += 1
            return law.posterior_mean(y, 1.0, r)

        return Drawn(*self.peer(denoise, z, budget), calls)


def deterministic(sde: SDE) -> dict[str, OnLaw]:
    """Solvers of the probability-flow ODE in all settings that make sense, for a path; of what is installed.

    On VP the schedulers of diffusers have its betas, on other paths equal or Karras' steps between its noise levels.
    """
    return {f"{library} {name}": OnLaw(peer) for library, pool in _LIBRARIES.items() for name, peer in pool(sde)}


def stochastic(sde: SDE) -> dict[str, OnLaw]:
    """Solvers of the reverse SDE."""
    return {name: OnLaw(peer) for name, peer in _sde_schedulers(sde)}


def _known(library: str, install: str) -> bool:
    """Whether a library is there; else a line says how to install it."""
    there = importlib.util.find_spec(library) is not None
    if not there:
        print(f"{library} is left out; pip install --no-deps {install}", file=sys.stderr)
    return there


def _spaced() -> list[tuple[str, dict[str, Any]]]:
    found = [(f"levels {s}", {**_BETAS, "timestep_spacing": s}) for s in ("linspace", "trailing")]
    return found + [(space, {**_BETAS, f"use_{space}_sigmas": True}) for space in ("karras", "exponential", "beta")]


def _levels(sde: SDE) -> dict[str, float]:
    return {**dict(zip(("sigma_min", "sigma_max"), ends(sde), strict=True)), "sigma_data": 1.0}


_MULTISTEP = [
    (1, "midpoint", True),
    *itertools.product((2,), ("midpoint", "heun"), (True, False)),
    (3, "midpoint", True),
    (3, "midpoint", False),
]  # order, solver_type, lower_order_final


def _ode_schedulers(sde: SDE) -> Settings:
    import diffusers as d

    if isinstance(sde, VPSDE):
        for tag, base in _spaced():
            yield from _of_levels(d, tag, base)
        return
    if isinstance(sde, RectifiedSDE):
        yield from _of_flow(d)
    for schedule in ("karras", "exponential"):
        base = {**_levels(sde), "sigma_schedule": schedule}
        for order, rule, final in _MULTISTEP:
            settings = {"solver_order": order, "solver_type": rule, "lower_order_final": final}
            scheduler = d.EDMDPMSolverMultistepScheduler(**base, **settings)
            yield f"edm dpmpp {order} {rule} {final} {schedule}", Scheduler(scheduler, "edm")
        yield f"edm euler {schedule}", Scheduler(d.EDMEulerScheduler(**base), "edm")


def _of_levels(d: Any, tag: str, base: dict[str, Any]) -> Settings:
    """All with the same levels on VP."""
    for order, rule, final in _MULTISTEP:
        settings = {"solver_order": order, "solver_type": rule, "lower_order_final": final}
        yield f"dpmpp {order} {rule} {final} {tag}", Scheduler(d.DPMSolverMultistepScheduler(**base, **settings), "vp")
    for order, bh in itertools.product((2, 3), ("bh1", "bh2")):
        scheduler = d.UniPCMultistepScheduler(**base, solver_order=order, solver_type=bh, final_sigmas_type="zero")
        yield f"unipc {order} {bh} {tag}", Scheduler(scheduler, "vp")
    for order in (2, 3):
        yield f"deis {order} {tag}", Scheduler(d.DEISMultistepScheduler(**base, solver_order=order), "vp")
        eps = {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "solver_order": order}
        yield f"dpm {order} {tag}", Scheduler(d.DPMSolverMultistepScheduler(**base, **eps), "vp")
        if "timestep_spacing" not in base or base["timestep_spacing"] == "linspace":
            single = {k: v for k, v in base.items() if k != "timestep_spacing"} | {"lower_order_final": True}
            for name, own in (("dpmpp", {"solver_order": order}), ("dpm", eps)):
                scheduler = d.DPMSolverSinglestepScheduler(**single, **own)
                yield f"{name} {order} singlestep {tag}", Scheduler(scheduler, "vp")
    yield f"euler {tag}", Scheduler(d.EulerDiscreteScheduler(**base), "sigma")
    yield f"heun {tag}", Scheduler(d.HeunDiscreteScheduler(**base), "sigma", cost=2)
    yield f"lms {tag}", Scheduler(d.LMSDiscreteScheduler(**base), "sigma")


def _of_flow(d: Any) -> Settings:
    """On the rectified path, with the levels that are usual there."""
    for shift in (1.0, 3.0):
        base = {"use_flow_sigmas": True, "flow_shift": shift, "prediction_type": "flow_prediction"}
        yield f"flow euler {shift:g}", Scheduler(d.FlowMatchEulerDiscreteScheduler(shift=shift), "flow")
        for order in (2, 3):
            for name in ("DPMSolverMultistep", "UniPCMultistep", "DEISMultistep", "DPMSolverSinglestep"):
                scheduler = getattr(d, f"{name}Scheduler")(**base, solver_order=order)
                yield f"flow {name} {order} {shift:g}", Scheduler(scheduler, "flow")


def _sde_schedulers(sde: SDE) -> Settings:
    import diffusers as d

    if isinstance(sde, VPSDE):
        for tag, base in _spaced():
            for order in (1, 2):  # the third order has a sign error, see tests/test_peers.py
                scheduler = d.DPMSolverMultistepScheduler(**base, solver_order=order, algorithm_type="sde-dpmsolver++")
                yield f"sde dpmpp {order} {tag}", Scheduler(scheduler, "vp")
            for order in (2, 3):
                scheduler = d.SASolverScheduler(
                    **base, predictor_order=order, corrector_order=order, tau_func=lambda t: 1.0
                )
                yield f"sa {order} {tag}", Scheduler(scheduler, "vp")
        for spacing in ("linspace", "trailing"):
            base = {**_BETAS, "timestep_spacing": spacing}
            yield f"euler ancestral {spacing}", Scheduler(d.EulerAncestralDiscreteScheduler(**base), "sigma")
            yield f"ddpm {spacing}", Scheduler(d.DDPMScheduler(**base, clip_sample=False), "numbered")
        return
    for schedule, order in itertools.product(("karras", "exponential"), (1, 2)):
        scheduler = d.EDMDPMSolverMultistepScheduler(
            **_levels(sde), sigma_schedule=schedule, solver_order=order, algorithm_type="sde-dpmsolver++"
        )
        yield f"edm sde dpmpp {order} {schedule}", Scheduler(scheduler, "edm")


def _azula(sde: SDE) -> Settings:
    """Adams-Bashforth and Heun samplers on each schedule between the levels of the path."""
    if not _known("azula", "azula einops"):
        return
    from azula import noise, sample

    low, high = ends(sde)
    schedules = {"ve": noise.VESchedule(low, high)}
    for name in ("VP", "Cosine", "Rectified"):
        schedules[name.lower()] = getattr(noise, f"{name}Schedule")(alpha_min=1 / high, sigma_min=low)
    rules = (sample.zABSampler, sample.vABSampler, sample.zEABSampler, sample.xEABSampler, sample.REABSampler)
    for (tag, schedule), clean in itertools.product(schedules.items(), (True, False)):
        end = " denoised" if clean else ""
        for rule, order in itertools.product(rules, (1, 2, 3, 4)):
            name = f"{rule.__name__.removesuffix('Sampler')} {order} {tag}{end}"
            yield name, Azula(rule, schedule, {"order": order}, clean)
        yield f"Heun {tag}{end}", Azula(sample.HeunSampler, schedule, {}, clean, cost=2)


def _k_diffusion(sde: SDE) -> Settings:
    """All deterministic rules, the stochastic ones of order 2 and 3 without their noise, on each schedule."""
    if not _known("k_diffusion", "k-diffusion"):
        return
    k, (low, high) = _k_sampling(), ends(sde)
    schedules = {"karras": partial(k.get_sigmas_karras, sigma_min=low, sigma_max=high)}
    for rho in (0.7, 1.0, 1.5):  # 1 are exponential steps
        schedules[f"polyexponential {rho:g}"] = partial(
            k.get_sigmas_polyexponential, sigma_min=low, sigma_max=high, rho=rho
        )
    if isinstance(sde, VPSDE):
        schedules["vp"] = partial(
            k.get_sigmas_vp, beta_d=sde.beta_max - sde.beta_min, beta_min=sde.beta_min, eps_s=sde.t_min
        )
    quiet = {"eta": 0.0, "noise_sampler": lambda *_: 0.0}
    rules: dict[str, tuple[Callable[..., Tensor], dict[str, Any], int]] = {
        "euler": (k.sample_euler, {}, 1),
        "heun": (k.sample_heun, {}, 2),
        "dpm_2": (k.sample_dpm_2, {}, 2),
        **{f"lms {order}": (k.sample_lms, {"order": order}, 1) for order in (2, 3, 4)},
        "dpmpp_2m": (k.sample_dpmpp_2m, {}, 1),
        "dpmpp_2s": (k.sample_dpmpp_2s_ancestral, quiet, 2),
        "dpmpp_3m": (k.sample_dpmpp_3m_sde, quiet, 1),
    }
    for (name, rule), (tag, schedule) in itertools.product(rules.items(), schedules.items()):
        yield f"{name} {tag}", partial(_run_k, schedule, *rule)
    yield "dpm_fast", partial(_run_k_fast, k.sample_dpm_fast, low, high)


def _k_sampling() -> Any:
    """k_diffusion.sampling alone: the package imports code for training, with much that is not needed here."""
    if "k_diffusion.sampling" not in sys.modules:
        spec, package, utils = importlib.util.find_spec("k_diffusion"), ModuleType("k_diffusion"), ModuleType("utils")
        assert spec is not None
        package.__spec__, package.__path__ = spec, list(spec.submodule_search_locations or ())
        utils.append_dims = lambda x, ndim: x[(...,) + (None,) * (ndim - x.ndim)]  # type: ignore[attr-defined]
        package.utils = utils  # type: ignore[attr-defined]
        sys.modules |= {"k_diffusion": package, "k_diffusion.utils": utils}
        sys.modules.setdefault("torchsde", ModuleType("torchsde"))  # for noise
    return importlib.import_module("k_diffusion.sampling")


def _of_sigma(denoise: Denoise) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda y, sigma: denoise(y, float(sigma.flatten()[0]))


def _run_k(
    schedule: Callable[[int], Tensor], rule: Callable[..., Tensor], settings: dict[str, Any], cost: int,
    denoise: Denoise, z: Tensor, budget: int,
) -> Start:  # fmt: skip
    sigmas = schedule((budget + cost - 1) // cost).double()
    first = float(sigmas[0])
    return Start(rule(_of_sigma(denoise), z * first, sigmas, disable=True, **settings), first, first)


def _run_k_fast(
    rule: Callable[..., Tensor], low: float, high: float, denoise: Denoise, z: Tensor, budget: int
) -> Start:
    """DPM-Solver-fast ends at the lowest level; the last evaluation removes what is left."""
    return Start(denoise(rule(_of_sigma(denoise), z * high, low, high, budget - 1, disable=True), low), high, high)


def _flow_matching(sde: SDE) -> Settings:
    """The fixed-step rules of torchdiffeq that do not evaluate at noise zero, on two grids of times."""
    if not isinstance(sde, RectifiedSDE) or not _known("flow_matching", "flow-matching"):
        return

    def edm(points: int) -> Tensor:
        """As in the examples of the library: Karras' levels as times."""
        first, last = 80 ** (1 / 7), 0.002 ** (1 / 7)
        r = torch.linspace(first, last, points, dtype=torch.float64) ** 7
        return torch.cat((1 / (1 + r), torch.ones(1, dtype=torch.float64)))

    grids = {"uniform": lambda points: torch.linspace(0, 1, points + 1, dtype=torch.float64), "edm": edm}
    for (rule, cost), (tag, grid) in itertools.product({"euler": 1, "midpoint": 2, "heun3": 3}.items(), grids.items()):
        yield f"{rule} {tag}", partial(_run_flow, rule, cost, grid)


def _run_flow(rule: str, cost: int, grid: Callable[[int], Tensor], denoise: Denoise, z: Tensor, budget: int) -> Start:
    from flow_matching.solver import ODESolver

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        alpha = max(float(t), _NO_SIGNAL)
        r = (1 - alpha) / alpha
        x0 = denoise(x / alpha, r)
        return x0 - (x / alpha - x0) / r

    times = grid(budget // cost)
    x = ODESolver(velocity).sample(z, step_size=None, method=rule, time_grid=times)
    alpha = max(float(times[0]), _NO_SIGNAL)
    return Start(x, 1 / alpha, (1 - alpha) / alpha)


_LIBRARIES = {
    "diffusers": _ode_schedulers,
    "azula": _azula,
    "k-diffusion": _k_diffusion,
    "flow_matching": _flow_matching,
}
