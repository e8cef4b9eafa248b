"""Laws of the networks: what they are at the start, what a sample may depend on, and symmetries of images."""

import copy
import re
from collections.abc import Callable

import pytest
import safetensors.torch
import torch
from nets_support import CASES, falling, made
from torch import Tensor, nn

from scoresde.errors import InputError
from scoresde.nets import ADM, EDM2, NCSNpp, ResidualMLP, UNet
from scoresde.nets.embedding import FourierEmbedding, NoiseModulation
from scoresde.nets.layers import kept
from scoresde.nets.skip_unet import SkipUNet

Make = Callable[..., nn.Module]
LEVELS = torch.linspace(-1.75, 1.4, 200, dtype=torch.float64)  # ln(sigma/alpha)/4 of the usual processes

every_net = pytest.mark.parametrize("case", CASES)


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


@pytest.mark.parametrize("case", [case for case in CASES if isinstance(CASES[case][1](), SkipUNet)])
def test_modules_are_registered_in_the_order_in_which_they_compute(case: str) -> None:
    """What readers of foreign weights, and the rows of the modulation, go by; within a block the order is its own."""
    net, x, c = made(case)
    seen: list[str] = []

    def part(name: str) -> str:
        return re.sub(r"((blocks|middle)\.\d+|resample|side|stem|head).*", r"\1", name)

    names = [name for name, _ in net.named_parameters() if not name.startswith(("modulation", "condition"))]
    for name in names:
        module = net.get_submodule(name.rpartition(".")[0])
        module.register_forward_hook(lambda *_, name=name: seen.append(part(name)))
    net(x, c)
    assert list(dict.fromkeys(seen)) == list(dict.fromkeys(map(part, names)))


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
    fresh = CASES[case][1]().eval()
    net.eval()
    fresh.load_state_dict(safetensors.torch.load(safetensors.torch.save(net.state_dict())))
    expected = net(x, c)
    assert torch.equal(fresh(x, c), expected)
    assert torch.equal(copy.deepcopy(net)(x, c), expected)


