"""Laws of the networks: what they are at the start, what a sample may depend on, and symmetries of images."""

import copy
from collections.abc import Callable

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from scoresde.errors import InputError
from scoresde.nets import ResidualMLP, UNet
from scoresde.nets.embedding import FourierEmbedding, NoiseModulation

Make = Callable[..., nn.Module]
LEVELS = torch.linspace(-1.75, 1.4, 200, dtype=torch.float64)  # ln(sigma/alpha)/4 of the usual processes

CASES: dict[str, tuple[tuple[int, ...], Make]] = {
    "digits": ((1, 8, 8), lambda **k: UNet((1, 8, 8), **k)),
    "odd": ((3, 7, 5), lambda **k: UNet((3, 7, 5), 8, (1, 2, 3), blocks=2, attention=(0, -1), groups=4, **k)),
    "pixel": ((2, 1, 1), lambda **k: UNet((2, 1, 1), 8, (1, 1), groups=2, **k)),
    "one level": ((1, 4, 3), lambda **k: UNet((1, 4, 3), 8, (1,), attention=(0,), groups=4, **k)),
    "vector": ((5,), lambda **k: ResidualMLP((5,), width=32, **k)),
    "number": ((), lambda **k: ResidualMLP((), width=16, **k)),
    "series": ((2, 3, 4), lambda **k: ResidualMLP((2, 3, 4), width=16, blocks=2, embedding=8, **k)),
}
every_net = pytest.mark.parametrize("case", CASES)


