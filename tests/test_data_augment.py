"""Augmentation: what it says is what it does, and an image it says nothing about is untouched."""

import math

import pytest
import torch
from torch import Tensor

from scoresde.data.augment import Augmentation
from scoresde.errors import InputError
from scoresde.noise import Noise

GATES = ("right", "down", "zoom", "rotate", "stretch", "shift")


def numbers(n: int, *on: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random numbers for n images with these changes only; mirrors are carried out."""
    u = Noise(seed).uniform("u", 0, 10 * n).reshape(n, 10)
    u[:, :6] = torch.tensor([0.0 if name in on else 1.0 for name in GATES])
    u[:, 6:8] = 0.0
    return u, Noise(seed).normal("z", 0, (n, 4)).double()


def images(n: int = 6, side: int = 8) -> Tensor:
    return Noise(1).normal("x", 0, (n, 2, side, side)).double()


def inverse_map(u: Tensor, z: Tensor) -> Tensor:
    """The linear map (n, 2, 2) from new to old places, read off two ramps, which interpolation keeps to 0.1 pixels."""
    side, far = 257, 30
    ramp = torch.arange(side, dtype=torch.float64) - side // 2
    ramps = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side)]).expand(len(u), 2, side, side)
    seen, _ = Augmentation(0.5)(ramps, u, z)
    m = side // 2
    return torch.stack([seen[..., m, m + far] - seen[..., m, m], seen[..., m + far, m] - seen[..., m, m]], dim=2) / far


def test_what_it_says_nothing_about_is_untouched_to_the_bit() -> None:
    x = images(2000, 7).float()  # a side at which resampling by nothing rounds
    u, z = Noise(0).uniform("u", 0, 20000).reshape(2000, 10), Noise(0).normal("z", 0, (2000, 4))
    out, said = Augmentation(0.12)(x, u, z)
    same = (out == x).flatten(1).all(1)
    assert torch.equal(same, (said == 0).all(1))
    assert said.shape == (2000, Augmentation.size)
    # six changes, of which the mirrors are carried out every other time
    assert float(same.double().mean()) == pytest.approx(0.88**4 * 0.94**2, abs=0.04)
    nothing, silence = Augmentation(0.0)(x, u, z)
    assert torch.equal(nothing, x)
    assert not silence.any()


def test_mirrors_quarter_turns_and_shifts_of_whole_pixels_are_exact() -> None:
    x = images()
    augment = Augmentation(0.5)
    for name, place, turned in (("right", 0, x.flip(-1)), ("down", 1, x.flip(-2))):
        out, said = augment(x, *numbers(6, name))
        assert torch.allclose(out, turned, atol=1e-12)
        assert (said[:, place] == 1).all()
        assert said.count_nonzero() == 6
    u, z = numbers(6, "rotate")
    u[:, 8] = 0.75  # a quarter of a turn
    out, said = augment(x, u, z)
    assert torch.allclose(out, torch.rot90(x, -1, (2, 3)), atol=1e-12)
    assert torch.allclose(said[:, 3:5], torch.tensor([-1.0, 1.0], dtype=torch.float64))
    u, z = numbers(6, "shift")
    z[:, 2], z[:, 3] = 2.0, -1.0  # eighths of the side: two pixels to the right, one up
    out, said = augment(x, u, z)
    assert torch.allclose(out[..., :-1, 2:], x[..., 1:, :-2], atol=1e-12)
    assert said[0, 7:].tolist() == [2, -1]


def test_every_other_mirror_is_carried_out() -> None:
    u, z = numbers(6, "right", "down")
    u[:, 6:8] = torch.tensor([0.0, 0.3, 0.49, 0.51, 0.54, 0.9], dtype=u.dtype)[:, None]
    out, said = Augmentation(0.5)(images(), u, z)
    assert said[:, :2].tolist() == [[1, 1]] * 3 + [[0, 0]] * 3
    assert torch.equal(out[3:], images()[3:])


def test_each_change_is_the_kind_of_map_it_is_called() -> None:
    eye = torch.eye(2, dtype=torch.float64)
    u, z = numbers(6, "rotate")
    turn = inverse_map(u, z)
    assert torch.allclose(turn @ turn.mT, eye.expand(6, 2, 2), atol=5e-3)
    assert torch.allclose(torch.linalg.det(turn), torch.ones(6, dtype=torch.float64), atol=5e-3)
    said = Augmentation(0.5)(images(), u, z)[1]
    assert torch.allclose(said[:, 3] + 1, turn.diagonal(dim1=1, dim2=2).mean(1), atol=5e-3)
    u, z = numbers(6, "zoom")
    assert torch.allclose(inverse_map(u, z), 2 ** (-0.2 * z[:, :1, None]) * eye, atol=5e-3)
    u, z = numbers(6, "stretch")
    stretch = inverse_map(u, z)
    assert torch.allclose(stretch, stretch.mT, atol=5e-3)
    octaves = torch.linalg.eigvalsh(stretch).log2() / 0.2
    size = Augmentation(0.5)(images(), u, z)[1][:, 5:7].norm(dim=1)
    assert torch.allclose(octaves, torch.stack([-size, size], 1), atol=0.04)
    everything = inverse_map(*numbers(6, *GATES))
    zoomed = numbers(6, *GATES)[1][:, 0]
    assert torch.allclose(torch.linalg.det(everything), 4 ** (-0.2 * zoomed), atol=2e-2)


def test_an_oblong_image_is_turned_and_not_sheared() -> None:
    x = torch.zeros(1, 1, 9, 21, dtype=torch.float64)
    x[0, 0, 4, 7:14] = 1  # a bar across the centre
    u, z = numbers(1, "rotate")
    u[:, 8] = 0.75
    out, _ = Augmentation(0.5)(x, u, z)
    assert torch.allclose(out[0, 0, 1:8, 10], torch.ones(7, dtype=torch.float64), atol=1e-10)
    assert float(out[..., 6:15].sum()) == pytest.approx(7)  # further out the bar is mirrored in


def test_an_image_does_not_depend_on_the_others() -> None:
    x, (u, z) = images(), numbers(6, *GATES)
    whole, said = Augmentation(1.0)(x, u, z)
    for k in range(6):
        one, word = Augmentation(1.0)(x[k : k + 1], u[k : k + 1], z[k : k + 1])
        assert torch.allclose(one[0], whole[k], atol=1e-12)
        assert torch.equal(word[0], said[k])


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan])
def test_a_probability_is_one(probability: float) -> None:
    with pytest.raises(InputError, match="probability"):
        Augmentation(probability)
