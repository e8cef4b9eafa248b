"""Samplers of other libraries on exact scores: their own loops, levels and starts.

A peer is called with a law, standard normal starts z (n, D) and a number of evaluations, and returns what it drew, the
scale of its start (y = scale z where y = x / alpha), the sigma / alpha there, and the evaluations it spent.
"""

import itertools
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scoresde import SDE, VPSDE
from scoresde.comparison.reference import Distribution


class Drawn(NamedTuple):
    x: Tensor
    scale: float
    ratio: float
    calls: int


Peer = Callable[[Distribution, Tensor, int], Drawn]
_BETAS = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def deterministic(sde: SDE) -> dict[str, Peer]:
    """Solvers of the probability-flow ODE in all settings that make sense, for a path; of what is installed.

    On VP the schedulers of diffusers have its betas, on other paths equal or Karras' steps between its noise levels.
    """
    return {**_diffusers(_ode_schedulers(sde)), **_azula(sde)}


def stochastic(sde: SDE) -> dict[str, Peer]:
    """Solvers of the reverse SDE."""
    return _diffusers(_sde_schedulers(sde))


def _spaced() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for space, spacing in itertools.product(("", "karras", "exponential"), ("linspace", "trailing")):
        shape = {f"use_{space}_sigmas": True} if space else {}
        found.append((f"{space or 'levels'} {spacing}", {**_BETAS, **shape, "timestep_spacing": spacing}))
    return found


def _ends(sde: SDE) -> tuple[float, float]:
    """The lowest and the highest sigma / alpha of a sampler."""
    low, high = torch.exp(-sde.lam(torch.tensor([sde.t_min, sde.t_start], dtype=torch.float64))).tolist()
    return low, high


def _levels(sde: SDE) -> dict[str, float]:
    return {**dict(zip(("sigma_min", "sigma_max"), _ends(sde), strict=True)), "sigma_data": 1.0}


def _ode_schedulers(sde: SDE) -> dict[str, Any]:
    import diffusers as d

    out: dict[str, Any] = {}
    if isinstance(sde, VPSDE):
        for tag, base in _spaced():
            for order, final, rule in itertools.product((1, 2, 3), (True, False), ("midpoint", "heun")):
                end = {"lower_order_final": final, "solver_type": rule, "euler_at_final": False}
                out[f"dpmpp {order} {rule} {final} {tag}"] = d.DPMSolverMultistepScheduler(
                    **base, solver_order=order, **end
                )
            for order, bh in itertools.product((2, 3), ("bh1", "bh2")):
                out[f"unipc {order} {bh} {tag}"] = d.UniPCMultistepScheduler(
                    **base, solver_order=order, solver_type=bh, final_sigmas_type="zero"
                )
            for order in (2, 3):
                out[f"deis {order} {tag}"] = d.DEISMultistepScheduler(**base, solver_order=order)
            out[f"euler {tag}"] = d.EulerDiscreteScheduler(**base)
            out[f"heun {tag}"] = d.HeunDiscreteScheduler(**base)
            out[f"lms {tag}"] = d.LMSDiscreteScheduler(**base)
        return out
    for schedule, order, final, rule in itertools.product(
        ("karras", "exponential"), (1, 2, 3), (True, False), ("midpoint", "heun")
    ):
        out[f"edm dpmpp {order} {rule} {final} {schedule}"] = d.EDMDPMSolverMultistepScheduler(
            **_levels(sde), sigma_schedule=schedule, solver_order=order, solver_type=rule, lower_order_final=final
        )
        out[f"edm euler {schedule}"] = d.EDMEulerScheduler(**_levels(sde), sigma_schedule=schedule)
    return out


def _sde_schedulers(sde: SDE) -> dict[str, Any]:
    import diffusers as d

    out: dict[str, Any] = {}
    if isinstance(sde, VPSDE):
        for tag, base in _spaced():
            for order in (1, 2):  # the third order has a sign error, see tests/test_peers.py
                out[f"sde dpmpp {order} {tag}"] = d.DPMSolverMultistepScheduler(
                    **base, solver_order=order, algorithm_type="sde-dpmsolver++"
                )
            for order in (2, 3):
                out[f"sa {order} {tag}"] = d.SASolverScheduler(
                    **base, predictor_order=order, corrector_order=order, tau_func=lambda t: 1.0
                )
            out[f"euler ancestral {tag.split()[1]}"] = d.EulerAncestralDiscreteScheduler(
                **_BETAS, timestep_spacing=tag.split()[1]
            )
            out[f"ddpm {tag.split()[1]}"] = d.DDPMScheduler(
                **_BETAS, timestep_spacing=tag.split()[1], clip_sample=False
            )
        return out
    for schedule, order in itertools.product(("karras", "exponential"), (1, 2)):
        out[f"edm sde dpmpp {order} {schedule}"] = d.EDMDPMSolverMultistepScheduler(
            **_levels(sde), sigma_schedule=schedule, solver_order=order, algorithm_type="sde-dpmsolver++"
        )
    return out