@every_net
def test_gradients_are_the_same_bits_every_time(case: str) -> None:
    net, x, c = made(case, torch.float32)
    net.eval()
    first, second = (torch.autograd.grad(net(x, c).square().sum(), list(net.parameters())) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@every_net
def test_dropout_is_felt_in_training_only(case: str) -> None:
    without, x, c = made(case)
    expected = without.eval()(x, c)
    assert (without.train()(x, c) - expected).abs().max() < 1e-12 * expected.abs().max()
    dropping, _, _ = made(case, dropout=0.5)
    assert (dropping.eval()(x, c) - expected).abs().max() < 1e-12 * expected.abs().max()
    assert not torch.equal(dropping.train()(x, c), dropping(x, c))


@pytest.mark.parametrize("case", ["ncsnpp pyramids", "edm2"])
def test_compilers_see_one_graph_that_computes_the_same(case: str) -> None:
    net, x, c = made(case, torch.float32, condition="class", condition_size=3)
    cond = torch.arange(6) % 3
    torch._dynamo.reset()
    compiled = torch.compile(net.eval(), backend="eager", fullgraph=True)
    assert torch.equal(compiled(x, c, cond), net(x, c, cond))


@pytest.mark.parametrize("shape", [(7, 3, 5, 4), (5, 9), (3, 2, 2, 2, 3), ()])
@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_drop_out_keeps_each_value_with_its_probability(shape: tuple[int, ...], dropout: float) -> None:
    """Apart from each other, in any memory layout, and by the global generator."""
    x = torch.zeros(shape)
    if len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    torch.manual_seed(0)
    draws = torch.stack([kept(x, dropout) for _ in range(4000)]).reshape(4000, -1).double()
    error = (dropout * (1 - dropout) / 4000) ** 0.5
    assert draws.shape[1] == x.numel()
    assert (draws.mean(0) - (1 - dropout)).abs().max() < 5 * error
    assert abs(draws.mean() - (1 - dropout)) < 5 * error / x.numel() ** 0.5
    if draws.shape[1] > 1:
        assert (torch.corrcoef(draws.T) - torch.eye(draws.shape[1])).abs().max() < 5.5 / 4000**0.5
    torch.manual_seed(0)
    assert torch.equal(kept(x, dropout).flatten(), draws[0].bool())


@pytest.mark.parametrize("case", ["odd", "vector"])
def test_a_scale_of_zero_hides_the_input_of_a_block(case: str) -> None:
    """What a block adds to its input depends on that input through the scale alone."""
    net, _, _ = made(case)
    block = next(m for m in net.modules() if type(m).__name__ in ("ResidualBlock", "MLPBlock"))
    width = net.get_parameter("stem.weight" if case == "odd" else "first.weight").shape[0]
    event = (5, 4) if case == "odd" else ()
    h, other = torch.randn(2, 3, width, *event, dtype=torch.float64)
    shift = torch.randn(3, width, *(1,) * len(event), dtype=torch.float64)
    zero, one = torch.zeros_like(shift), torch.ones_like(shift)

    def added(h: Tensor, scale: Tensor) -> Tensor:
        return block(h, iter((scale, shift))) - h

    assert torch.allclose(added(h, zero), added(other, zero), rtol=0, atol=1e-12)
    assert not torch.allclose(added(h, one), added(other, one), rtol=0, atol=1e-3)


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


def test_mlp_learns_a_rotation_by_the_noise_level() -> None:
    torch.manual_seed(0)
    x, c = torch.randn(2048, 2), torch.rand(2048) * 3 - 1.5
    cos, sin = torch.cos(2 * c), torch.sin(2 * c)
    y = torch.stack((cos * x[:, 0] - sin * x[:, 1], sin * x[:, 0] + cos * x[:, 1]), 1)
    assert falling(ResidualMLP((2,), width=64), x, c, y, 500) < 0.005


def small(event: tuple[int, ...] = (1, 8, 8), **changes: object) -> NCSNpp:
    given = {"channels": 8, "multipliers": (1, 2, 2), "blocks": 1, "attention": (1,), **changes}
    return NCSNpp(event, **given)


def test_a_size_that_cannot_be_halved_is_refused_at_first_sight() -> None:
    net = small((1, 8, 8))
    with pytest.raises(InputError, match=r"^x: sizes \(8, 10\) are not allowed; .* multiples of 4, such as \(8, 12\)"):
        net(torch.randn(1, 1, 8, 10), torch.zeros(1))


@pytest.mark.parametrize(
    ("message", "make"),
    [
        (r"event_shape: \(64,\) is not allowed; .*ResidualMLP", lambda: UNet((64,))),
        (r"event_shape: \(1, 0, 8\)", lambda: UNet((1, 0, 8))),
        ("channels: 0 is not allowed", lambda: UNet((1, 8, 8), channels=0)),
        (r"multipliers: \(\) is not allowed", lambda: UNet((1, 8, 8), multipliers=())),
        (r"multipliers: \(1, 0\)", lambda: UNet((1, 8, 8), multipliers=(1, 0))),
        ("blocks: 0", lambda: UNet((1, 8, 8), blocks=0)),
        ("attention: 2 is not allowed; there are 2 levels", lambda: UNet((1, 8, 8), attention=(2,))),
        ("attention: -3", lambda: UNet((1, 8, 8), attention=(0, -3))),
        ("heads: 0", lambda: UNet((1, 8, 8), heads=0)),
        ("heads: 3 .* must divide the 64 channels", lambda: UNet((1, 8, 8), attention=(-1,), heads=3)),
        ("groups: 0", lambda: UNet((1, 8, 8), groups=0)),
        ("groups: 8 .* 12 channels", lambda: UNet((1, 8, 8), channels=12)),
        ("embedding: 63", lambda: UNet((1, 8, 8), embedding=63)),
        ("dropout: 1.0", lambda: UNet((1, 8, 8), dropout=1.0)),
        (r"event_shape: \(2, 0\)", lambda: ResidualMLP((2, 0))),
        ("width: 0", lambda: ResidualMLP((2,), width=0)),
        ("blocks: -1", lambda: ResidualMLP((2,), blocks=-1)),
        ("embedding: 2", lambda: ResidualMLP((2,), embedding=2)),
        ("dropout: -0.1", lambda: ResidualMLP((2,), dropout=-0.1)),
        (r"event_shape: \(1, 8, 8, 8\)", lambda: NCSNpp((1, 8, 8, 8))),
        (r"event_shape: sizes \(8, 6\) .* multiples of 4, such as \(8, 8\)", lambda: small((1, 8, 6))),
        ("attention: 3 is not allowed; there are 3 levels", lambda: small(attention=(3,))),
        ("channels: 10", lambda: small(channels=10)),
        ("group_width: 0", lambda: small(group_width=0)),
        ("groups: 7 .* 8 channels", lambda: small(groups=7, group_width=1)),
        ("condition: 'class' .* noise=positional", lambda: small(noise="none", condition="class", condition_size=3)),
        ("head_width: 5 .* must divide 16 channels", lambda: small(head_width=5)),
        ("head_width: -1", lambda: small(head_width=-1)),
        (r"event_shape: \(1, 8\)", lambda: ADM((1, 8))),
        ("attention: 4 is not allowed; there are 4 levels", lambda: ADM((1, 8, 8), attention=(4,))),
        ("channels: 3", lambda: ADM((1, 8, 8), channels=3)),
        ("embedding: 12", lambda: ADM((1, 8, 8), embedding=12)),
        ("groups: 5 .* 192 channels", lambda: ADM((1, 8, 8), groups=5)),
        (r"event_shape: sizes \(8, 9\)", lambda: EDM2((1, 8, 9))),
        ("attention: -5", lambda: EDM2((1, 8, 8), attention=(-5,))),
        ("balance: 1.0", lambda: EDM2((1, 8, 8), balance=1.0)),
        ("largest: 0", lambda: EDM2((1, 8, 8), largest=0.0)),
        ("lowest: 0", lambda: FourierEmbedding(8, lowest=0)),
        ("highest: 0.1", lambda: FourierEmbedding(8, highest=0.1)),
    ],
)
def test_arguments_out_of_range_are_named(message: str, make: Callable[[], nn.Module]) -> None:
    with pytest.raises(InputError, match="^" + message):
        make()
