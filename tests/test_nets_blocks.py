"""Laws of the residual block: its sum, its drop-out and its changes of resolution."""

import math
from functools import partial

import pytest
import torch
from nets_support import perturbed
from torch import nn

from scoresde.nets import NCSNpp
from scoresde.nets.blocks import FIR, Down, ResidualBlock, Up
from scoresde.nets.layers import ImageAttention, group_norm, scaled

NORM = partial(group_norm, groups=2)


def block(**changes: object) -> nn.Module:
    torch.manual_seed(0)
    made = ResidualBlock(8, 8, **{"norm": NORM, "pieces": 0, **changes})
    return perturbed(made, torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("rescale", [False, True])
def test_drop_out_changes_no_mean(rescale: bool) -> None:
    """The last convolution is linear, so the mean over draws is the output without drop-out."""
    made = block(dropout=0.3, rescale=rescale)
    h = torch.randn(1, 8, 3, 3, dtype=torch.float64)
    expected = made.eval()(h, iter(()))
    draws = made.train()(h.expand(4000, -1, -1, -1), iter(()))
    error = draws.std(0) / 4000**0.5
    assert error.min() > 0
    assert ((draws.mean(0) - expected[0]).abs() / error).max() < 5


def test_a_rescaled_sum_is_that_over_the_square_root_of_two() -> None:
    h = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    plain, rescaled = block()(h, iter(())), block(rescale=True)(h, iter(()))
    assert (rescaled * math.sqrt(2) - plain).abs().max() < 1e-12


def test_factors_of_weights_are_factors_of_the_result() -> None:
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1).double()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    bias = conv.bias[:, None, None]
    assert (scaled(conv, x, 2.0, 3.0) - (2 * (conv(x) - bias) + 3 * bias)).abs().max() < 1e-12


@pytest.mark.parametrize("rescale", [False, True])
def test_a_block_that_begins_as_nothing_passes_the_resampled_image_on(rescale: bool) -> None:
    h = torch.randn(2, 8, 4, 6)
    for resample in (Down(FIR), Up(FIR)):
        made = ResidualBlock(8, 8, norm=NORM, pieces=0, rescale=rescale, resample=resample)
        expected = resample(h) * (math.sqrt(0.5) if rescale else 1.0)
        assert (made(h, iter(())) - expected).abs().max() < 1e-6


def test_attention_of_ncsnpp_begins_at_a_tenth_of_the_variance() -> None:
    """q, k and v as matrices of their own: the `init_scale` of 0.1 of Song et al., arXiv 2011.13456; other layers 1."""
    net = NCSNpp((3, 8, 8), 128, (1,), blocks=1, attention=(0,), condition="tokens", condition_size=128)
    found = [m for m in net.modules() if isinstance(m, ImageAttention)]
    assert len(found) == 6  # down, middle and up, among pixels and to tokens
    for layer in found:
        for whole in (layer.q, layer.kv) if layer.context else (layer.qkv,):
            for weight in whole.weight.split(128):
                assert weight.std().item() == pytest.approx(math.sqrt(0.2 / sum(weight.shape)), rel=0.03)
        assert layer.out.weight.count_nonzero() == 0
    conv = net.down[0].blocks[0].conv1.weight
    assert conv.std().item() == pytest.approx(math.sqrt(1 / (9 * 128)), rel=0.03)
