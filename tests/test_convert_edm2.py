"""Networks of EDM2 become the same denoiser."""

import math
from pathlib import Path

import pytest
import torch
from score_sde_layout import Weights
from torch import Tensor
from torch.nn import functional

import scoresde
from scoresde.convert import convert

CHANNELS, MULT, HEAD, CLASSES = 8, (1, 2), 8, 5


def unit(x: Tensor, *dims: int) -> Tensor:
    size = x.square().mean(dims, keepdim=True).sqrt()
    return x / (1e-4 + size)


def silu(x: Tensor) -> Tensor:
    return functional.silu(x) / 0.596


def blend(a: Tensor, b: Tensor, t: float) -> Tensor:
    return ((1 - t) * a + t * b) / math.hypot(1 - t, t)


def layer(w: Weights, name: str, x: Tensor, out: int, kernel: int = 0, gain: Tensor | float = 1.0) -> Tensor:
    shape = (out, x.shape[1], kernel, kernel) if kernel else (out, x.shape[1])
    weight = unit(w(f"{name}.weight", *shape), *range(1, len(shape))) / math.sqrt(math.prod(shape[1:])) * gain
    return functional.conv2d(x, weight, padding=kernel // 2) if kernel else x @ weight.T


def original(w: Weights, x: Tensor, sigma: Tensor, classes: Tensor | None) -> Tensor:
    """D(x, sigma), written from arXiv 2312.02696: table 6, figure 21 and equations 47 to 103."""
    s = sigma.reshape(-1, 1, 1, 1)
    d = s**2 + 0.25
    angles = sigma.log()[:, None] / 4 * w("unet.emb_fourier.freqs", CHANNELS) + w("unet.emb_fourier.phases", CHANNELS)
    width = CHANNELS * max(MULT)
    e = layer(w, "unet.emb_noise", angles.cos() * math.sqrt(2), width)
    hot = torch.zeros(len(x), CLASSES, dtype=x.dtype)
    if classes is not None:
        hot[torch.arange(len(x)), classes] = math.sqrt(CLASSES)
    e = silu(blend(e, layer(w, "unet.emb_label", hot, width), 0.5))

    def block(name: str, x: Tensor, out: int, down: bool, attends: bool = False, step: str = "") -> Tensor:
        name = f"unet.{name}"
        if step:
            x = functional.avg_pool2d(x, 2) if step == "down" else x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        if down:
            x = unit(x if x.shape[1] == out else layer(w, f"{name}.conv_skip", x, out, 1), 1)
        y = layer(w, f"{name}.conv_res0", silu(x), out, 3)
        said = layer(w, f"{name}.emb_linear", e, out, gain=w(f"{name}.emb_gain")) + 1
        y = layer(w, f"{name}.conv_res1", silu(y * said[:, :, None, None]), out, 3)
        if not down and x.shape[1] != out:
            x = layer(w, f"{name}.conv_skip", x, out, 1)
        x = blend(x, y, 0.3)
        if attends:
            heads = out // HEAD
            y = layer(w, f"{name}.attn_qkv", x, 3 * out, 1).reshape(len(x), heads, HEAD, 3, -1)
            q, k, v = unit(y, 2).unbind(3)
            weights = torch.einsum("nhcq,nhck->nhqk", q, k / math.sqrt(HEAD)).softmax(3)
            y = torch.einsum("nhqk,nhck->nhcq", weights, v).reshape(x.shape)
            x = blend(x, layer(w, f"{name}.attn_proj", y, out, 1), 0.3)
        return x.clamp(-256, 256)

    def concatenated(a: Tensor, b: Tensor) -> Tensor:
        n, m = a.shape[1], b.shape[1]
        size = math.sqrt((n + m) / 0.5)
        return torch.cat((a * size * 0.5 / math.sqrt(n), b * size * 0.5 / math.sqrt(m)), 1)

    scaled = x / d.sqrt()
    h = layer(w, "unet.enc.8x8_conv", torch.cat((scaled, torch.ones_like(scaled[:, :1])), 1), CHANNELS, 3)
    passed = [h]
    for name, out, attends, step in (("8x8_block0", 8, False, ""), ("4x4_down", 8, False, "down")):
        h = block(f"enc.{name}", h, out, True, attends, step)
        passed.append(h)
    h = block("enc.4x4_block0", h, 16, True, True)
    passed.append(h)
    h = block("dec.4x4_in1", block("dec.4x4_in0", h, 16, False, True), 16, False)
    for k in range(2):
        h = block(f"dec.4x4_block{k}", concatenated(h, passed.pop()), 16, False, True)
    h = block("dec.8x8_up", h, 16, False, step="up")
    for k in range(2):
        h = block(f"dec.8x8_block{k}", concatenated(h, passed.pop()), 8, False)
    f = layer(w, "unet.out_conv", h, x.shape[1], 3, w("unet.out_gain"))
    return 0.25 / d * x + s * 0.5 / d.sqrt() * f


@pytest.mark.parametrize("channels", [3, 4])
def test_a_network_of_edm2_is_the_same_denoiser(channels: int, tmp_path: Path) -> None:
    w, classes = Weights(2), torch.tensor([4, 0, 2])
    x, sigma = torch.randn(3, channels, 8, 8, dtype=torch.float64), torch.tensor([0.05, 1.0, 30.0], dtype=torch.float64)
    expected, without = original(w, x, sigma, classes), original(w, x, sigma, None)
    torch.save({**w.tensors, "logvar_linear.weight": torch.zeros(1, 4)}, tmp_path / "net.pt")
    report = convert(tmp_path / "net.pt", tmp_path / "run", {"channels_per_head": HEAD})
    assert report.layout == "edm2"
    assert list(report.dropped) == ["logvar_linear.weight"]
    assert bool(report.notes) is (channels == 4)  # latents
    model = scoresde.load(tmp_path / "run").model.double()
    assert (model(x, sigma, classes).x0 - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (model(x, sigma).x0 - without).abs().max() < 1e-5 * without.abs().max()
    assert (expected - without).abs().max() > 1e-3
