"""Does the device say what the CPU says? Sections of `gpu.py`."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from gpu_report import Figures, Report, precision, precisions
from torch import Tensor, nn

from scoresde import VPSDE, ExactModel, GaussianMixture, Sampler, ScoreModel
from scoresde.loss import Batch, DenoisingScoreMatching
from scoresde.loss.levels import LossHistory, stratified
from scoresde.nets import UNet
from scoresde.noise import Noise
from scoresde.sampling import (
    DDIM,
    AdaptiveRungeKutta,
    DPMSolverPP2M,
    ExponentialMultistep,
    Heun,
    Langevin,
    ReverseDiffusion,
)

SAMPLERS = {
    "ddim": Sampler(DDIM(), steps=20),
    "dpmpp_2m": Sampler(DPMSolverPP2M(), steps=20),
    "heun": Sampler(Heun(), steps=20),
    "sde_dpmpp_2m": Sampler(ExponentialMultistep(eta=1.0), steps=20),
    "reverse_diffusion + langevin": Sampler(ReverseDiffusion(), steps=20, corrector=Langevin()),
    "adaptive dopri5": Sampler(AdaptiveRungeKutta(rtol=1e-6, atol=1e-6, pair="dopri5"), steps=20),
}
SAME = {torch.float64: 1e-9, torch.float32: 1e-4}  # largest relative difference of samples
NEAR = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 1e-1}  # largest relative error of outputs and gradients


@dataclass(frozen=True)
class HostNoise:
    """The CPU's numbers on every device, so that two devices can be compared."""

    noise: Noise

    def normal(
        self, purpose: str, step: int, shape: Sequence[int], device: torch.device | str, dtype: torch.dtype
    ) -> Tensor:
        return self.noise.normal(purpose, step, shape, "cpu", dtype).to(device)


def checks(report: Report) -> None:
    """A row for each check, with `passed`."""
    report.row("noise is a function of seed and index", lambda: _noise(report.device))
    for dtype in SAME:
        for name in SAMPLERS:
            kind = str(dtype).removeprefix("torch.")
            report.row(f"mixture, {name}, {kind}", lambda n=name, d=dtype: _mixture(report.device, n, d))
    for name in precisions(report.device):
        report.row(f"U-Net against float64, {name}", lambda n=name: _network(report.device, n))
    report.row("loss history", lambda: _history(report.device))
    report.row("a step never waits for the device", lambda: _no_waiting(report.device))
    report.row("a checkpoint sees finished work", lambda: _finite(report.device))


def relative(found: Tensor, expected: Tensor) -> float:
    a, b = (x.detach().cpu().double() for x in (found, expected))
    return ((a - b).norm() / b.norm()).item()


def _passed(error: float, limit: float) -> Figures:
    return {"error_norm": error, "limit": limit, "passed": error <= limit}


