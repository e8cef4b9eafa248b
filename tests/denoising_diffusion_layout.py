"""State dicts in the layout of denoising-diffusion-pytorch and what its networks compute, written down once more.

Nothing of the package is used; see `score_sde_layout` for `Weights`.
"""

import math
from dataclasses import dataclass

import torch
from score_sde_layout import Weights, conv, linear
from torch import Tensor
from torch.nn import functional


@dataclass
class Recipe:
    """The arguments of the original."""

    dim: int = 8
    stem: int = 8
    mults: tuple[int, ...] = (1, 2)
    full: tuple[bool, ...] = (False, True)
    heads: tuple[int, ...] = (4, 4)
    head: tuple[int, ...] = (32, 32)
    learned: int = 0
    inputs: int = 3
    outputs: int = 3


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    n = x.shape[1]
    return x / x.square().mean(1, keepdim=True).sqrt() * w(f"{name}.g", 1, n, 1, 1)


def network(w: Weights, r: Recipe, x: Tensor, label: Tensor) -> Tensor:
    """The output for x (B, inputs, height, width) and the labels (B,)."""
    if r.learned:
        angles = 2 * math.pi * label[:, None] * w("time_mlp.0.weights", r.learned // 2)
        e = torch.cat((label[:, None], angles.sin(), angles.cos()), 1)
    else:
        half = r.dim // 2
        angles = label[:, None] * torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / (half - 1))
        e = torch.cat((angles.sin(), angles.cos()), 1)
    e = linear(w, "time_mlp.3", functional.gelu(linear(w, "time_mlp.1", e, 4 * r.dim)), 4 * r.dim)

    def block(name: str, x: Tensor, out: int) -> Tensor:
        scale, shift = linear(w, f"{name}.mlp.1", functional.silu(e), 2 * out)[:, :, None, None].chunk(2, 1)
        h = norm(w, f"{name}.block1.norm", conv(w, f"{name}.block1.proj", x, out)) * (1 + scale) + shift
        h = norm(w, f"{name}.block2.norm", conv(w, f"{name}.block2.proj", functional.silu(h), out))
        return functional.silu(h) + (x if x.shape[1] == out else conv(w, f"{name}.res_conv", x, out, 1))

    def attention(name: str, x: Tensor, level: int, full: bool) -> Tensor:
        (b, n, *sizes), heads, d = x.shape, r.heads[level], r.head[level]
        matrix = w(f"{name}.to_qkv.weight", 3 * heads * d, n, 1, 1).flatten(1)
        qkv = torch.einsum("oi,bil->bol", matrix, norm(w, f"{name}.norm", x).flatten(2))
        q, k, v = (t.unflatten(1, (heads, d)) for t in qkv.chunk(3, 1))  # (B, heads, d, pixels)
        memory = w(f"{name}.mem_kv", 2, heads, *((4, d) if full else (d, 4)))
        own = memory.mT if full else memory
        k, v = (torch.cat((m.expand(b, -1, -1, -1), t), 3) for m, t in zip(own, (k, v), strict=True))
        if full:
            weights = torch.einsum("bhcq,bhck->bhqk", q, k).div(math.sqrt(d)).softmax(3)
        else:
            weights = torch.einsum("bhcq,bhck->bhqk", q.softmax(2), k.softmax(3)).div(math.sqrt(d))
        h = torch.einsum("bhqk,bhck->bhcq", weights, v).reshape(b, heads * d, *sizes)
        if full:
            return x + conv(w, f"{name}.to_out", h, n, 1)
        return x + norm(w, f"{name}.to_out.1", conv(w, f"{name}.to_out.0", h, n, 1))

    def halved(name: str, x: Tensor, out: int) -> Tensor:
        """A layer over the four pixels that become one, channel by channel, row by row."""
        four = torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 2).flatten(1, 2)
        return conv(w, name, four, out, 1)

    last = len(r.mults) - 1
    first = h = conv(w, "init_conv", x, r.stem, 7)
    passed = []
    for k, mult in enumerate(r.mults):
        width = h.shape[1]
        passed.append(block(f"downs.{k}.0", h, width))
        passed.append(attention(f"downs.{k}.2", block(f"downs.{k}.1", passed[-1], width), k, r.full[k]))
        step, h = f"downs.{k}.3", passed[-1]
        h = halved(f"{step}.1", h, r.dim * mult) if k < last else conv(w, step, h, r.dim * mult)
    width = h.shape[1]
    h = attention("mid_attn", block("mid_block1", h, width), last, True)
    h = block("mid_block2", h, width)
    for k, level in enumerate(reversed(range(last + 1))):
        width, finer = r.dim * r.mults[level], r.dim * r.mults[level - 1] if level else r.stem
        h = block(f"ups.{k}.0", torch.cat((h, passed.pop()), 1), width)
        h = attention(f"ups.{k}.2", block(f"ups.{k}.1", torch.cat((h, passed.pop()), 1), width), level, r.full[level])
        doubled = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
        h = conv(w, f"ups.{k}.3.1", doubled, finer) if level else conv(w, f"ups.{k}.3", h, finer)
    return conv(w, "final_conv", block("final_res_block", torch.cat((h, first), 1), r.stem), r.outputs, 1)


def rates(schedule: str, levels: int) -> Tensor:
    """beta_k, (levels,), from the schedules' own definitions."""
    if schedule == "linear":
        return torch.linspace(0.1 / levels, 20 / levels, levels, dtype=torch.float64)
    u = torch.linspace(0, 1, levels + 1, dtype=torch.float64)
    left = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    if schedule == "sigmoid":
        end = torch.tensor(3.0, dtype=torch.float64).sigmoid()
        left = (end - (6 * u - 3).sigmoid()) / (2 * end - 1)
    return (1 - left[1:] / left[:-1]).clamp(0, 0.999)


def chain(schedule: str, levels: int, objective: str, gamma: float = math.inf) -> dict[str, Tensor]:
    """The tables that stand beside the weights, of which some others follow."""
    beta = rates(schedule, levels)
    alpha2 = torch.cumprod(1 - beta, 0)
    snr = alpha2 / (1 - alpha2)
    weight = {"pred_noise": 1 / snr, "pred_x0": torch.ones_like(snr), "pred_v": 1 / (1 + snr)}[objective]
    tables = {"betas": beta, "alphas_cumprod": alpha2, "loss_weight": weight * snr.clamp(max=gamma)}
    return {name: table.float() for name, table in tables.items()}
