"""Arrays in files: bytes are images, y is the classes, and sizes that cannot be are refused within a second."""

import gzip
import io
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from scoresde import room
from scoresde.data import Array, ArrayFile, Dataset, FashionMNIST, ImageFolder, SavedDataset
from scoresde.errors import InputError

RNG = np.random.default_rng(0)


def items(data: Dataset) -> np.ndarray:
    return data.transform.finish(torch.cat([data.train, data.heldout]))


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether both hold the same items, in any order."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    return sorted(x.tobytes() for x in found) == sorted(x.tobytes() for x in expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("last", [True, False])
def test_bytes_are_images_with_their_channels_where_they_are(tmp_path, channels, last, capsys):
    images = RNG.integers(0, 256, (20, channels, 7, 6), dtype=np.uint8)
    written = np.moveaxis(images, 1, 3) if last else images
    np.save(tmp_path / "x.npy", written)
    for source in (ArrayFile(str(tmp_path / "x.npy")), Array(written)):
        data = source.load()
        assert data.event_shape == (channels, 7, 6)
        assert data.transform.kind == "image"
        assert same(items(data), images)
        assert ("channels last" in capsys.readouterr().err) == last


SAME = {
    "images in [0, 1]": RNG.random((20, 3, 5, 4), dtype=np.float32),
    "images in [-1, 1]": 2 * RNG.random((20, 1, 5, 4)) - 1,
    "images in units of their own": 300 * RNG.random((20, 2, 5, 4)) - 40,
    "images of bytes": RNG.integers(0, 256, (20, 3, 5, 4), dtype=np.uint8),
    "images of integers": RNG.integers(0, 4096, (20, 3, 5, 4)),
    "series": RNG.standard_normal((20, 2, 9)) * np.array([[1.0], [50.0]]),
    "volumes": RNG.standard_normal((20, 1, 3, 4, 2)),
    "points": RNG.standard_normal((20, 2)) * [1.0, 3.0],
    "two units": RNG.standard_normal((20, 2)) * [1.0, 300.0],
    "table": RNG.standard_normal((20, 3)) * [1.0, 50.0, 0.1],
    "integers": RNG.integers(0, 9, (20, 3)),
    "numbers": RNG.standard_normal(20),
}


@pytest.mark.parametrize("case", SAME)
def test_one_array_has_the_same_units_in_a_file_and_in_python(tmp_path, case):
    np.save(tmp_path / "x.npy", SAME[case])
    file, python = ArrayFile(str(tmp_path / "x.npy")).load(), Array(SAME[case]).load()
    transform = file.transform
    assert transform == python.transform
    assert torch.equal(file.train, python.train)
    kinds = ("image" if case.startswith("images") else "points" if case == "points" else "table",)
    assert (transform.kind,) == kinds
    one = case.startswith("images") or case in ("series", "volumes", "points", "numbers")
    assert np.size(transform.scale) == (1 if one else SAME[case].shape[1])
    if case.startswith("images in"):  # one mean as well, and the range of the file is [-1, 1]
        low, high = {"[0, 1]": (0, 1), "[-1, 1]": (-1, 1)}.get(case[10:], (SAME[case].min(), SAME[case].max()))
        assert np.allclose((transform.low, transform.high), (low, high))
        assert np.isclose((low - transform.mean) / transform.scale, -1)
        assert np.isclose((high - transform.mean) / transform.scale, 1)


def test_grey_bytes_need_no_axis_of_channels(tmp_path):
    images = RNG.integers(0, 256, (20, 7, 6), dtype=np.uint8)
    np.save(tmp_path / "x.npy", images)
    data = ArrayFile(str(tmp_path / "x.npy")).load()
    assert same(items(data), images[:, None])
    assert float(data.train.max()) <= 127 / 128


@pytest.mark.parametrize(("dtype", "channels"), [("float32", 3), ("float64", 1), ("int16", 4), ("uint8", 2)])
def test_other_numbers_with_their_channels_last_are_refused(tmp_path, dtype, channels):
    np.save(tmp_path / "x.npy", np.ones((9, 16, 12, channels), dtype))
    with pytest.raises(InputError, match=r"\(9, 16, 12, \d\) has its channels last; give x\.transpose"):
        ArrayFile(str(tmp_path / "x.npy")).load()


IMAGES, CLASSES = RNG.integers(0, 256, (30, 3, 4, 4), dtype=np.uint8), RNG.integers(0, 5, 30)


@pytest.mark.parametrize(
    ("arrays", "settings"),
    [
        ({"x": IMAGES, "y": CLASSES}, {}),
        ({"images": IMAGES, "labels": CLASSES.astype(np.uint8)[:, None]}, {}),
        ({"arr_0": IMAGES, "arr_1": CLASSES}, {}),
        ({"x_train": IMAGES, "y_train": CLASSES, "x_test": IMAGES[:3]}, {"key": "x_train", "labels": "y_train"}),
    ],
)
def test_classes_of_a_file_stay_with_their_items(tmp_path, arrays, settings):
    np.savez(tmp_path / "x.npz", **arrays)
    data = ArrayFile(str(tmp_path / "x.npz"), **settings).load()
    known = {image.tobytes(): label for image, label in zip(IMAGES, CLASSES.tolist(), strict=True)}
    for part, labels in ((data.train, data.train_labels), (data.heldout, data.heldout_labels)):
        assert [known[x.tobytes()] for x in data.transform.finish(part)] == labels.tolist()


