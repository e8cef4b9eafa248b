"""Observations: adjoints, solves and units, for every YAML file."""

from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scoresde import InputError
from scoresde.data import Transform
from scoresde.named import named, options
from scoresde.noise import Noise
from scoresde.observation import (
    Blur,
    Custom,
    Fourier,
    Inpaint,
    Observation,
    Projection,
    Saturate,
    SuperRes,
    conjugate_gradients,
    in_units,
)

EVENT = (3, 8, 8)
NAMES = sorted({*options("observation")} - {"custom"})
LINEAR = sorted({*NAMES} - {"saturate"})


def observation(name: str, event=EVENT, **changes) -> Observation:
    return named("observation", name, runtime={"event_shape": event}, **changes)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return Noise(seed).normal("test", 0, shape, dtype=torch.float64)


@pytest.mark.parametrize("event", [(8,), (2, 12), EVENT, (2, 4, 6, 4)])
@pytest.mark.parametrize("name", LINEAR)
def test_the_adjoint_is_that_of_the_matrix(name, event):
    if name == "grey" and len(event) == 1:
        return  # which has no channels, and is refused
    seen = observation(name, event)
    a, x, y = seen.matrix(), normal(2, *event), normal(2, *seen.seen)
    assert a.shape == (prod(seen.seen), prod(event))
    torch.testing.assert_close(seen(x).flatten(1), x.flatten(1) @ a.T, rtol=0, atol=1e-10)
    torch.testing.assert_close(seen.adjoint(y).flatten(1), y.flatten(1) @ a, rtol=0, atol=1e-10)