def _diffusers(schedulers: dict[str, Any]) -> dict[str, Peer]:
    return {name: partial(_run_scheduler, scheduler, name) for name, scheduler in schedulers.items()}


def _run_scheduler(scheduler: Any, name: str, law: Distribution, z: Tensor, budget: int) -> Drawn:
    """The exact eps, or the raw output of an EDM network, in place of the network."""
    scheduler.set_timesteps((budget + 1) // 2 if name.startswith("heun") else budget)
    if name.startswith("ddpm"):
        return _run_ddpm(scheduler, law, z)
    in_sigma = name.startswith(("euler", "heun", "lms", "edm"))
    sigmas = scheduler.sigmas.double()
    first = float(sigmas[0])
    alpha = 1.0 if in_sigma else (1 + first**2) ** -0.5
    scale = float(scheduler.init_noise_sigma) / alpha if in_sigma else 1.0 / alpha
    x, calls = z * scale * alpha, 0
    scheduler.is_scale_input_called = True
    for t in scheduler.timesteps:
        if scheduler.step_index is None:
            scheduler._init_step_index(t)
        sigma = float(sigmas[scheduler.step_index])
        y = x if in_sigma else x * (1 + sigma**2) ** 0.5
        x0 = law.posterior_mean(y, 1.0, sigma)
        if name.startswith("edm"):
            skip = scheduler.precondition_outputs(y, torch.zeros_like(y), sigma)
            out = (x0 - skip) / float(scheduler.precondition_outputs(torch.zeros(1), torch.ones(1), sigma))
        else:
            out = (y - x0) / sigma
        x, calls = scheduler.step(out, t, x).prev_sample.double(), calls + 1
    last = float(sigmas[-1])
    if last > 0:  # what is left is removed as ours do, at the price of an evaluation
        x = law.posterior_mean(x if in_sigma else x * (1 + last**2) ** 0.5, 1.0, last)
        calls += 1
    return Drawn(x, scale, first, calls)


def _run_ddpm(scheduler: Any, law: Distribution, z: Tensor) -> Drawn:
    x, first = z, 0.0
    for t in scheduler.timesteps:
        alpha = float(scheduler.alphas_cumprod[int(t)]) ** 0.5
        sigma = (1 - alpha**2) ** 0.5
        first = first or sigma / alpha
        eps = (x - alpha * law.posterior_mean(x / alpha, 1.0, sigma / alpha)) / sigma
        x = scheduler.step(eps, t, x).prev_sample.double()
    return Drawn(x, (1 + first**2) ** 0.5, first, len(scheduler.timesteps))


def _azula(sde: SDE) -> dict[str, Peer]:
    """Adams-Bashforth samplers of azula on each of its schedules between the levels of the path."""
    try:
        from azula import noise, sample
    except ImportError as error:
        print(f"azula is left out ({error}); pip install --no-deps azula einops", file=sys.stderr)
        return {}
    low, high = _ends(sde)
    schedules = {"ve": noise.VESchedule(low, high)}
    for name in ("VP", "Cosine", "Rectified"):
        schedules[name.lower()] = getattr(noise, f"{name}Schedule")(alpha_min=1 / high, sigma_min=low)
    rules = (sample.zABSampler, sample.vABSampler, sample.zEABSampler, sample.xEABSampler, sample.REABSampler)
    found: dict[str, Peer] = {}
    for rule, (tag, schedule), order, clean in itertools.product(rules, schedules.items(), (1, 2, 3, 4), (True, False)):
        name = f"azula {rule.__name__.removesuffix('Sampler')} {order} {tag}{' denoised' if clean else ''}"
        found[name] = partial(_run_azula, rule, order, schedule, clean)
    return found


def _run_azula(rule: Any, order: int, schedule: Any, clean: bool, law: Distribution, z: Tensor, budget: int) -> Drawn:
    from azula.denoise import Denoiser, DiracPosterior

    class Exact(Denoiser):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> Any:
            alpha, sigma = (float(c) for c in schedule(t))
            return DiracPosterior(law.posterior_mean(x_t / alpha, 1.0, sigma / alpha))

    steps = budget - 1 if clean else budget
    alpha, sigma = (float(c) for c in schedule(torch.tensor(1.0, dtype=torch.float64)))
    x = rule(Exact(), order=order, steps=steps, silent=True, dtype=torch.float64)(z * sigma)
    if clean:
        end = [float(c) for c in schedule(torch.tensor(0.0, dtype=torch.float64))]
        x = law.posterior_mean(x / end[0], 1.0, end[1] / end[0])
    return Drawn(x, sigma / alpha, sigma / alpha, budget)
