"""Laws of the U-Net: symmetries of images, what it sees, and that it learns."""

import pytest
import torch
from nets_support import falling, perturbed
from torch import nn

from scoresde.nets import UNet


def test_every_level_passes_its_result_across() -> None:
    """With the way up from the coarser level cut, the way down to a level is still felt."""
    torch.manual_seed(0)
    for level in (0, 1):
        net = UNet((1, 8, 8), 8, (1, 2, 3), groups=4)
        perturbed(net, torch.Generator().manual_seed(1))
        for p in net.get_submodule(f"up.{1 - level}.resample").parameters():
            nn.init.zeros_(p)
        net(torch.randn(2, 1, 8, 8), torch.zeros(2)).square().sum().backward()
        stage = net.get_submodule(f"down.{level}.blocks")
        assert all(p.grad is not None and p.grad.norm() > 1e-4 for p in stage.parameters())


@pytest.mark.parametrize("size", [(7, 5), (13, 9), (28, 28), (2, 11), (1, 6)])
def test_rows_and_columns_are_treated_alike(size: tuple[int, int]) -> None:
    """Transposing the image and every kernel transposes the output."""
    generator = torch.Generator().manual_seed(2)
    net = perturbed(UNet((2, *size), 8, (1, 2, 2), attention=(-1,), groups=4), generator).double()
    x = torch.randn(2, 2, *size, generator=generator, dtype=torch.float64)
    c = torch.tensor([-0.5, 0.5], dtype=torch.float64)
    out = net(x, c)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 4:
                p.copy_(p.mT.clone())
    assert (net(x.mT, c).mT - out).abs().max() < 1e-12 * out.abs().max()


# Pixels that a pixel can see with two levels of one block: 3 before the stride, 1 in it, 2 + 2 + 2 + 2 + 1 coarse ones,
# 1 by the doubling, 3 after it. Attention and the statistics of group norm see everything.
REACH = 3 + 1 + 2 * 9 + 1 + 3


def without_group_norm(net: nn.Module) -> None:
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())


@pytest.mark.parametrize("size", [(60, 64), (61, 63), (59, 62)])
@pytest.mark.parametrize("corner", [(0, 0), (8, 2)])
def test_cutting_an_image_changes_only_what_is_near_the_cut(size: tuple[int, int], corner: tuple[int, int]) -> None:
    """Without group norm the network is local; so an image of any size is treated as a part of a larger one."""
    generator = torch.Generator().manual_seed(3)
    net = perturbed(UNet((1, 72, 72), 4, (1, 2), groups=1), generator).double()
    without_group_norm(net)
    c = torch.zeros(1, dtype=torch.float64)
    x = torch.randn(1, 1, 72, 72, generator=generator, dtype=torch.float64)
    rows, columns = (slice(start, start + length) for start, length in zip(corner, size, strict=True))
    whole, part = net(x, c)[..., rows, columns], net(x[..., rows, columns], c)
    inner = [slice(REACH if start else 0, length - REACH) for start, length in zip(corner, size, strict=True)]
    difference = (whole - part).abs()
    assert difference[..., inner[0], inner[1]].max() < 1e-12 * whole.abs().max()
    assert difference.max() > 1e-6 * whole.abs().max()  # the cut itself is felt


@pytest.mark.parametrize("attention", [(), (-1,)])
def test_moving_the_content_moves_the_output(attention: tuple[int, ...]) -> None:
    """Far from the borders, by multiples of the stride; group norm and attention included."""
    generator = torch.Generator().manual_seed(4)
    rows, columns, start, step = 4 * REACH + 9, 7, 2 * REACH, 4
    net = perturbed(UNet((1, rows, columns), 4, (1, 2), attention=attention, groups=2), generator).double()
    x = torch.zeros(1, 1, rows, columns, dtype=torch.float64)
    x[..., start : start + 5, :] = torch.randn(5, columns, generator=generator, dtype=torch.float64)
    c = torch.ones(1, dtype=torch.float64)
    out, moved = net(x, c), net(x.roll(step, 2), c)
    inner = slice(REACH, -REACH - step)
    assert (moved.roll(-step, 2) - out)[..., inner, :].abs().max() < 1e-11 * out.abs().max()
    assert (moved - out).abs().max() > 1e-3 * out.abs().max()


def test_unet_learns_a_blur_by_the_noise_level() -> None:
    torch.manual_seed(0)
    x, c = torch.randn(512, 1, 7, 6), torch.rand(512) * 3 - 1.5
    blurred = nn.functional.avg_pool2d(x, 3, 1, 1) * 3
    share = torch.sigmoid(2 * c)[:, None, None, None]
    assert falling(UNet((1, 7, 6), 16), x, c, share * blurred + (1 - share) * x, 150) < 0.05


def test_unet_sees_the_whole_image_through_attention() -> None:
    """A pixel beyond the reach of the convolutions matters with attention, and without it does not."""
    generator = torch.Generator().manual_seed(5)
    c = torch.zeros(1, dtype=torch.float64)
    x = torch.zeros(1, 1, 80, 4, dtype=torch.float64)
    far = x.clone()
    far[..., -1, :] = 3.0
    for attention, seen in (((), False), ((1,), True)):
        net = perturbed(UNet((1, 80, 4), 4, (1, 2), attention=attention, groups=2), generator).double()
        without_group_norm(net)
        change = (net(far, c) - net(x, c))[..., 0, :].abs().max()
        assert (change > 1e-8) == seen
