"""Data sources and the transform: inverses, splits that lose nothing, equality with scikit-learn and pillow."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.distance import pdist
from scipy.stats import chisquare
from sklearn import datasets as sk
from sklearn.preprocessing import StandardScaler
from support import write_mnist

import scoresde.data
from scoresde.data import (
    ArrayFile,
    Checkerboard,
    Dataset,
    Digits,
    FashionMNIST,
    ImageFolder,
    Moons,
    Rings,
    SwissRoll,
    Transform,
)
from scoresde.data.dataset import split
from scoresde.errors import InputError

TOYS = [Moons, SwissRoll, Checkerboard, Rings]


def everything(data: Dataset) -> np.ndarray:
    """All items in data units, sorted, so that two data sets can be compared whatever their order."""
    items = data.transform.finish(torch.cat([data.train, data.heldout]))
    flat = items.reshape(len(items), -1)
    return flat[np.lexsort(flat.T)]


# Transform


def test_every_level_of_8_bit_images_survives_exactly(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    for k, pixels in enumerate(levels):
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    data = ImageFolder(str(tmp_path), mode="grey", held_out=0.25).load()
    model = torch.cat([data.train, data.heldout])
    assert model.min() == -1
    assert model.max() == 127 / 128
    assert sorted(data.transform.decode(model).ravel().tolist()) == list(range(256))
    assert data.transform.finish(model).dtype == np.uint8
    # Half a level of noise on either side does not change what comes out, and nothing wraps around.
    for shift in (-0.49, 0.49):
        assert (data.transform.finish(model + shift / 128) == data.transform.finish(model)).all()
    assert data.transform.finish(torch.full((1, 1, 8, 8), 7.0)).max() == 255
    assert data.transform.finish(torch.full((1, 1, 8, 8), -7.0)).min() == 0


def test_nan_cannot_become_a_grey_level() -> None:
    with pytest.raises(ValueError, match="1 of 2 hold NaN"):
        Digits().load().transform.finish(torch.tensor([0.0, float("nan")])[:, None, None, None].expand(2, 1, 8, 8))


@settings(max_examples=30)
@given(st.integers(2, 20), st.lists(st.integers(1, 4), max_size=3), st.floats(-1e6, 1e6), st.floats(1e-3, 1e3))
def test_decode_inverts_encode_for_all_shapes(n: int, event: list[int], shift: float, size: float) -> None:
    values = shift + size * np.random.default_rng(0).standard_normal((n, *event))
    for per_feature in (True, False):
        transform = Transform.standardising(values, "table", per_feature=per_feature)
        back = transform.decode(transform.encode(values)).numpy()
        assert np.allclose(back, values, rtol=1e-13, atol=1e-13 * size)


def test_standardising_agrees_with_scikit_learn() -> None:
    values = np.random.default_rng(0).gamma(2.0, 3.0, (50, 4)) * [1, 10, 1e-4, 1e5]
    transform = Transform.standardising(values, "table", per_feature=True)
    assert np.allclose(transform.encode(values).numpy(), StandardScaler().fit_transform(values), rtol=1e-12)


def test_a_common_scale_keeps_shapes() -> None:
    values = np.random.default_rng(0).standard_normal((30, 2)) * [1, 5]
    model = Transform.standardising(values, "points", per_feature=False).encode(values).numpy()
    ratios = pdist(values) / pdist(model)
    assert np.allclose(ratios, ratios[0])
    assert np.isclose(model.std(), 1)


@pytest.mark.parametrize("scale", [128.0, (2.0, 0.1, 5.0, 1.0)])
def test_the_volume_of_a_transform_is_the_determinant_of_its_inverse(scale: float | tuple[float, ...]) -> None:
    transform = Transform("table", (2, 2), 0.5, scale)
    jacobian = torch.func.jacrev(lambda x: transform.decode(x[None])[0].flatten())(torch.zeros(2, 2).double())
    assert transform.log_volume == pytest.approx(float(torch.linalg.slogdet(jacobian.reshape(4, 4))[1]))


def test_a_transform_survives_json_to_the_bit() -> None:
    values = np.random.default_rng(1).standard_normal((20, 3)) / 3
    names = ("a", "b", "c")
    transform = Transform.standardising(values, "table", per_feature=True, names=names, dtype="float64")
    again = Transform.from_dict(json.loads(json.dumps(transform.to_dict())))
    assert again == transform
    assert torch.equal(again.encode(values), transform.encode(values))


def test_a_transform_refuses_another_event_shape() -> None:
    with pytest.raises(ValueError, match="shape"):
        Digits().load().transform.decode(torch.zeros(5, 8, 8))


# Splits and figures of a data set


@settings(max_examples=50)
@given(st.integers(2, 300), st.floats(0.001, 0.999), st.integers(0, 2**40))
def test_a_split_loses_nothing_and_neither_part_is_empty(n: int, held_out: float, seed: int) -> None:
    train, held = split(n, held_out, seed)
    assert sorted([*train, *held]) == list(range(n))
    assert len(train) >= 1
    assert len(held) >= 1
    assert abs(len(held) - n * held_out) <= 1


def test_a_split_depends_on_its_seed_alone() -> None:
    first = split(100, 0.2, 3)
    np.random.seed(5)  # noqa: NPY002 - the global generator is what must not matter
    torch.manual_seed(5)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    again = split(100, 0.2, 3)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert set(split(100, 0.2, 4)[1]) != set(first[1])


def test_every_item_is_as_likely_to_be_held_out() -> None:
    counts = np.bincount(np.concatenate([split(20, 0.25, seed)[1] for seed in range(2000)]), minlength=20)
    assert chisquare(counts).pvalue > 1e-3


def test_sigma_max_is_the_largest_distance() -> None:
    points = torch.from_numpy(np.random.default_rng(0).standard_normal((200, 3, 4))).float()
    data = Dataset(points, points, Transform("table", (3, 4)))
    assert np.isclose(data.sigma_max, pdist(points.flatten(1).numpy()).max(), rtol=1e-5)
    assert np.isclose(data.sigma_data, points.numpy().std(), rtol=1e-6)
    many = Moons(n=9000).load()
    largest = pdist(many.train[:, :].numpy()).max()
    assert 0.93 * largest < many.sigma_max <= largest * 1.0001


# Digits and toys


def test_digits_are_those_of_scikit_learn() -> None:
    data = Digits(held_out=0.2, split_seed=4).load()
    images, classes = sk.load_digits(return_X_y=True)
    train, held = split(len(images), 0.2, 4)
    assert (data.transform.finish(data.train).reshape(-1, 64) == images[train]).all()
    assert (data.transform.finish(data.heldout).reshape(-1, 64) == images[held]).all()
    assert data.train_labels is not None
    assert (data.train_labels.numpy() == classes[train]).all()
    assert data.heldout_labels is not None
    assert (data.heldout_labels.numpy() == classes[held]).all()
    assert (data.train.min(), data.train.max()) == (-1, 1)


@pytest.mark.parametrize("toy", TOYS)
def test_toys_are_a_function_of_their_seed_in_model_units(toy: type) -> None:
    data, again, other = (toy(n=3000, seed=seed).load() for seed in (1, 1, 2))
    assert torch.equal(data.train, again.train)
    assert torch.equal(data.heldout, again.heldout)
    assert not torch.equal(data.train, other.train)
    assert np.isclose(data.sigma_data, 1, atol=1e-6)
    assert data.train.mean(0).abs().max() < 1e-6
    assert (len(data.train), len(data.heldout)) == (2400, 600)


def largest_gap(points: np.ndarray, curve: np.ndarray) -> float:
    """Hausdorff distance between two sets of points."""
    distances = torch.cdist(torch.from_numpy(points).double(), torch.from_numpy(curve).double())
    return float(max(distances.min(0).values.max(), distances.min(1).values.max()))


def test_moons_and_swiss_roll_lie_on_the_curves_of_scikit_learn() -> None:
    moons, _ = sk.make_moons(4000, noise=None)
    assert largest_gap(everything(Moons(n=4000, noise=0.0).load()), moons) < 0.02
    roll, _ = sk.make_swiss_roll(4000, noise=0.0, random_state=0)
    assert largest_gap(everything(SwissRoll(n=4000, noise=0.0).load()), roll[:, [0, 2]] / 10) < 0.02


def test_checkerboard_fills_eight_squares_of_one_colour_evenly() -> None:
    points = everything(Checkerboard(n=8000).load()).astype(np.float64)
    squares = np.floor(points + 2).astype(int)
    assert len({(x + y) % 2 for x, y in squares}) == 1
    counts = np.unique(squares, axis=0, return_counts=True)[1]
    assert len(counts) == 8
    assert chisquare(counts).pvalue > 1e-3


def test_rings_have_their_radii_their_noise_and_equal_shares() -> None:
    radii = np.linalg.norm(everything(Rings(n=6000, noise=0.0).load()), axis=1)
    assert np.abs(radii - radii.round()).max() < 1e-6
    counts = np.bincount(radii.round().astype(int))
    assert counts[0] == 0
    assert chisquare(counts[1:]).pvalue > 1e-3
    noisy = np.linalg.norm(everything(Rings(n=6000, noise=0.05).load()), axis=1)
    # The ring of radius r with noise s has the mean squared radius r² + 2 s², so the noise is read off the mean.
    assert np.isclose(np.mean(noisy**2 - noisy.round() ** 2), 2 * 0.05**2, atol=6 * 0.05 * 4 / np.sqrt(6000))
    assert np.isclose(np.std(noisy - noisy.round()), 0.05, rtol=0.05)


# Fashion-MNIST


@pytest.mark.parametrize("given", [True, False])
def test_idx_files_come_back_in_their_official_split(tmp_path: Path, given: bool, monkeypatch) -> None:
    folder = tmp_path / "datasets" / "fashion-mnist"
    images, classes = write_mnist(folder, train=12, test=7)
    monkeypatch.setenv("XDG_DATA_DIRS", f"/nowhere:{tmp_path}")
    data = FashionMNIST(str(folder) if given else None).load()
    assert data.event_shape == (1, 8, 8)
    assert (data.transform.finish(data.train)[:, 0] == images[:12]).all()
    assert (data.transform.finish(data.heldout)[:, 0] == images[12:]).all()
    assert data.train_labels is not None
    assert data.heldout_labels is not None
    assert [*data.train_labels, *data.heldout_labels] == [*classes]


def test_a_set_that_is_not_installed_is_one_line_that_says_how_to_get_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    monkeypatch.setattr("sys.base_prefix", str(tmp_path))
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    with pytest.raises(InputError, match=r"^data\.folder: not given.*dataset-fashion-mnist.*data=huggingface[^\n]*$"):
        FashionMNIST().load()


def test_fashion_mnist_itself_if_it_is_here() -> None:
    try:
        data = FashionMNIST().load()
    except InputError as error:
        pytest.skip(str(error))
    assert (tuple(data.train.shape), tuple(data.heldout.shape)) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert data.train_labels is not None
    assert data.train_labels.bincount().tolist() == [6000] * 10
    # mean and deviation of the training pixels in [0, 1] that everybody normalises with
    pixels = (data.train + 1) * 128 / 255
    assert float(pixels.mean()) == pytest.approx(0.2860, abs=5e-5)
    assert float(pixels.std()) == pytest.approx(0.3530, abs=5e-5)


# Arrays


def test_one_table_in_all_formats_gives_one_data_set(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((40, 3)) * [1, 100, 1e-3] + [0, 1e6, 5]
    np.save(tmp_path / "plain.npy", values)
    np.save(tmp_path / "big_endian.npy", values.astype(">f8"))
    np.savez(tmp_path / "one.npz", values=values)
    np.savez_compressed(tmp_path / "two.npz", values=values, other=np.zeros(3))
    np.savetxt(tmp_path / "savetxt.csv", values, delimiter=",", header="a,b,c", fmt="%.17g")
    rows = [",".join(map(repr, row)) for row in values.tolist()]
    (tmp_path / "bare.csv").write_text("\n".join(rows))
    (tmp_path / "named.csv").write_text("a, b,c\r\n" + "\r\n".join(rows) + "\r\n\r\n", encoding="utf-8-sig")
    (tmp_path / "semicolon.csv").write_text("a;b;c\n" + "\n".join(rows).replace(",", ";") + "\n")
    (tmp_path / "tab.CSV").write_text("a\tb\tc\n" + "\n".join(rows).replace(",", "\t"))
    expected = ArrayFile(str(tmp_path / "plain.npy")).load()
    for file in sorted(tmp_path.iterdir()):
        data = ArrayFile(str(file), key="values" if file.name == "two.npz" else None).load()
        assert torch.equal(data.train, expected.train), file
        assert torch.equal(data.heldout, expected.heldout), file
        named = file.suffix.lower() == ".csv" and file.name != "bare.csv"
        assert data.transform.names == (("a", "b", "c") if named else None), file


@pytest.mark.parametrize("shape", [(12,), (12, 1), (12, 5), (12, 2, 3), (12, 2, 2, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "bool"])
def test_arrays_of_any_shape_come_back_in_their_own_units(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    values = (np.random.default_rng(0).standard_normal(shape) * 50 + 20).astype(dtype)
    if dtype == "bool":
        values = np.random.default_rng(0).random(shape) < 0.5
    np.save(tmp_path / "x.npy", values)
    data = ArrayFile(str(tmp_path / "x.npy"), held_out=0.25).load()
    assert data.event_shape == (shape[1:] or (1,))
    assert data.transform.finish(data.train).dtype == {"float32": "float32", "bool": "uint8"}.get(dtype, "float64")
    train, held = split(12, 0.25, 0)
    for part, items in ((train, data.train), (held, data.heldout)):
        assert np.allclose(data.transform.finish(items).reshape(values[part].shape), values[part], rtol=1e-5, atol=1e-4)


def test_a_column_far_from_zero_keeps_its_digits(tmp_path: Path) -> None:
    seconds = 1.7e9 + np.arange(100.0)
    np.save(tmp_path / "x.npy", seconds)
    assert np.abs(everything(ArrayFile(str(tmp_path / "x.npy")).load())[:, 0] - seconds).max() < 1e-4


def test_a_constant_column_stays_exactly_what_it_is(tmp_path: Path) -> None:
    values = np.stack([np.full(30, 0.1), np.arange(30.0)], axis=1)
    np.save(tmp_path / "x.npy", values)
    data = ArrayFile(str(tmp_path / "x.npy")).load()
    assert (data.train[:, 0] == 0).all()
    assert (data.transform.finish(data.train)[:, 0] == 0.1).all()


def test_statistics_come_from_the_training_part_alone(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((40, 2))
    _, held = split(40, 0.1, 0)
    np.save(tmp_path / "x.npy", values)
    before = ArrayFile(str(tmp_path / "x.npy")).load()
    values[held] *= 1000
    np.save(tmp_path / "x.npy", values)
    assert torch.equal(ArrayFile(str(tmp_path / "x.npy")).load().train, before.train)


# Image folders


def test_images_of_one_size_are_read_as_they_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
    (tmp_path / "a" / "b").mkdir(parents=True)
    for k, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / ("a/b" if k % 2 else ".") / f"{k}.{'PNG' if k % 3 else 'bmp'}")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "a" / "._1.png").write_bytes(b"left behind by another system")
    colour = ImageFolder(str(tmp_path)).load()
    assert colour.event_shape == (3, 5, 7)
    flat = np.moveaxis(pixels, -1, 1).reshape(6, -1)
    assert (everything(colour) == flat[np.lexsort(flat.T)]).all()
    grey = ImageFolder(str(tmp_path), mode="grey").load()
    weights = [0.299, 0.587, 0.114]  # ITU-R 601-2
    ours = np.sort(everything(grey).sum(1).astype(float))
    assert np.allclose(ours, np.sort((pixels @ weights).reshape(6, -1).sum(1)), atol=35)


def test_resizing_covers_the_frame_and_cuts_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    wide[:, 20:40] = [10, 200, 30]  # the centre square; red and blue beside it must go
    wide[:, :20], wide[:, 40:] = [255, 0, 0], [0, 0, 255]
    tall = np.full((90, 30, 3), [10, 200, 30], dtype=np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(tall).save(tmp_path / "tall.webp", lossless=True)
    square = everything(ImageFolder(str(tmp_path), size=10).load()).reshape(2, 3, 10, 10)
    # Two columns at the edges of the wide one may hold something of the cut colours, as after any smooth resize.
    assert (square[..., 2:-2] == np.array([10, 200, 30])[:, None, None]).all()
    assert any((image == np.array([10, 200, 30])[:, None, None]).all() for image in square)
    pair = ImageFolder(str(tmp_path), size=[12, 36]).load()
    assert pair.event_shape == (3, 12, 36)
    whole = next(image for image in everything(pair).reshape(2, 3, 12, 36) if image[0].max() == 255)
    assert (whole[:, :, 4].T == [255, 0, 0]).all()
    assert (whole[:, :, 18].T == [10, 200, 30]).all()
    assert (whole[:, :, 31].T == [0, 0, 255]).all()


def test_orientation_transparency_palettes_and_16_bits(tmp_path: Path) -> None:
    def read(image: Image.Image, mode: str = "grey", **options: object) -> np.ndarray:
        image.save(tmp_path / "1.png", **options)
        Image.new("L", image.size if "exif" not in options else image.size[::-1], 77).save(tmp_path / "0.png")
        data = ImageFolder(str(tmp_path), mode=mode).load()  # type: ignore[arg-type]
        items = data.transform.finish(torch.cat([data.train, data.heldout]))
        return next(item for item in items if (item != 77).any())

    ramp = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: to be turned clockwise by 90 degrees
    assert (read(Image.fromarray(ramp), exif=exif)[0] == np.rot90(ramp, -1)).all()
    assert (read(Image.fromarray(ramp.astype(np.uint16) * 257))[0] == ramp).all()
    assert (read(Image.fromarray(ramp).convert("P"), mode="rgb") == ramp).all()
    clear = np.dstack([ramp, ramp, ramp, np.where(ramp > 100, 255, 0).astype(np.uint8)])
    assert (read(Image.fromarray(clear))[0] == np.where(ramp > 100, ramp, 255)).all()


def test_importing_and_naming_sources_loads_no_heavy_library() -> None:
    code = (
        "import sys, scoresde.data, scoresde.metrics, scoresde.figures; scoresde.data.Digits(); "
        "print([m for m in ('sklearn', 'scipy', 'matplotlib', 'PIL', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


SOURCES = [Moons(n=7, noise=0.3), Digits(split_seed=2), ImageFolder("x", size=4), ArrayFile("a", key="k")]


@pytest.mark.parametrize("source", SOURCES)
def test_the_repr_of_a_source_constructs_an_equal_one(source):
    assert eval(repr(source), {name: getattr(scoresde.data, name) for name in scoresde.data.__all__}) == source
