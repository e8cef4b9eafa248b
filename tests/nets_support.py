"""Tiny networks of every kind, for the laws that all of them keep."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from scoresde.nets import ADM, EDM2, DiT, NCSNpp, ResidualMLP, RMSUNet, UNet
from scoresde.nets.magnitude import MPLayer, unit

Make = Callable[..., nn.Module]
DDPMPP = {"noise": "positional", "noise_scale": 250.0, "fir": False, "progressive_input": "none"}
DDPM = {**DDPMPP, "block": "ddpm", "rescale": False, "group_width": 2}
PYRAMIDS = {"progressive_input": "input_skip", "progressive_output": "output_skip", "progressive_combine": "cat"}


LADDER = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (1,), "dropout": 0.0}
PLAIN_ADM = {**LADDER, "head_width": 4, "groups": 4, "resample_blocks": False}
TRANSFORMER = {"width": 16, "depth": 2, "heads": 2, "ratio": 2.0}


def _ncsnpp(event: tuple[int, ...], **own: object) -> Make:
    return lambda **k: NCSNpp(event, **{**LADDER, **own, **k})


CASES: dict[str, tuple[tuple[int, ...], Make]] = {
    "digits": ((1, 8, 8), lambda **k: UNet((1, 8, 8), **k)),
    "odd": ((3, 7, 5), lambda **k: UNet((3, 7, 5), 8, (1, 2, 3), blocks=2, attention=(0, -1), groups=4, **k)),
    "pixel": ((2, 1, 1), lambda **k: UNet((2, 1, 1), 8, (1, 1), groups=2, **k)),
    "one level": ((1, 4, 3), lambda **k: UNet((1, 4, 3), 8, (1,), attention=(0,), groups=4, **k)),
    "sound": ((2, 9), lambda **k: UNet((2, 9), 8, (1, 2), attention=(1,), groups=4, **k)),
    "volume": ((1, 3, 4, 5), lambda **k: UNet((1, 3, 4, 5), 8, (1, 2), attention=(1,), groups=4, **k)),
    "vector": ((5,), lambda **k: ResidualMLP((5,), width=32, **k)),
    "number": ((), lambda **k: ResidualMLP((), width=16, **k)),
    "series": ((2, 3, 4), lambda **k: ResidualMLP((2, 3, 4), width=16, blocks=2, embedding=8, **k)),
    "ncsnpp": ((3, 8, 4), _ncsnpp((3, 8, 4), noise_scale=0.5)),
    "ncsnpp pyramids": ((3, 4, 8), _ncsnpp((3, 4, 8), noise_scale=0.5, **PYRAMIDS)),
    "ddpmpp": ((1, 8, 8), _ncsnpp((1, 8, 8), **DDPMPP)),
    "ddpm": ((1, 8, 8), _ncsnpp((1, 8, 8), **DDPM)),
    "ddpm fir": ((1, 8, 8), _ncsnpp((1, 8, 8), **{**DDPM, "fir": True})),
    "adm": ((3, 4, 8), lambda **k: ADM((3, 4, 8), **{**LADDER, "head_width": 4, "groups": 4, **k})),
    "adm plain": ((1, 4, 4), lambda **k: ADM((1, 4, 4), **{**PLAIN_ADM, **k})),
    "edm2": ((2, 4, 8), lambda **k: EDM2((2, 4, 8), **{**LADDER, "head_width": 8, **k})),
    "rms": ((3, 4, 8), lambda **k: RMSUNet((3, 4, 8), 8, (1, 2), heads=(2, 2), head_width=(4, 4), **k)),
    "dit": ((3, 4, 6), lambda **k: DiT((3, 4, 6), 2, **{**TRANSFORMER, **k})),
}
EDGE = {"one level", "number", "pixel", "ddpm fir", "adm plain", "rms"}  # no law of conditions is held to these
TYPICAL = [case for case in CASES if case not in EDGE]


def made(case: str, dtype: torch.dtype = torch.float64, **changes: object) -> tuple[nn.Module, Tensor, Tensor]:
    """A network away from its start, and inputs (x, c) for it."""
    shape, make = CASES[case]
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    net = perturbed(make(**changes), generator).to(dtype)
    x = torch.randn(6, *shape, generator=generator, dtype=torch.float64).to(dtype)
    c = torch.linspace(-1.5, 1.2, 6, dtype=torch.float64).to(dtype)
    for layer in (m for m in net.modules() if isinstance(m, MPLayer)):
        for _ in range(4):  # as it does in training, and then no more
            layer.weight.data = unit(layer.weight.data, *range(1, layer.weight.ndim))
    return net, x, c


def perturbed(net: nn.Module, generator: torch.Generator) -> nn.Module:
    """All parameters moved a little, so that none is zero any more."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return net


def falling(net: nn.Module, x: Tensor, c: Tensor, y: Tensor, steps: int) -> float:
    """Last loss over the loss of the answer zero, in training with Adam on fresh parts of the data."""
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for k in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - k / steps)
        part = torch.arange(64 * k, 64 * k + 64) % len(x)
        optimizer.zero_grad()
        (net(x[part], c[part]) - y[part]).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        return float((net(x, c) - y).square().mean() / y.square().mean())
