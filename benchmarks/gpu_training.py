"""How fast the device multiplies matrices and trains networks. Sections of `gpu.py`."""

import copy
import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from gpu_report import Figures, Report, precisions, under
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import scoresde.nets
from scoresde import VPSDE, ScoreModel
from scoresde.loss import Batch, DenoisingScoreMatching
from scoresde.loss.levels import stratified
from scoresde.noise import Noise

COMPILING = 75.0  # seconds that a compiled row must have left to be begun
# options for whatever network takes them: that of CIFAR-10 in arXiv 2011.13456, with half its blocks, and a small one
LARGE = {"channels": 128, "multipliers": (1, 2, 2, 2), "blocks": 2, "attention": (1,), "groups": 32, "dropout": 0.0}
SMALL = {"channels": 32, "multipliers": (1, 2, 2), "blocks": 1, "attention": (1,), "groups": 8, "dropout": 0.0}
TINY = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (1,), "groups": 4, "dropout": 0.0}
DDPMPP = {"fir": False, "progressive_input": "none", "noise": "positional"}  # what makes it of NCSN++


@dataclass(frozen=True)
class Way:
    """How to train: arithmetic, compiled or not, channels_last or not; `plain` is the loop that papers came with."""

    precision: str
    compiled: bool = False
    channels_last: bool = False
    plain: bool = False

    def __str__(self) -> str:
        extras = {"compiled": self.compiled, "channels_last": self.channels_last, "plain loop": self.plain}
        return " + ".join([self.precision, *(name for name, there in extras.items() if there)])


_BEST = Way("bf16", channels_last=True), Way("bf16", compiled=True, channels_last=True)
# of every network; convolutions are in TF32 unless a program forbids it, so the plain loop is shown both ways
FEW = (Way("fp32", plain=True), Way("tf32", plain=True), *_BEST)
WAYS = (  # of the first network; the most telling ones first, since time may run out
    *FEW,
    *(Way(name) for name in ("fp32", "tf32", "bf16")),
    *(Way(name, channels_last=True) for name in ("tf32", "fp32")),
    *(Way(name, compiled=True) for name in ("bf16", "tf32", "fp32")),
)


def network(name: str, event: tuple[int, ...], options: dict[str, Any]) -> nn.Module:
    """A network of scoresde.nets for images of that shape, on the CPU, with those of the options that it has.

    Raises:
        ImportError: there is none of this name.
    """
    kind = getattr(scoresde.nets, "NCSNpp" if name == "DDPMpp" else name, None)
    if kind is None:
        raise ImportError(name=f"scoresde.nets.{name}")
    torch.manual_seed(0)
    known = inspect.signature(kind).parameters
    chosen = {**options, **DDPMPP} if name == "DDPMpp" else options
    net: nn.Module = kind(event, **{k: v for k, v in chosen.items() if k in known})
    return net


def diffusers_unet() -> nn.Module:
    """The U-Net of diffusers in about the size of LARGE, called as ours are."""
    from diffusers import UNet2DModel

    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            blocks = ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D")
            ups = ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D")
            self.net = UNet2DModel(
                32, 3, 3, block_out_channels=(128, 256, 256, 256), down_block_types=blocks, up_block_types=ups
            )

        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            out: Tensor = self.net(x, 250 * (c + 2), return_dict=False)[0]
            return out

    torch.manual_seed(0)
    return Called()


def operations(net: nn.Module, event: tuple[int, ...], device: torch.device) -> float:
    """Floating-point operations of matrix products and convolutions, forward and backward, for one image."""
    x, c = torch.randn(2, *event, device=device), torch.zeros(2, device=device)
    with FlopCounterMode(display=False) as counter:
        net(x, c).square().mean().backward()
    net.zero_grad(set_to_none=True)
    return counter.get_total_flops() / 2


def matmuls(report: Report) -> None:
    """Measured peaks: products of square matrices, one convolution, and a copy of memory."""
    n = 256 if report.quick else 8192
    for name in (*precisions(report.device), "fp16") if report.device.type == "cuda" else precisions(report.device):
        report.row(f"matmul {n}, {name}", lambda p=name: _matmul(report, p, n))
    for name in precisions(report.device):
        report.row(f"conv 3x3 of 256 channels, 16x16, {name}", lambda p=name: _conv(report, p))
    report.row("copy on the device", lambda: _copy(report))


def _random(*shape: int, device: torch.device) -> Tensor:
    return torch.randn(*shape, device=device)  # never zeros: they multiply faster


def _matmul(report: Report, name: str, n: int) -> Figures:
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name, torch.float32)
    a, b = (_random(n, n, device=report.device).to(dtype) for _ in range(2))
    seconds = report.timed(under(name, report.device, lambda: a @ b), 1.0)
    return {"tflops": 2 * n**3 / seconds / 1e12}


def _conv(report: Report, name: str) -> Figures:
    batch, width = (2, 16) if report.quick else (256, 256)
    dtype = torch.bfloat16 if name == "bf16" else torch.float32
    conv = nn.Conv2d(width, width, 3, padding=1, bias=False).to(report.device, dtype, memory_format=torch.channels_last)
    x = _random(batch, width, 16, 16, device=report.device).to(dtype, memory_format=torch.channels_last)
    with torch.no_grad():
        seconds = report.timed(under(name, report.device, lambda: conv(x)), 1.0)
    return {"tflops": 2 * batch * width**2 * 9 * 256 / seconds / 1e12}


