"""Laws of the transformer: blocks that begin as nothing, and positions on grids of any shape."""

import math

import pytest
import torch
from nets_support import made

from scoresde.errors import InputError
from scoresde.nets import DiT
from scoresde.nets.dit import DiTBlock, sincos_positions


def test_blocks_begin_as_the_identity() -> None:
    torch.manual_seed(0)
    net = DiT((1, 4, 4), 2, width=16, depth=2, heads=2)
    h = torch.randn(3, 4, 16)
    for block in (m for m in net.modules() if isinstance(m, DiTBlock)):
        assert torch.equal(block(h, iter([piece[:, None] for piece in net.modulation(torch.zeros(3))[:6]])), h)


@pytest.mark.parametrize(("rows", "columns"), [(1, 7), (7, 1), (5, 3), (16, 9)])
def test_positions_depend_on_the_place_and_not_on_the_size_of_the_grid(rows: int, columns: int) -> None:
    like = torch.zeros((), dtype=torch.float64)
    own = sincos_positions(rows, columns, 16, like).unflatten(0, (rows, columns))
    large = sincos_positions(20, 20, 16, like).unflatten(0, (20, 20))
    assert torch.equal(own, large[:rows, :columns])


def test_positions_are_sines_and_cosines_of_the_column_then_of_the_row() -> None:
    """In float64 to the last digits, whatever the type of the numbers of rows and columns."""
    found = sincos_positions(50, 70, 16, torch.zeros((), dtype=torch.float64)).unflatten(0, (50, 70))
    angles = [[place * 10000 ** (-i / 4) for i in range(4)] for place in (61, 43)]
    expected = [f(a) for own in angles for f in (math.sin, math.cos) for a in own]
    assert found[43, 61].tolist() == pytest.approx(expected, abs=1e-13)


def test_positions_tell_places_apart_and_products_go_by_the_distance() -> None:
    """p(a).p(b) depends on b - a alone, and every place differs from every other."""
    p = sincos_positions(6, 9, 32, torch.zeros((), dtype=torch.float64)).unflatten(0, (6, 9))
    products = torch.einsum("abw,cdw->abcd", p, p)
    assert torch.allclose(products[1:, 2:, 1:, 2:], products[:-1, :-2, :-1, :-2], rtol=0, atol=1e-12)
    flat = p.flatten(0, 1)
    assert (torch.cdist(flat, flat) + 10 * torch.eye(54, dtype=torch.float64)).min() > 0.1


def test_the_network_may_be_called_with_other_aspect_ratios() -> None:
    """Without attention a patch's output depends on the patch and its place; so a larger image holds a smaller one."""
    net, _, _ = made("dit")
    for block in (m for m in net.modules() if isinstance(m, DiTBlock)):
        for p in block.attention.parameters():
            torch.nn.init.zeros_(p)
    c = torch.zeros(1, dtype=torch.float64)
    x = torch.randn(1, 3, 8, 12, dtype=torch.float64)
    out = net(x, c)
    for rows, columns in ((4, 6), (8, 2), (2, 12)):
        part = net(x[..., :rows, :columns], c)
        assert (part - out[..., :rows, :columns]).abs().max() < 1e-12 * out.abs().max()


def test_patches_attend_to_each_other() -> None:
    net, x, c = made("dit")
    other = x.clone()
    other[..., -1, -1] += 1
    assert ((net(other, c) - net(x, c))[..., :2, :2]).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        (r"event_shape: \(4,\)", {"event_shape": (4,)}),
        (r"event_shape: sizes \(4, 5\) .* multiples of 2, such as \(4, 6\)", {"event_shape": (1, 4, 5)}),
        ("patch: 0", {"patch": 0}),
        ("width: 18", {"width": 18}),
        ("depth: 0", {"depth": 0}),
        ("heads: 3 .* must divide the 16 channels", {"heads": 3}),
        ("ratio: 0", {"ratio": 0.0}),
        ("dropout: 1.0", {"dropout": 1.0}),
    ],
)
def test_arguments_out_of_range_are_named(message: str, changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match="^" + message):
        DiT(**{"event_shape": (1, 4, 4), "width": 16, "depth": 1, "heads": 2, **changes})