@pytest.mark.parametrize("event", [EVENT, (2, 4, 6, 4)])
@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("scales", ["one", "each its own"])
def test_a_solve_is_that_of_the_matrix(name, scales, event):
    size = prod(event)
    scale = 2.0 if scales == "one" else tuple(np.linspace(0.5, 3, size).tolist())
    seen = in_units(observation(name, event), Transform("image", event, scale=scale))
    a, (r, s) = seen.matrix(), (torch.tensor(c, dtype=torch.float64) for c in ([0.3, 2.0], [0.1, 0.01]))
    v = normal(2, *seen.seen)
    for at_r, at_s in ((r, s), (0.3, 0.1)):
        found = seen.solve(v, at_r, at_s).flatten(1)
        for k in range(2):
            one_r, one_s = (float(torch.as_tensor(c, dtype=torch.float64).expand(2)[k]) for c in (at_r, at_s))
            dense = one_r * a @ a.T + one_s * torch.eye(len(a), dtype=torch.float64)
            torch.testing.assert_close(dense @ found[k], v[k].flatten(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["pixels", "columns"])
def test_units_of_the_model_see_what_is_measured_in_data_units(name, kind):
    rising = tuple(np.linspace(1, 9, prod(EVENT)).tolist())
    transform = Transform.of_levels(EVENT) if kind == "pixels" else Transform("table", EVENT, rising, rising[::-1])
    seen = observation(name, sigma_y=0.5)
    own = in_units(seen, transform)
    x = normal(4, *EVENT)
    c = seen.sigma_y / own.sigma_y
    torch.testing.assert_close(own.encode(seen(transform.decode(x))), own(x), rtol=0, atol=1e-11)
    noisy = own.encode(seen.measure(transform.decode(x), Noise(1))) - own(x)  # the noise has the std that it says
    pure = (seen.measure(x, Noise(1)) - seen(x)) / c
    torch.testing.assert_close(noisy, pure, rtol=0, atol=1e-11)
    if kind == "pixels" and own.linear:
        torch.testing.assert_close(own(x), seen(x))


@pytest.mark.parametrize("name", NAMES)
def test_no_item_depends_on_the_others(name):
    seen, x = observation(name), normal(5, *EVENT)
    torch.testing.assert_close(seen(x)[1:2], seen(x[1:2]), rtol=0, atol=1e-14)
    if seen.linear:
        y = normal(5, *seen.seen)
        torch.testing.assert_close(seen.solve(y, 0.5, 0.1)[1:2], seen.solve(y[1:2], 0.5, 0.1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_pass_through_and_types_stay(name):
    seen = observation(name)
    x = normal(2, *EVENT).float()
    out, back = torch.func.vjp(seen, x)
    y = normal(2, *seen.seen).float()
    (gradient,) = back(y)
    assert out.dtype == gradient.dtype == torch.float32
    assert gradient.abs().max() > 0
    if seen.linear:
        torch.testing.assert_close(gradient, seen.adjoint(y), rtol=1e-4, atol=1e-5)
        assert seen.adjoint(y).dtype == seen.solve(y, 1, 1).dtype == torch.float32


@given(st.integers(1, 8), st.integers(0, 100))
def test_conjugate_gradients_solve_each_item(size, seed):
    root = normal(3, size, size, seed=seed)
    a = root @ root.mT + 0.1 * torch.eye(size, dtype=torch.float64)
    b = normal(3, size, seed=seed + 1)
    x, residual = conjugate_gradients(lambda v: torch.einsum("bij,bj->bi", a, v), b, tolerance=1e-10)
    torch.testing.assert_close(torch.einsum("bij,bj->bi", a, x), b, rtol=0, atol=1e-8)
    assert float(residual.max()) < 1e-8


def test_an_adjoint_that_is_none_is_refused_with_the_mismatch():
    class Wrong(Projection):
        def adjoint(self, y):
            return 1.01 * super().adjoint(y)

    with pytest.raises(InputError, match=r"adjoint is not one: <A x, y> is .* and <x, A\^T y> is"):
        Wrong((4,)).check()


def test_masks_boxes_and_columns_hide_what_they_say(tmp_path):
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    hidden = Inpaint((1, 4, 4), box=[1, 1, 3, 4])
    assert hidden(x).tolist() == [[0, 1, 2, 3, 4, 8, 12, 13, 14, 15]]
    mask = torch.ones(4, 4)
    mask[1:3, 1:4] = 0
    np.save(tmp_path / "m.npy", mask.numpy())
    Image.fromarray((255 * mask).numpy().astype(np.uint8)).save(tmp_path / "m.png")
    for name in ("m.npy", "m.png"):
        assert Inpaint((1, 4, 4), mask=str(tmp_path / name))(x).tolist() == hidden(x).tolist()
    table = Inpaint((4,), columns=["city", 0], names=["a", "b", "city=x", "city=y"])
    assert table(torch.arange(4.0)[None]).tolist() == [[0, 2, 3]]
    assert Inpaint((3, 8, 8), share=0.25).seen == (3 * 16,)
    assert Inpaint((10,), box=[2, 5])(torch.arange(10.0)[None]).tolist() == [[0, 1, 5, 6, 7, 8, 9]]


@pytest.mark.parametrize(
    ("event", "changes", "message"),
    [
        ((1, 4, 4), {"mask": np.ones((4, 5))}, r"mask: .*\[4, 5\].*\[1, 4, 4\]"),
        ((1, 4, 4), {"mask": np.ones((4, 4))}, "mask: all is seen"),
        ((1, 4, 4), {"mask": np.zeros((4, 4))}, "mask: nothing is seen"),
        ((1, 4, 4), {"mask": "none.png"}, "mask: none.png is no file"),
        ((1, 4, 4), {"box": [0, 0, 4, 5]}, "box: .*within"),
        ((1, 4, 4), {"box": [0, 0, 4, 4]}, "box: nothing is seen"),
        ((1, 4, 4), {"box": [0, 0, 1, 1], "columns": [0]}, "box and columns"),
        ((3,), {"columns": [3]}, "columns: 3.*0 to 2"),
        ((3,), {"columns": ["x"], "names": ["y", "z", "w"]}, "columns: 'x'.*y, z, w"),
        ((3,), {"sigma_y": -1.0}, "sigma_y"),
    ],
)
def test_what_cannot_be_hidden_is_refused(event, changes, message):
    with pytest.raises(InputError, match=message):
        Inpaint(event, **changes)


def test_a_gaussian_blur_is_that_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    x = normal(2, 3, 8, 10)
    blurred = ndimage.gaussian_filter(x.numpy(), (0, 0, 1.5, 1.5), mode="wrap", truncate=12)
    np.testing.assert_allclose(Blur((3, 8, 10), width=1.5)(x).numpy(), blurred, rtol=0, atol=1e-12)
    kernel = normal(3, 4, seed=2).numpy()
    turned = ndimage.convolve(x.numpy(), kernel[None, None], mode="wrap")
    np.testing.assert_allclose(Blur((3, 8, 10), kernel=kernel)(x).numpy(), turned, rtol=0, atol=1e-12)


def test_small_images_are_those_of_torch_and_pillow():
    x = normal(2, 3, 12, 18)
    smaller = torch.nn.functional.avg_pool2d(x, 3)
    torch.testing.assert_close(SuperRes((3, 12, 18), factor=3)(x), smaller, rtol=0, atol=1e-12)
    bicubic = SuperRes((3, 12, 18), factor=3, rule="bicubic")(x)
    peer = torch.nn.functional.interpolate(x, (4, 6), mode="bicubic", antialias=True)
    torch.testing.assert_close(bicubic, peer, rtol=0, atol=1e-12)
    from PIL import Image

    pillow = np.asarray(Image.fromarray(x[0, 0].float().numpy()).resize((6, 4), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(bicubic[0, 0].numpy(), pillow, rtol=0, atol=1e-5)


@pytest.mark.parametrize("event", [(1, 6, 8), (9,), (2, 3, 4, 5)])
def test_frequencies_are_those_of_numpy(event):
    x, seen = normal(2, *event), Fourier(event, share=0.4)
    axes = tuple(range(-len(seen.sizes), 0))
    wave = np.fft.fftn(x.numpy(), axes=axes, norm="ortho")
    parts = (wave.real - wave.imag).reshape(*seen(x).shape[:-1], -1)[..., seen.index.numpy()]
    np.testing.assert_allclose(seen(x).numpy(), parts, rtol=0, atol=1e-12)
    places = {tuple(k) for k in np.stack(np.unravel_index(seen.index.numpy(), seen.sizes), 1).tolist()}
    assert {tuple((-k) % n for k, n in zip(p, seen.sizes, strict=True)) for p in places} == places
    assert len(places) == pytest.approx(0.4 * prod(seen.sizes), abs=2)


def test_a_function_of_your_own():
    square = Custom((2, 3), lambda x: x.square().sum(-1))
    assert square.seen == (2,)
    assert not square.linear
    with pytest.raises(InputError, match="no adjoint"):
        square.adjoint(torch.ones(1, 2))
    total = Custom((4,), lambda x: x.sum(1, keepdim=True), lambda y: y.expand(len(y), 4))
    torch.testing.assert_close(total.solve(torch.ones(1, 1), 2.0, 1.0), torch.full((1, 1), 1 / 9))
    with pytest.raises(InputError, match="the adjoint is not one"):
        Custom((4,), lambda x: x.sum(1, keepdim=True), lambda y: 2 * y.expand(len(y), 4))
    for function in (lambda x: x.detach(), lambda x: torch.from_numpy(x.numpy() ** 2)):
        with pytest.raises(InputError, match="not differentiable"):
            Custom((4,), function)


def test_classes_of_your_own_are_refused_and_fail_as_what_they_are():
    class Rounded(Observation):
        linear = False

        def forward(self, x):
            return torch.from_numpy(np.round(x.numpy()))

    class Misspelt(Observation):
        def forward(self, x):
            return x.sqare()

    with pytest.raises(InputError, match="not differentiable; write it in torch alone"):
        Rounded((2,)).check()
    with pytest.raises(RuntimeError, match="observation: 'Tensor' object has no attribute 'sqare'"):
        in_units(Misspelt((2,)), Transform("table", (2,))).seen  # noqa: B018


@pytest.mark.parametrize("event", [(1,), (2, 3)])
def test_a_function_whose_derivative_is_zero_is_refused_and_one_that_is_flat_in_parts_is_not(event):
    flat = (torch.round, torch.sign, lambda x: x * 0, lambda x: x.detach() + 0 * x, lambda x: (x > 1) * (x * 0 + 1))
    for function in flat:
        with pytest.raises(InputError, match=r"derivative of the function is zero, as that of round\(\)"):
            Custom(event, function)
    for function in (lambda x: x.clamp(50, 100), lambda x: x.clamp(-0.1, 0.1), torch.relu, lambda x: x.exp()):
        Custom(event, function)


def test_large_systems_are_solved_by_conjugate_gradients(monkeypatch):
    seen = Custom((3, 8, 8), Blur(EVENT, width=0.6).forward, Blur(EVENT, width=0.6).adjoint)
    v = normal(2, *EVENT)
    dense = seen.solve(v, 1.0, 0.01)
    monkeypatch.setattr("scoresde.observation.base._DENSE", 0)
    torch.testing.assert_close(seen.solve(v, 1.0, 0.01), dense, rtol=0, atol=1e-8)
    steep = torch.logspace(0, -9, 60, dtype=torch.float64)
    nearly = Custom((60,), lambda x: x * steep, lambda y: y * steep)
    with pytest.raises(InputError, match="conjugate gradients stopped at a relative residual of"):
        nearly.solve(normal(1, 60), 1.0, 0.0)


def test_a_sensor_needs_a_range():
    with pytest.raises(InputError, match="high"):
        Saturate((2,), low=1.0, high=1.0)


def test_a_sensor_shows_its_range_and_its_ends_beyond():
    dark, bright = Saturate((5,), gain=4.0, low=-1.0, high=9.0), torch.tensor([[-7.0, -0.25, 0.5, 2.25, 3.0]])
    assert dark(bright).tolist() == [[-1, -1, 2, 9, 9]]


def test_a_matrix_must_fit():
    with pytest.raises(InputError, match=r"matrix: .*\[2, 3\]; give \[M, 4\]"):
        Projection((4,), matrix=np.ones((2, 3)))
    assert Projection((2, 2), matrix=[[1.0, 2, 3, 4]])(torch.ones(1, 2, 2)).tolist() == [[10]]