def _noise(device: torch.device) -> Figures:
    def draw(noise: Noise, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return noise.normal("check", 5, (n, 3, 7), device, dtype)

    whole = draw(Noise(3), 5000)
    same = torch.equal(whole, draw(Noise(3), 5000)) and torch.equal(whole[130:], draw(Noise(3, range(130, 5000)), 4870))
    same &= torch.equal(whole.double(), draw(Noise(3), 5000, torch.float64))
    other = torch.cat([draw(Noise(4), 5000), Noise(3).normal("check", 6, (5000, 3, 7), device)])
    mean, variance, n = whole.double().mean().item(), whole.double().var().item(), whole.numel()
    law = abs(mean) < 5 / n**0.5 and abs(variance - 1) < 5 * (2 / n) ** 0.5
    return {"mean": mean, "variance": variance, "passed": same and law and not torch.equal(other[:5000], whole)}


def _mixture(device: torch.device, name: str, dtype: torch.dtype) -> Figures:
    data = GaussianMixture(
        [0.2, 0.5, 0.3],
        [[-1.5, 0.3], [1.0, 1.0], [0.2, -1.2]],
        [[[0.2, 0.05], [0.05, 0.1]], [[0.3, 0.0], [0.0, 0.1]], [[0.15, -0.1], [-0.1, 0.25]]],
    )

    def samples(where: torch.device) -> Tensor:
        model, noise, sampler = ExactModel(data, VPSDE()).to(where), HostNoise(Noise(0)), SAMPLERS[name]
        with torch.no_grad():
            start = sampler.prior(model, model.event_shape, 256, noise, dtype)
            *_, (_, x) = sampler.path(model, start, noise)
        return x

    return _passed(relative(samples(device), samples(torch.device("cpu"))), SAME[dtype])


def small_unet() -> nn.Module:
    """A U-Net none of whose weights is zero, so that all of them are seen."""
    torch.manual_seed(0)
    net = UNet((3, 16, 16), channels=16, multipliers=(1, 2), attention=(-1,), groups=4)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    return net.eval()


def _network(device: torch.device, name: str) -> Figures:
    """Output and gradients of the loss, against float64 on the CPU."""
    x0, eps = (Noise(k).normal("image", 0, (8, 3, 16, 16), dtype=torch.float64) for k in (0, 1))
    u = stratified(Noise(2).uniform("u", 0, 8))

    def gradients(net: nn.Module, where: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        model = ScoreModel(net.to(where, dtype), VPSDE())
        batch = Batch(x0.to(where, dtype), u, eps.to(where, dtype))
        values = DenoisingScoreMatching("edm", "log_normal")(model, batch).loss
        return values, torch.cat([g.flatten() for g in torch.autograd.grad(values.mean(), list(net.parameters()))])

    net = small_unet()
    expected = gradients(copy.deepcopy(net), torch.device("cpu"), torch.float64)
    with precision(name, device):
        found = gradients(net, device, torch.float32)
    errors = [relative(a, b) for a, b in zip(found, expected, strict=True)]
    return {"loss_error": errors[0], "gradient_error": errors[1], **_passed(max(errors), NEAR[name])}


def _history(device: torch.device) -> Figures:
    histories = [LossHistory(where) for where in ("cpu", device)]
    for k in range(20):
        v = stratified(Noise(0).uniform("v", k, 512))
        for history in histories:
            u, _ = history.draw(v)
            history.update(u, torch.exp(-5 * u))
    (one, _), (other, _) = (history.draw(v) for history in histories)
    return _passed(relative(other, one), 1e-9)


def _no_waiting(device: torch.device) -> Figures:
    """A step of training as the trainer does it, with all waiting made an error."""
    if device.type != "cuda":
        return {"skipped": "needs CUDA"}
    net = small_unet().to(device)
    model, loss, history = ScoreModel(net, VPSDE()), DenoisingScoreMatching("edm", "log_normal"), LossHistory(device)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    x0 = Noise(0).normal("image", 0, (8, 3, 16, 16), device)

    def step(k: int) -> None:
        u, weight = history.draw(stratified(Noise(0).uniform("u", k, 8)))
        values = loss(model, Batch(x0, u, Noise(0).normal("eps", k, x0.shape, device))).loss
        (weight.float() * values).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        history.update(u, values)

    return {"passed": _never_waits(step)}


def _finite(device: torch.device) -> Figures:
    """Finite values that are still being computed are finite, and a NaN among them is found."""
    from scoresde.training.state import first_not_finite  # needs more packages than the other rows

    size = 1024 if device.type == "cuda" else 64
    x = torch.full((size, size), 1 / size, device=device)
    for _ in range(50):
        x = x @ x * 0.5  # keeps the device at work
    tensors = {f"t{k}": x + k for k in range(300)}
    fine = first_not_finite(tensors) is None
    tensors["t299"] = tensors["t299"] + float("nan")
    return {"passed": fine and first_not_finite(tensors) == "t299"}


def _never_waits(step: Callable[[int], None]) -> bool:
    step(0)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return True
