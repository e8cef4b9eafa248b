"""State dicts in the layout of guided-diffusion and what its networks compute, written down once more from the paper.

Nothing of the project is used; see `score_sde_layout` for `Weights`.
"""

import math
from dataclasses import dataclass

import torch
from score_sde_layout import Weights, conv, linear
from torch import Tensor
from torch.nn import functional


@dataclass
class Recipe:
    """The flags of the original."""

    channels: int = 32
    mult: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention: tuple[int, ...] = (0, 1)
    heads: int = 4
    scale_shift: bool = True
    updown: bool = False
    new_order: bool = False
    outputs: int = 3


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    return functional.group_norm(x, 32, w(f"{name}.weight", x.shape[1]), w(f"{name}.bias", x.shape[1]), 1e-5)


def doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def network(w: Weights, r: Recipe, x: Tensor, label: Tensor) -> Tensor:
    """The output for x (B, 3, height, width) and the labels (B,)."""
    half = r.channels // 2
    angles = label[:, None] * torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / half)
    e = linear(w, "time_embed.0", torch.cat((angles.cos(), angles.sin()), 1), 4 * r.channels)
    e = linear(w, "time_embed.2", functional.silu(e), 4 * r.channels)

    def block(name: str, x: Tensor, out: int, change: str = "") -> Tensor:
        h = functional.silu(norm(w, f"{name}.in_layers.0", x))
        if change:
            h, x = (functional.avg_pool2d(t, 2) if change == "down" else doubled(t) for t in (h, x))
        h = conv(w, f"{name}.in_layers.2", h, out)
        said = linear(w, f"{name}.emb_layers.1", functional.silu(e), (1 + r.scale_shift) * out)[:, :, None, None]
        if r.scale_shift:
            scale, shift = said.chunk(2, 1)
            h = norm(w, f"{name}.out_layers.0", h) * (1 + scale) + shift
        else:
            h = norm(w, f"{name}.out_layers.0", h + said)
        h = conv(w, f"{name}.out_layers.3", functional.silu(h), out)
        return h + (x if x.shape[1] == out else conv(w, f"{name}.skip_connection", x, out, 1))

    def attention(name: str, x: Tensor) -> Tensor:
        b, n, *sizes = x.shape
        flat = norm(w, f"{name}.norm", x).flatten(2)
        qkv = torch.einsum("oi,bil->bol", w(f"{name}.qkv.weight", 3 * n, n, 1)[:, :, 0], flat)
        qkv = qkv + w(f"{name}.qkv.bias", 3 * n)[:, None]
        if r.new_order:
            q, k, v = (t.unflatten(1, (r.heads, -1)) for t in qkv.chunk(3, 1))
        else:
            q, k, v = qkv.unflatten(1, (r.heads, -1)).chunk(3, 2)
        weights = torch.einsum("bhcq,bhck->bhqk", q, k).div(math.sqrt(n // r.heads)).softmax(3)
        h = torch.einsum("bhqk,bhck->bhcq", weights, v).reshape(b, n, -1)
        h = torch.einsum("oi,bil->bol", w(f"{name}.proj_out.weight", n, n, 1)[:, :, 0], h)
        return x + (h + w(f"{name}.proj_out.bias", n)[:, None]).reshape(b, n, *sizes)

    h, number = conv(w, "input_blocks.0.0", x, r.channels), 0
    passed = [h]
    for level, mult in enumerate(r.mult):
        for _ in range(r.blocks):
            number += 1
            h = block(f"input_blocks.{number}.0", h, r.channels * mult)
            h = attention(f"input_blocks.{number}.1", h) if level in r.attention else h
            passed.append(h)
        if level < len(r.mult) - 1:
            number += 1
            name = f"input_blocks.{number}.0"
            width = h.shape[1]
            h = block(name, h, width, "down") if r.updown else conv(w, f"{name}.op", h, width, stride=2)
            passed.append(h)
    h = block("middle_block.0", h, h.shape[1])
    h = block("middle_block.2", attention("middle_block.1", h), h.shape[1])
    number = 0
    for level, mult in reversed(list(enumerate(r.mult))):
        for k in range(r.blocks + 1):
            name = f"output_blocks.{number}"
            h = block(f"{name}.0", torch.cat((h, passed.pop()), 1), r.channels * mult)
            h = attention(f"{name}.1", h) if level in r.attention else h
            if level and k == r.blocks:
                step, width = f"{name}.{1 + (level in r.attention)}", h.shape[1]
                h = block(step, h, width, "up") if r.updown else conv(w, f"{step}.conv", doubled(h), width)
            number += 1
    return conv(w, "out.2", functional.silu(norm(w, "out.0", h)), r.outputs)