def test_what_cannot_be_classes_is_none(tmp_path):
    np.savez(tmp_path / "x.npz", x=IMAGES, y=RNG.standard_normal(30))
    assert ArrayFile(str(tmp_path / "x.npz"), key="x").load().labels is None
    with pytest.raises(InputError, match=r"data\.labels: y of .* float64 of shape \(30,\); give one integer"):
        ArrayFile(str(tmp_path / "x.npz"), key="x", labels="y").load()
    with pytest.raises(InputError, match=r"data\.key: not given .* holds x, y"):
        ArrayFile(str(tmp_path / "x.npz")).load()


def header(shape: tuple[int, ...], dtype: str = "<f8") -> bytes:
    """The first bytes of a .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def member(content: bytes | int) -> bytes:
    """A .npz file of one array, given as its bytes, or as so many zeros after a right header."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as one:
        if isinstance(content, bytes):
            one.write(content)
        else:
            one.write(header((content // 8,)))
            for _ in range(content >> 22):
                one.write(bytes(2**22))
    return file.getvalue()


ABSURD = {
    "7 PiB": ("x.npy", header((2**40, 900)) + b"1" * 80, ["announces 7.92 PB", "fit into memory"]),
    "8 GB": ("x.npz", member(header((10**9,)) + b"1" * 80), ["array a, announces 8 GB", ""]),
    "7 PiB in an archive": ("x.npz", member(header((2**40, 900))), ["announces 7.92 PB", "fit into memory"]),
    "a few rows more": ("x.npy", header((10, 2)) + bytes(144), ["160 B of shape (10, 2)", "holds 144 B"]),
    "zeros": ("x.npz", member(2**28 + 2**22), ["announces 273 MB from", "at most 200 times"]),
}


@pytest.mark.parametrize("case", ABSURD)
def test_a_file_that_announces_too_much_is_refused_within_a_second(tmp_path, case):
    name, content, words = ABSURD[case]
    (tmp_path / name).write_bytes(content)
    begin = time.monotonic()
    with pytest.raises(InputError) as found:
        ArrayFile(str(tmp_path / name)).load()
    assert time.monotonic() - begin < 1
    for word in ("data.path", name, *words):
        assert word in str(found.value)


def test_a_file_larger_than_memory_is_refused_by_its_size(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.ones((1000, 3)))
    monkeypatch.setattr(room, "free_memory", lambda: 3 * 20_000)
    with pytest.raises(InputError, match=r"announces 24\.1 kB, and 20 kB fit into memory"):
        ArrayFile(str(tmp_path / "x.npy")).load()


def test_free_memory_is_some_of_that_of_the_machine():
    assert 2**20 < room.free_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.npz"])
@pytest.mark.parametrize("source", [ArrayFile, ImageFolder])
@pytest.mark.parametrize("pipe", [True, False])
def test_what_has_no_end_is_refused_at_once(tmp_path, name, source, pipe):
    path = tmp_path / name
    os.mkfifo(path) if pipe else path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"data\.path: .* is a device or a pipe"):
        source(str(path)).load()


def test_a_gzip_bomb_is_read_no_further_than_it_announces(tmp_path):
    start = bytes((0, 0, 8, 3)) + np.array([2, 2, 2], ">u4").tobytes()
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb", compresslevel=1) as file:
        file.write(start + bytes(2**26))
    begin = time.monotonic()
    with pytest.raises(InputError, match=r"holds 1,048,576|holds 1,048,584"):
        FashionMNIST(str(tmp_path)).load()
    assert time.monotonic() - begin < 1
    huge = bytes((0, 0, 8, 3)) + np.array([2**31, 2**20, 2], ">u4").tobytes()
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(huge)
    with pytest.raises(InputError, match=r"announces 4\.5 PB, and .* fit into memory"):
        FashionMNIST(str(tmp_path)).load()


def test_a_file_of_a_wrong_kind_is_still_a_path(tmp_path: Path):
    (tmp_path / "x.npz").write_bytes(member(b"no array"))
    with pytest.raises(InputError, match=r"x\.npz cannot be read as a \.npz file"):
        ArrayFile(str(tmp_path / "x.npz")).load()


def test_one_array_named_like_classes_is_the_items(tmp_path):
    np.savez(tmp_path / "x.npz", y=RNG.standard_normal((9, 2)))
    assert ArrayFile(str(tmp_path / "x.npz")).load().event_shape == (2,)
    for settings, key in (({"labels": "z"}, "labels: z"), ({"key": "z"}, "key: z")):
        with pytest.raises(InputError, match=rf"data\.{key} is not in .*, which holds y"):
            ArrayFile(str(tmp_path / "x.npz"), **settings).load()


def test_a_trap_among_the_data_that_a_run_keeps_is_refused_too(tmp_path: Path):
    (tmp_path / "data.npz").write_bytes(member(2**28 + 2**22))
    with pytest.raises(InputError, match=r"data: .*data\.npz, array a, announces 273 MB from"):
        SavedDataset(tmp_path).load()
