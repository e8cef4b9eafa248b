"""Checkpoints in the layout of score_sde_pytorch and what its networks compute, written down once more from the paper.

Nothing of the project is used: a network is one function of tensors by name, which makes them when they are not there.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Config = dict[str, dict[str, Any]]
PYRAMIDS = {"progressive_input": "input_skip", "progressive": "output_skip"}


def config(sde: str, continuous: bool = True, size: int = 8, **model: Any) -> Config:
    """NCSN++ for vesde, else DDPM++, tiny, in the sections of the original."""
    own = {"embedding_type": "fourier", "fir": True, "progressive_input": "residual", "scale_by_sigma": True}
    if sde != "vesde":
        own = {"embedding_type": "positional", "fir": False, "progressive_input": "none", "scale_by_sigma": False}
    common = {"name": "ncsnpp", "nf": 8, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [size // 2]}
    common |= {"resblock_type": "biggan", "progressive": "none", "progressive_combine": "sum", "skip_rescale": True}
    common |= {"sigma_min": 0.01, "sigma_max": 50, "beta_min": 0.1, "beta_max": 20.0, "num_scales": 100}
    common |= {"conditional": True, "resamp_with_conv": True, "fir_kernel": [1, 3, 3, 1], "nonlinearity": "swish"}
    return {
        "training": {"sde": sde, "continuous": continuous},
        "data": {"image_size": size, "num_channels": 3, "centered": sde != "vesde"},
        "model": {**common, **own, **model},
    }


class Weights:
    """Tensors by name, random when first asked for; modules are numbered as they come."""

    def __init__(self, seed: int = 0) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.generator, self.number = torch.Generator().manual_seed(seed), 0

    def next(self) -> str:
        self.number += 1
        return f"all_modules.{self.number - 1}"

    def __call__(self, name: str, *shape: int) -> Tensor:
        if name not in self.tensors:
            scale = 0.8 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.2
            self.tensors[name] = scale * torch.randn(shape, generator=self.generator)
        assert self.tensors[name].shape == shape
        return self.tensors[name].double()


def conv(w: Weights, name: str, x: Tensor, out: int, kernel: int = 3, **options: Any) -> Tensor:
    weight, bias = w(f"{name}.weight", out, x.shape[1], kernel, kernel), w(f"{name}.bias", out)
    return functional.conv2d(x, weight, bias, **{"padding": kernel // 2, **options})


def norm(w: Weights, name: str, x: Tensor, groups: int = 0) -> Tensor:
    n = x.shape[1]
    return functional.group_norm(x, groups or min(n // 4, 32), w(f"{name}.weight", n), w(f"{name}.bias", n), 1e-6)


def linear(w: Weights, name: str, x: Tensor, out: int) -> Tensor:
    return functional.linear(x, w(f"{name}.weight", out, x.shape[-1]), w(f"{name}.bias", out))


def nin(w: Weights, name: str, x: Tensor, out: int) -> Tensor:
    y = torch.einsum("bihw,io->bohw", x, w(f"{name}.W", x.shape[1], out))
    return y + w(f"{name}.b", out)[:, None, None]


def stretched(x: Tensor) -> Tensor:
    """x with zeros between its values."""
    y = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    y[:, :, ::2, ::2] = x
    return y


def filtered(x: Tensor, before: int, after: int, gain: float) -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 8
    x = functional.pad(x, (before, after, before, after))
    return gain * sum(
        a * b * x[:, :, i : x.shape[2] - 3 + i, j : x.shape[3] - 3 + j]
        for i, a in enumerate(taps)
        for j, b in enumerate(taps)
    )


def halved(x: Tensor, fir: bool) -> Tensor:
    return filtered(x, 1, 1, 1)[:, :, ::2, ::2] if fir else functional.avg_pool2d(x, 2)


def doubled(x: Tensor, fir: bool) -> Tensor:
    return filtered(stretched(x), 2, 1, 4) if fir else x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def halving_conv(w: Weights, name: str, x: Tensor, out: int, fir: bool) -> Tensor:
    if fir:
        return conv(w, f"{name}.Conv2d_0", filtered(x, 2, 2, 1), out, stride=2, padding=0)
    return conv(w, f"{name}.Conv_0", functional.pad(x, (0, 1, 0, 1)), out, stride=2, padding=0)


def network(w: Weights, cfg: Config, x: Tensor, label: Tensor) -> Tensor:
    """The output before any division by sigma; the label is log sigma for Fourier features."""
    m, size = cfg["model"], cfg["data"]["image_size"]
    ddpm = m["name"] == "ddpm" or m["resblock_type"] == "ddpm"
    plain, fir = m["name"] == "ddpm", m["fir"] and m["name"] != "ddpm"
    root = math.sqrt(2) if m["skip_rescale"] and not plain else 1.0
    side_in, side_out = ("none", "none") if plain else (m["progressive_input"], m["progressive"])
    groups, w.number = 32 if plain else 0, 0
    if m["embedding_type"] == "fourier":
        angles = 2 * math.pi * label[:, None] * w(f"{w.next()}.W", m["nf"])
    else:
        half = m["nf"] // 2
        angles = label[:, None] * torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
    e = torch.cat((angles.sin(), angles.cos()), 1)
    e = linear(w, w.next(), e, 4 * m["nf"])
    e = functional.silu(linear(w, w.next(), functional.silu(e), 4 * m["nf"]))

    def block(x: Tensor, out: int, change: Callable[[Tensor, bool], Tensor] | None = None) -> Tensor:
        name, into = w.next(), x.shape[1]
        h = functional.silu(norm(w, f"{name}.GroupNorm_0", x, groups))
        if change is not None:
            h, x = change(h, fir), change(x, fir)
        h = conv(w, f"{name}.Conv_0", h, out) + linear(w, f"{name}.Dense_0", e, out)[:, :, None, None]
        h = conv(w, f"{name}.Conv_1", functional.silu(norm(w, f"{name}.GroupNorm_1", h, groups)), out)
        if into != out or change is not None:
            x = nin(w, f"{name}.NIN_0", x, out) if ddpm else conv(w, f"{name}.Conv_2", x, out, 1)
        return (x + h) / root

    def attention(x: Tensor) -> Tensor:
        name, n = w.next(), x.shape[1]
        h = norm(w, f"{name}.GroupNorm_0", x, groups)
        q, k, v = (nin(w, f"{name}.NIN_{i}", h, n).flatten(2) for i in range(3))
        h = torch.einsum("bcq,bck->bqk", q, k).div(math.sqrt(n)).softmax(2)
        h = torch.einsum("bqk,bck->bcq", h, v).reshape(x.shape)
        return (x + nin(w, f"{name}.NIN_3", h, n)) / root

    x = x if cfg["data"]["centered"] else 2 * x - 1
    picture, last = x, len(m["ch_mult"]) - 1
    passed = [conv(w, w.next(), x, m["nf"])]
    for level, mult in enumerate(m["ch_mult"]):
        width, attends = m["nf"] * mult, size >> level in m["attn_resolutions"]
        for _ in range(m["num_res_blocks"]):
            h = block(passed[-1], width)
            passed.append(attention(h) if attends else h)
        if level == last:
            break
        if not ddpm:
            h = block(passed[-1], width, halved)
        elif m["resamp_with_conv"]:
            h = halving_conv(w, w.next(), passed[-1], width, fir)
        else:
            h, _ = halved(passed[-1], fir), w.next()
        if side_in == "input_skip":
            picture = halved(picture, fir)
            y = conv(w, f"{w.next()}.Conv_0", picture, width, 1)
            h = torch.cat((y, h), 1) if m["progressive_combine"] == "cat" else y + h
        elif side_in == "residual":
            h = picture = (halving_conv(w, w.next(), picture, width, fir) + h) / root
        passed.append(h)
    h = block(attention(block(passed[-1], passed[-1].shape[1])), passed[-1].shape[1])
    drawn: Tensor | None = None
    for level in range(last, -1, -1):
        width = m["nf"] * m["ch_mult"][level]
        for _ in range(m["num_res_blocks"] + 1):
            h = block(torch.cat((h, passed.pop()), 1), width)
        h = attention(h) if size >> level in m["attn_resolutions"] else h
        if side_out == "output_skip":
            y = head(w, h, groups)
            drawn = y if drawn is None else doubled(drawn, fir) + y
        if level and ddpm:
            h = doubled(h, False)
            name = w.next()
            h = conv(w, f"{name}.Conv_0", h, width) if m["resamp_with_conv"] else h
        elif level:
            h = block(h, width, doubled)
    return drawn if drawn is not None else head(w, h, groups)


def head(w: Weights, h: Tensor, groups: int) -> Tensor:
    h = functional.silu(norm(w, w.next(), h, groups))
    return conv(w, w.next(), h, 3)


def checkpoint(cfg: Config, seed: int = 0) -> tuple[dict[str, Any], Weights, Weights]:
    """What the original would save, with the raw weights and the averages."""
    raw, average = Weights(seed), Weights(seed + 1)
    size = cfg["data"]["image_size"]
    x, label = torch.zeros(1, 3, size, size, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for w in (raw, average):
        network(w, cfg, x, label)
    frozen = "all_modules.0.W" if cfg["model"]["embedding_type"] == "fourier" else ""
    if frozen:
        raw.tensors[frozen] = average.tensors[frozen] = 16 * raw.tensors[frozen]
    m = cfg["model"]
    ends = (math.log(m["sigma_max"]), math.log(m["sigma_min"]))
    state = {"module.sigmas": torch.linspace(*ends, m["num_scales"], dtype=torch.float64).exp()}
    state |= {f"module.{k}": t for k, t in raw.tensors.items()}
    ema = {"decay": 0.999, "num_updates": 77, "shadow_params": [t for k, t in average.tensors.items() if k != frozen]}
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))]).state_dict()
    return {"optimizer": optimizer, "model": state, "ema": ema, "step": 1234}, raw, average
