"""How long 1,000 images take. Sections of `gpu.py`."""

from collections.abc import Callable
from typing import Any

import torch
from gpu_report import Figures, Report, precision, precisions, under
from gpu_training import COMPILING, LARGE, TINY, compiled_for_sampling, network
from torch import nn

from scoresde import VPSDE, Sampler, ScoreModel
from scoresde.sampling import (
    DDIM,
    AdaptiveRungeKutta,
    Auto,
    DPMSolverPP2M,
    ExponentialMultistep,
    Heun,
    Langevin,
    ReverseDiffusion,
    TorchDiffEq,
)

SAMPLERS = {
    "dpmpp_2m, 20 steps": Sampler(DPMSolverPP2M(), steps=20),
    "ddim, 50 steps": Sampler(DDIM(), steps=50),
    "heun, 18 steps": Sampler(Heun(), steps=18),
    "auto, 10 steps": Sampler(Auto(), steps=10),
    "sde_dpmpp_2m, 50 steps": Sampler(ExponentialMultistep(eta=1.0), steps=50),
    "reverse_diffusion + langevin, 50 steps": Sampler(ReverseDiffusion(), steps=50, corrector=Langevin()),
    "adaptive dopri5, 1e-3": Sampler(AdaptiveRungeKutta(rtol=1e-3, atol=1e-3, pair="dopri5")),
}


class Problem:
    """A network with random weights, none of them zero, so that solvers have something to follow."""

    def __init__(self, report: Report) -> None:
        self.report, self.batch = report, 4 if report.quick else 500
        self.n = 4 if report.quick else 1000
        self.net = network("UNet", report.event, TINY if report.quick else LARGE).to(report.device).eval()
        self.net = self.net.to(memory_format=torch.channels_last)
        with torch.no_grad():
            for p in self.net.parameters():
                p.add_(0.02 * torch.randn_like(p))

    def one_call(self, name: str, net: nn.Module) -> float:
        """Seconds of one bare evaluation of a batch."""
        device = self.report.device
        x = torch.randn(self.batch, *self.report.event, device=device)  # laid out as samplers do
        c = torch.zeros(1, device=device).expand(self.batch)
        with torch.no_grad(), precision(name, device):  # one context, so that weights are cast once, as in a loop
            return self.report.timed(lambda: net(x, c), 1.0)

    def sample(self, name: str, sampler: Sampler, bare: float | None, net: nn.Module | None = None) -> Figures:
        """Seconds for 1,000 images, and the share beside `bare` seconds of each call of the network."""
        report, model = self.report, ScoreModel(self.net if net is None else net, VPSDE())
        nfe = 0.0

        def run() -> None:
            nonlocal nfe
            nfe = sampler.sample(model, report.event, self.n, batch_size=self.batch).nfe

        action = under(name, report.device, run)
        memory = report.peak_memory(action)  # the first time, which warms up
        seconds = report.block(action, 1)
        calls = nfe * self.n / self.batch
        return {
            "seconds_per_1000": 1000 * seconds / self.n,
            "nfe": nfe,
            "beside_the_network": seconds / (bare * calls) - 1 if bare and not sampler.solver.adaptive else None,
            "peak_mib": memory,
        }


def sampling(report: Report) -> None:
    """A row for each solver in the fastest arithmetic without compilation, and one solver in every arithmetic."""
    problem: list[Problem] = []
    made = report.row("network", lambda: problem.append(Problem(report)) or {"ready": True})
    if not problem:
        return
    (p,), first = problem, next(iter(SAMPLERS))
    bare: dict[str, float] = {}

    def call(name: str) -> Figures:
        bare[name] = p.one_call(name, p.net)
        return {"ms": 1e3 * bare[name], "batch": p.batch}

    for name in precisions(report.device)[::-1]:
        report.row(f"one call of the network, {name}", lambda n=name: call(n))
        chosen = list(SAMPLERS) if name == "bf16" else [first]
        for key in chosen[::3] if report.quick else chosen:
            sampler = SAMPLERS[key]
            report.row(f"{key}, {name}", lambda n=name, s=sampler: p.sample(n, s, bare.get(n)), 5.0)
    if report.device.type == "cuda" and made.get("ready"):

        def compiled() -> Figures:
            net = compiled_for_sampling(p.net)
            return p.sample("bf16", SAMPLERS[first], p.one_call("bf16", net), net)

        report.row(f"{first}, bf16 + compiled", compiled, COMPILING)


def peers(report: Report) -> None:
    """What others' loops take around the same network: torchdiffeq's dopri5 and a scheduler of diffusers."""
    problem: list[Problem] = []
    report.row("network", lambda: problem.append(Problem(report)) or {"ready": True})
    if not problem:
        return
    p, name = problem[0], precisions(report.device)[-1]

    def theirs() -> Figures:
        import torchdiffeq  # noqa: F401 - a row says so where it is missing

        return p.sample(name, Sampler(TorchDiffEq("dopri5", rtol=1e-3, atol=1e-3)), None)

    ours = Sampler(AdaptiveRungeKutta(rtol=1e-3, atol=1e-3, pair="dopri5"))
    report.row(f"adaptive dopri5 of scoresde, 1e-3, {name}", lambda: p.sample(name, ours, None), 5.0)
    report.row(f"dopri5 of torchdiffeq, 1e-3, {name}", theirs, 5.0)
    two = Sampler(DPMSolverPP2M(), steps=20)
    report.row(f"dpmpp_2m of scoresde, 20 calls, {name}", lambda: p.sample(name, two, None), 5.0)
    report.row(f"dpmpp_2m of diffusers, 20 calls, {name}", lambda: _diffusers(p, name), 5.0)


def _diffusers(p: Problem, name: str) -> Figures:
    from diffusers import DPMSolverMultistepScheduler

    scheduler: Any = DPMSolverMultistepScheduler(beta_start=1e-4, beta_end=0.02, timestep_spacing="linspace")
    device = p.report.device

    @torch.no_grad()
    def run() -> None:
        for _ in range(0, p.n, p.batch):
            scheduler.set_timesteps(20, device=device)
            x = torch.randn(p.batch, *p.report.event, device=device)
            for t in scheduler.timesteps:
                c = (t.float() / 1000 - 0.5).expand(p.batch)
                x = scheduler.step(p.net(x, c).float(), t, x, return_dict=False)[0]

    action: Callable[[], None] = under(name, device, run)
    memory = p.report.peak_memory(action)
    return {"seconds_per_1000": 1000 * p.report.block(action, 1) / p.n, "nfe": 20.0, "peak_mib": memory}