def _copy(report: Report) -> Figures:
    source = _random(2**16 if report.quick else 2**29, device=report.device)
    target = torch.empty_like(source)
    return {"gb_per_second": 2 * source.nbytes / report.timed(lambda: target.copy_(source), 0.5) / 1e9}


def peaks(report: Report) -> dict[str, float]:
    """Measured TFLOP/s of matrix products by precision."""
    rows = [row for row in report.rows if row["name"].startswith("matmul") and "tflops" in row]
    return {row["name"].split(", ")[1]: row["tflops"] for row in rows}


def networks(event: tuple[int, ...], quick: bool) -> dict[str, tuple[Callable[[], nn.Module], int]]:
    """What is trained: how to make it, and the batch size. The first ones are compiled first."""
    options, batch = (TINY, 4) if quick else (LARGE, 256)
    names = ("UNet", "NCSNpp") if quick else ("UNet", "NCSNpp", "DDPMpp", "ADM", "EDM2", "DiT")
    found: dict[str, tuple[Callable[[], nn.Module], int]]
    found = {name: (functools.partial(network, name, event, options), batch) for name in names}
    if not quick:
        found |= {"small UNet": (functools.partial(network, "UNet", event, SMALL), 16)}
        found |= {"diffusers UNet2DModel": (diffusers_unet, batch)}
    return found


def training(report: Report, chosen: Sequence[str] = ()) -> None:
    """Images per second of whole training steps: random numbers, loss, gradient, Adam, average of the weights.

    Args:
        chosen: names of networks; all unless given. Those that are not there are one row.
    """
    report.row("random numbers of 256 images", lambda: _numbers(report))
    cases = {k: v for k, v in networks(report.event, report.quick).items() if not chosen or k in chosen}
    known = precisions(report.device)
    todo = [(name, way) for way in WAYS for name in cases if way.precision in known and (name == "UNet" or way in FEW)]
    todo.sort(key=lambda pair: pair[1].compiled)  # compilation takes what time there is
    plain: dict[str, float] = {}  # images per second of the plain loop in float32
    absent: set[str] = set()
    for name, way in todo:
        if name in absent or (way.compiled and report.quick):
            continue
        make, batch = cases[name]
        action = functools.partial(_train, report, make, batch, way, plain.get(name))
        row = report.row(f"{name}, {way}", action, COMPILING if way.compiled else 5.0)
        if way.plain and "images_per_second" in row:
            plain.setdefault(name, row["images_per_second"])
        if "missing" in row.get("skipped", ""):
            absent.add(name)


def _numbers(report: Report) -> Figures:
    steps = itertools.count()
    seconds = report.timed(lambda: Noise(0).normal("train", next(steps), (256, *report.event), report.device), 0.5)
    return {"ms": 1e3 * seconds}


def _train(report: Report, make: Callable[[], nn.Module], batch: int, way: Way, plain: float | None) -> Figures:
    device, net = report.device, make().to(report.device)
    flops = operations(net, report.event, device)
    if way.channels_last:
        net = net.to(memory_format=torch.channels_last)
    step = under(way.precision, device, training_step(net, report.event, batch, way, device))
    seconds = report.timed(step, 2.0)
    rate = batch / seconds
    achieved, peak = flops * rate / 1e12, peaks(report).get(way.precision)
    return {
        "images_per_second": rate,
        "times_plain": rate / plain if plain else None,
        "ms": 1e3 * seconds,
        "tflops": achieved,
        "of_matmul_peak": achieved / peak if peak else None,
        "peak_mib": report.peak_memory(step),
        "batch": batch,
        "weights": sum(p.numel() for p in net.parameters()),
    }


def training_step(
    net: nn.Module, event: tuple[int, ...], batch: int, way: Way, device: torch.device
) -> Callable[[], None]:
    """One step after the other; without autocast, which is the caller's."""
    average = [p.detach().clone() for p in net.parameters()]
    weights = list(net.parameters())
    if way.compiled:
        torch.compiler.reset()  # or the networks of earlier rows count against the limit of recompilations
    model = ScoreModel(torch.compile(net) if way.compiled else net, VPSDE())
    optimizer = torch.optim.Adam(weights, lr=1e-4, fused=not way.plain)
    loss, data = DenoisingScoreMatching("edm", "log_normal"), torch.randn(2048, *event, device=device)
    steps = itertools.count()

    def inputs(k: int) -> tuple[Tensor, Tensor, Tensor]:
        first = k * batch % (len(data) - batch)
        x0 = data[first : first + batch]
        if way.channels_last:
            x0 = x0.contiguous(memory_format=torch.channels_last)
        if way.plain:
            return x0, torch.rand(batch, device=device), torch.randn_like(x0)
        eps = Noise(0).normal("train", k, x0.shape, device)
        return x0, stratified(Noise(0).uniform("time", k, batch)), eps

    def step() -> None:
        x0, u, eps = inputs(next(steps))
        loss(model, Batch(x0, u, eps)).loss.mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            if way.plain:
                for a, p in zip(average, weights, strict=True):
                    a.sub_(1e-4 * (a - p))
            else:
                torch._foreach_lerp_(average, weights, 1e-4)

    return step


def compiled_for_sampling(net: nn.Module) -> nn.Module:
    """A copy that is compiled; the other one stays as it is."""
    torch.compiler.reset()
    return torch.compile(copy.deepcopy(net))
