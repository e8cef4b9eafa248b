"""Laws of the residual block: its sum, its drop-out and its changes of resolution."""

import math
from functools import partial

import pytest
import torch
from nets_support import perturbed
from torch import nn

from scoresde.nets.blocks import FIR, Down, ResidualBlock, Up
from scoresde.nets.layers import group_norm, scaled

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