def made(case: str, dtype: torch.dtype = torch.float64, **changes: object) -> tuple[nn.Module, Tensor, Tensor]:
    """A network away from its start, and inputs (x, c) for it."""
    shape, make = CASES[case]
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    net = perturbed(make(**changes), generator).to(dtype)
    x = torch.randn(6, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return net, x, torch.linspace(-1.5, 1.2, 6, dtype=torch.float64).to(dtype)


def perturbed(net: nn.Module, generator: torch.Generator) -> nn.Module:
    """All parameters moved a little, so that none is zero any more."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return net


@every_net
def test_output_is_exactly_zero_at_the_start(case: str) -> None:
    shape, make = CASES[case]
    out = make()(torch.randn(3, *shape), torch.tensor([-1.0, 0.0, 1.0]))
    assert torch.equal(out, torch.zeros(3, *shape))


@every_net
def test_gradient_reaches_every_parameter(case: str) -> None:
    net, x, c = made(case)
    (net(x, c) * torch.randn_like(x)).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or p.grad.norm() < 1e-8] == []


@every_net
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_samples_of_a_batch_do_not_see_each_other(case: str, dtype: torch.dtype, bound: float) -> None:
    net, x, c = made(case, dtype)
    whole = net(x, c)
    alone = torch.cat([net(x[k : k + 1], c[k : k + 1]) for k in range(len(x))])
    assert whole.dtype == dtype
    assert (whole - alone).abs().max() < bound * whole.abs().max()


@every_net
def test_single_precision_agrees_with_double(case: str) -> None:
    net, x, c = made(case)
    exact = net(x, c)
    assert (net.float()(x.float(), c.float()) - exact).abs().max() < 1e-4 * exact.abs().max()


@every_net
def test_output_depends_on_the_noise_level(case: str) -> None:
    net, x, _ = made(case)
    outs = torch.stack([net(x[:1], torch.tensor([c], dtype=x.dtype)) for c in (-1.5, -1.4, 0.0, 1.2)])
    for i in range(4):
        for j in range(i):
            assert (outs[i] - outs[j]).abs().max() > 1e-4 * outs.abs().max()


@every_net
def test_one_level_for_all_may_be_given_as_an_expanded_number(case: str) -> None:
    net, x, _ = made(case)
    c = torch.tensor([0.3], dtype=x.dtype)
    full, expanded = net(x, c.repeat(len(x))), net(x, c.expand(len(x)))
    assert (full - expanded).abs().max() < 1e-12 * full.abs().max()


@every_net
def test_weights_survive_a_file_and_a_copy_bit_for_bit(case: str) -> None:
    net, x, c = made(case, torch.float32)
    fresh = CASES[case][1]()
    fresh.load_state_dict(safetensors.torch.load(safetensors.torch.save(net.state_dict())))
    expected = net(x, c)
    assert torch.equal(fresh(x, c), expected)
    assert torch.equal(copy.deepcopy(net)(x, c), expected)


@every_net
def test_gradients_are_the_same_bits_every_time(case: str) -> None:
    net, x, c = made(case, torch.float32)
    first, second = (torch.autograd.grad(net(x, c).square().sum(), list(net.parameters())) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@every_net
def test_dropout_is_felt_in_training_only(case: str) -> None:
    without, x, c = made(case)
    expected = without.eval()(x, c)
    assert torch.equal(without.train()(x, c), expected)
    dropping, _, _ = made(case, dropout=0.5)
    assert torch.equal(dropping.eval()(x, c), expected)
    assert not torch.equal(dropping.train()(x, c), dropping(x, c))


@pytest.mark.parametrize("case", ["odd", "vector"])
def test_a_scale_of_zero_hides_the_input_of_a_block(case: str) -> None:
    """What a block adds to its input depends on that input through the scale alone."""
    net, _, _ = made(case)
    block = next(m for m in net.modules() if type(m).__name__ in ("_Residual", "_Block"))
    width = net.get_parameter("first.weight").shape[0]
    event = (5, 4) if case == "odd" else ()
    h, other = torch.randn(2, 3, width, *event, dtype=torch.float64)
    shift = torch.randn(3, width, *(1,) * len(event), dtype=torch.float64)
    zero, one = torch.zeros_like(shift), torch.ones_like(shift)
    assert torch.allclose(block(h, zero, shift) - h, block(other, zero, shift) - other, rtol=0, atol=1e-12)
    assert not torch.allclose(block(h, one, shift) - h, block(other, one, shift) - other, rtol=0, atol=1e-3)


def test_every_level_passes_its_result_across() -> None:
    """With the way up from the coarser level cut, the way down to a level is still felt."""
    torch.manual_seed(0)
    for level in (0, 1):
        net = UNet((1, 8, 8), 8, (1, 2, 3), groups=4)
        perturbed(net, torch.Generator().manual_seed(1))
        for p in net.get_submodule(f"ups.{1 - level}").parameters():
            nn.init.zeros_(p)
        net(torch.randn(2, 1, 8, 8), torch.zeros(2)).square().sum().backward()
        stage = net.get_submodule(f"down_stages.{level}")
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


def test_embedding_is_stationary_and_of_constant_length() -> None:
    """e(c).e(c') depends on c - c' alone, and |e|^2 is the number of frequencies."""
    e = FourierEmbedding(64).double()(LEVELS)
    gram = e @ e.T
    assert torch.allclose(gram[1:, 1:], gram[:-1, :-1], rtol=0, atol=1e-12 * 32)
    assert torch.allclose(gram.diagonal(), torch.full((200,), 32.0, dtype=torch.float64))


@pytest.mark.parametrize("size", [4, 8, 64])
def test_embedding_tells_noise_levels_apart_and_is_smooth(size: int) -> None:
    """|e(c) - e(c')| lies between two multiples of |c - c'|, the upper one being the length of the frequencies."""
    embed = FourierEmbedding(size).double()
    apart = torch.cdist(embed(LEVELS), embed(LEVELS), compute_mode="donot_use_mm_for_euclid_dist")
    slope = (apart / (LEVELS[:, None] - LEVELS).abs()).fill_diagonal_(1.0)
    assert slope.max() <= embed.frequencies.norm()
    assert slope.min() > 0.25


def test_noise_level_can_be_read_from_its_slowest_features() -> None:
    """The angle of the first cosine and sine gives c back, from sigma/alpha = e^-25 to e^25: no two levels coincide."""
    c = torch.linspace(-6.25, 6.25, 400, dtype=torch.float64)
    embed = FourierEmbedding(64).double()
    e = embed(c)
    assert torch.allclose(torch.atan2(e[:, 32], e[:, 0]) / embed.frequencies[0], c, rtol=0, atol=1e-12)


def test_levels_keep_their_precision_in_a_half_precision_network() -> None:
    """The angles are computed in the dtype of the level, not rounded to that of the weights."""
    embed = FourierEmbedding(64)
    c = LEVELS.float()
    half = copy.deepcopy(embed).bfloat16()
    assert half(c).dtype == torch.bfloat16
    embed.frequencies.copy_(half.frequencies)
    assert torch.equal(half(c), embed(c).bfloat16())


def test_modulation_begins_near_the_identity() -> None:
    parts = NoiseModulation([64, 32, 16], 64, event_ndim=2)(LEVELS.float())
    assert [tuple(p.shape) for p in parts] == [(200, w, 1, 1) for w in (64, 64, 32, 32, 16, 16)]
    for scale, shift in zip(parts[::2], parts[1::2], strict=True):
        assert abs(scale.mean() - 1) < 0.15
        assert abs(shift.mean()) < 0.15


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


def test_mlp_learns_a_rotation_by_the_noise_level() -> None:
    torch.manual_seed(0)
    x, c = torch.randn(2048, 2), torch.rand(2048) * 3 - 1.5
    cos, sin = torch.cos(2 * c), torch.sin(2 * c)
    y = torch.stack((cos * x[:, 0] - sin * x[:, 1], sin * x[:, 0] + cos * x[:, 1]), 1)
    assert falling(ResidualMLP((2,), width=64), x, c, y, 500) < 0.005


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


@pytest.mark.parametrize(
    ("message", "make"),
    [
        (r"event_shape: \(64,\) is not allowed; .*ResidualMLP", lambda: UNet((64,))),
        (r"event_shape: \(1, 0, 8\)", lambda: UNet((1, 0, 8))),
        ("channels: 0 is not allowed", lambda: UNet((1, 8, 8), channels=0)),
        (r"multipliers: \[\] is not allowed", lambda: UNet((1, 8, 8), multipliers=())),
        (r"multipliers: \[1, 0\]", lambda: UNet((1, 8, 8), multipliers=(1, 0))),
        ("blocks: 0", lambda: UNet((1, 8, 8), blocks=0)),
        ("attention: 2 is not allowed; there are 2 levels", lambda: UNet((1, 8, 8), attention=(2,))),
        ("attention: -3", lambda: UNet((1, 8, 8), attention=(0, -3))),
        ("heads: 0", lambda: UNet((1, 8, 8), heads=0)),
        ("heads: 3 .* must divide the 64 channels of level 1", lambda: UNet((1, 8, 8), attention=(-1,), heads=3)),
        ("groups: 0", lambda: UNet((1, 8, 8), groups=0)),
        ("groups: 8 .* must divide the 12 channels of level 0", lambda: UNet((1, 8, 8), channels=12)),
        ("embedding: 63", lambda: UNet((1, 8, 8), embedding=63)),
        ("dropout: 1.0", lambda: UNet((1, 8, 8), dropout=1.0)),
        (r"event_shape: \(2, 0\)", lambda: ResidualMLP((2, 0))),
        ("width: 0", lambda: ResidualMLP((2,), width=0)),
        ("blocks: -1", lambda: ResidualMLP((2,), blocks=-1)),
        ("embedding: 2", lambda: ResidualMLP((2,), embedding=2)),
        ("dropout: -0.1", lambda: ResidualMLP((2,), dropout=-0.1)),
        ("lowest: 0", lambda: FourierEmbedding(8, lowest=0)),
        ("highest: 0.1", lambda: FourierEmbedding(8, highest=0.1)),
    ],
)
def test_arguments_out_of_range_are_named(message: str, make: Callable[[], nn.Module]) -> None:
    with pytest.raises(InputError, match="^" + message):
        make()
