"""The magnitude-preserving U-Net: what passes through keeps its size, and so do the weights."""

import pytest
import torch
from torch import Tensor, nn

from scoresde.nets import EDM2
from scoresde.nets.edm2 import MPBlock
from scoresde.nets.magnitude import MPAttention, MPFourier, MPLayer, blend, concatenate, silu, unit


def magnitude(x: Tensor) -> float:
    return float(x.detach().square().mean().sqrt())


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "made",
    [
        silu(normal(100_000)),
        blend(normal(2, 50_000)[0], normal(2, 50_000)[1], 0.3),
        concatenate(normal(4, 3, 5000), normal(4, 6, 15_000)[:, :, :5000].flip(2), 0.3),
        MPFourier(256)(torch.linspace(-1.7, 1.3, 500)),
    ],
    ids=["silu", "sum", "concatenation", "features"],
)
def test_operations_keep_the_magnitude_of_noise(made: Tensor) -> None:
    assert abs(magnitude(made) - 1) < 0.02


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_both_sides_of_a_concatenation_contribute_their_share_whatever_their_widths(share: float) -> None:
    a, b = concatenate(normal(1, 4, 20_000), normal(1, 64, 20_000), share).split((4, 64), 1)
    assert abs(float(b.norm() / a.norm()) - share / (1 - share)) < 0.02 * share / (1 - share)


def activations(net: EDM2, x: Tensor, c: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    for name, module in net.named_modules():
        if isinstance(module, MPBlock | MPLayer):
            module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    with torch.no_grad():
        net(x, c)
    return seen


def test_activations_have_magnitude_one_at_the_start_whatever_the_noise_level() -> None:
    """Of all blocks, with input of magnitude one; in plain networks they grow with the depth."""
    torch.manual_seed(0)
    net = EDM2((3, 16, 16), 32, (1, 2), blocks=3, attention=(1,), head_width=16)
    for c in (-1.5, 0.0, 1.2):
        seen = activations(net, torch.randn(8, 3, 16, 16), torch.full((8,), c))
        sizes = {name: magnitude(out) for name, out in seen.items() if ".conv" not in name and name != "head.conv"}
        off = {name: size for name, size in sizes.items() if not 0.8 < size < 1.2 and "out" not in name}
        assert off == {}  # what attention gathers is an average, and smaller


def test_weights_have_norm_one_after_any_step() -> None:
    torch.manual_seed(0)
    net = EDM2((1, 4, 4), 8, (1, 2), blocks=1, attention=(1,), head_width=8).train()
    optimizer = torch.optim.Adam(net.parameters(), 0.1)
    x, c, y = torch.randn(4, 1, 4, 4), torch.linspace(-1, 1, 4), torch.randn(4, 1, 4, 4)
    for _ in range(3):
        optimizer.zero_grad()
        (net(x, c) - y).square().mean().backward()
        optimizer.step()
    layers = [m for m in net.modules() if isinstance(m, MPLayer)]
    before = [m.weight.detach().clone() for m in layers]
    net(x, c)
    for layer, old in zip(layers, before, strict=True):
        rows = layer.weight.detach().flatten(1)
        assert (rows.square().mean(1).sqrt() - 1).abs().max() < 2e-3
        assert torch.nn.functional.cosine_similarity(rows, old.flatten(1)).min() > 1 - 1e-5
    assert any((old.flatten(1).square().mean(1).sqrt() - 1).abs().max() > 0.01 for old in before)


def test_the_length_of_weights_means_nothing() -> None:
    torch.manual_seed(0)
    net = EDM2((1, 4, 4), 8, (1, 2), blocks=1, attention=(1,), head_width=8).eval()
    nn.init.ones_(net.head.gain)
    x, c = torch.randn(2, 1, 4, 4), torch.tensor([-1.0, 1.0])
    out = net(x, c)
    with torch.no_grad():
        for layer in (m for m in net.modules() if isinstance(m, MPLayer)):
            layer.weight *= 3
    assert (net(x, c) - out).abs().max() < 2e-3 * out.abs().max()


def test_attention_goes_by_angles() -> None:
    """The length of q and k in any place, here that of the weights of a place, is not felt."""
    torch.manual_seed(0)
    layer = MPAttention(8, 2).double()
    h = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    gathered = layer(h) * (0.7**2 + 0.3**2) ** 0.5 - 0.7 * h
    longer = layer(5 * h) * (0.7**2 + 0.3**2) ** 0.5 - 0.7 * 5 * h
    assert (longer - gathered).abs().max() < 1e-3 * gathered.abs().max()


def test_two_calls_before_the_gradient_are_one_graph() -> None:
    """Scaling the weights back in the second call is no change that the gradient of the first would have to fear."""
    net = EDM2((1, 4, 4), 8, (1,), blocks=1, attention=(), head_width=8).train()
    nn.init.ones_(net.head.gain)
    x, c = torch.randn(2, 1, 4, 4), torch.zeros(2)
    (net(x, c) + net(2 * x, c)).sum().backward()
    assert net.stem.conv.weight.grad is not None


def test_unit_vectors_are_of_magnitude_one() -> None:
    assert (unit(normal(7, 300) * 5, 1).square().mean(1) - 1).abs().max() < 1e-3
