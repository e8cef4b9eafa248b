"""Equality with networks and filters of independent code: the same weights give the same output."""

import math
from typing import Any

import pytest
import torch
from nets_support import perturbed
from scipy.signal import upfirdn
from torch import nn

from scoresde.nets import NCSNpp
from scoresde.nets.blocks import BOX, FIR, Down, ResidualBlock, Up, halving


def copied(ours: nn.Module, theirs: Any) -> None:
    ours.weight.copy_(theirs.weight.reshape(ours.weight.shape))
    ours.bias.copy_(theirs.bias)


def copied_attention(ours: nn.Module, theirs: Any) -> None:
    copied(ours.norm, theirs.group_norm)
    copied(ours.out, theirs.to_out[0])
    ours.qkv.weight.copy_(torch.cat((theirs.to_q.weight, theirs.to_k.weight, theirs.to_v.weight)))
    ours.qkv.bias.copy_(torch.cat((theirs.to_q.bias, theirs.to_k.bias, theirs.to_v.bias)))


@torch.no_grad()
def copied_ddpm(net: NCSNpp, theirs: Any) -> None:
    """The weights of a diffusers UNet2DModel of the DDPM form, in the order of computation."""
    resnets, attentions, steps = [], [], []
    for level in theirs.down_blocks:
        resnets += level.resnets
        attentions += getattr(level, "attentions", [])
        steps += [] if level.downsamplers is None else [level.downsamplers[0].conv]
    resnets += theirs.mid_block.resnets
    attentions += theirs.mid_block.attentions
    for level in theirs.up_blocks:
        resnets += level.resnets
        attentions += getattr(level, "attentions", [])
        steps += [] if level.upsamplers is None else [level.upsamplers[0].conv]
    blocks = [m for m in net.modules() if isinstance(m, ResidualBlock)]
    for ours, other in zip(blocks, resnets, strict=True):
        for name in ("norm1", "conv1", "norm2", "conv2"):
            copied(getattr(ours, name), getattr(other, name))
        if ours.skip is not None:
            copied(ours.skip, other.conv_shortcut)
    for ours, other in zip((b.attention for b in blocks if b.attention is not None), attentions, strict=True):
        copied_attention(ours, other)
    levels = (*net.down, *net.up)
    for level, other in zip((level for level in levels if level.resample is not None), steps, strict=True):
        copied(level.resample.conv, other)
    copied(net.stem, theirs.conv_in)
    copied(net.head.norm, theirs.conv_norm_out)
    copied(net.head.conv, theirs.conv_out)
    copied(net.modulation.hidden[0], theirs.time_embedding.linear_1)
    copied(net.modulation.hidden[1], theirs.time_embedding.linear_2)
    features = net.modulation.hidden[0].weight
    features.copy_(features.flip(1))  # theirs are sines then cosines, from high to low frequencies
    net.modulation.out.weight.copy_(torch.cat([r.time_emb_proj.weight for r in resnets]))
    net.modulation.out.bias.copy_(torch.cat([r.time_emb_proj.bias for r in resnets]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("head_width", [0, 4])
def test_a_ddpm_of_diffusers_with_the_same_weights_is_the_same_function(head_width: int) -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is installed with the extra dev")
    torch.manual_seed(0)
    theirs = diffusers.UNet2DModel(
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 16, 16),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=head_width or None,
        norm_num_groups=4,
        norm_eps=1e-6,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
    )
    perturbed(theirs, torch.Generator().manual_seed(1))
    options = {"block": "ddpm", "fir": False, "progressive_input": "none", "rescale": False, "dropout": 0.0}
    options |= {"noise": "positional", "noise_scale": 1.0, "groups": 4, "group_width": 1, "attention_up": "every"}
    net = NCSNpp((3, 8, 16), 8, (1, 2, 2), blocks=2, attention=(1,), head_width=head_width, **options)
    copied_ddpm(net, theirs)
    net, theirs = net.double(), theirs.double()
    x = torch.randn(3, 3, 8, 16, dtype=torch.float64)
    t = torch.tensor([0.0, 31.0, 999.0], dtype=torch.float64)
    # theirs computes the features of the time in single precision
    expected = theirs(x, t).sample
    assert (net(x, t) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("event_ndim", [1, 2, 3])
@pytest.mark.parametrize("taps", [BOX, FIR, (1.0, 7.0, 7.0, 1.0)])
def test_filters_are_those_of_signal_processing(taps: tuple[float, ...], event_ndim: int) -> None:
    """scipy's upfirdn along each dimension, cut to the image."""
    x = torch.randn(2, 3, *(8, 6, 4)[:event_ndim], dtype=torch.float64)
    total, start = sum(taps), (len(taps) - 1) // 2
    down, up = x.numpy(), x.numpy()
    for axis in range(2, 2 + event_ndim):
        n = x.shape[axis]
        wide = upfirdn([t / total for t in taps], down, 1, 1, axis)  # entry i is sum_j taps[j] x[i - j]
        down = wide.take([2 * i + len(taps) - 1 - start for i in range(n // 2)], axis)
        up = upfirdn([2 * t / total for t in taps], up, 2, 1, axis).take([i + start for i in range(2 * n)], axis)
    assert (Down(taps, event_ndim).double()(x) - torch.from_numpy(down)).abs().max() < 1e-12
    assert (Up(taps, event_ndim).double()(x) - torch.from_numpy(up)).abs().max() < 1e-12


@pytest.mark.parametrize("taps", [BOX, FIR])
def test_doubling_is_the_transpose_of_halving(taps: tuple[float, ...]) -> None:
    x, y = torch.randn(1, 2, 8, 12, dtype=torch.float64), torch.randn(1, 2, 4, 6, dtype=torch.float64)
    assert math.isclose((Down(taps).double()(x) * y).sum() * 4, (x * Up(taps).double()(y)).sum(), rel_tol=1e-12)


def test_filtered_convolution_is_a_filter_and_then_a_convolution() -> None:
    """Far from the border the order of filter, convolution and stride does not matter."""
    torch.manual_seed(0)
    layer = halving(3, 5, taps=FIR).double()
    x = torch.randn(2, 3, 16, 12, dtype=torch.float64)
    wide = nn.functional.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1)
    expected = Down(FIR).double()(wide)
    assert layer(x).shape == expected.shape
    inner = (..., slice(2, -2), slice(2, -2))
    assert (layer(x) - expected)[inner].abs().max() < 1e-12
