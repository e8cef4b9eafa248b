"""Bad data: one line that names the key or file, the value and what would be right; and nothing is unpickled."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import write_idx, write_mnist

from scoresde.data import ArrayFile, Digits, FashionMNIST, ImageFolder, Moons, Rings, SwissRoll
from scoresde.errors import InputError


def write_csv(text: str) -> Callable[[Path], ArrayFile]:
    def make(folder: Path) -> ArrayFile:
        (folder / "t.csv").write_text(text)
        return ArrayFile(str(folder / "t.csv"))

    return make


def write_array(values: object, key: str | None = None, **named: np.ndarray) -> Callable[[Path], ArrayFile]:
    def make(folder: Path) -> ArrayFile:
        path = folder / ("x.npz" if named else "x.npy")
        if named:
            np.savez(path, **named)
        else:
            np.save(path, np.asarray(values))
        return ArrayFile(str(path), key=key)

    return make


def write_images(*sizes: tuple[int, int], spoil: str | None = None) -> Callable[[Path], ImageFolder]:
    def make(folder: Path) -> ImageFolder:
        for k, size in enumerate(sizes):
            Image.effect_noise(size, 50).save(folder / f"{k}.png")
        if spoil is not None:
            (folder / spoil).write_bytes((folder / "0.png").read_bytes()[:60])
        return ImageFolder(str(folder))

    return make


def write_bytes(name: str, content: bytes) -> Callable[[Path], ArrayFile]:
    def make(folder: Path) -> ArrayFile:
        (folder / name).write_bytes(content)
        return ArrayFile(str(folder / name))

    return make


def write_clothes(
    spoil: str | None = None, change: Callable[[Path], object] = Path.unlink
) -> Callable[[Path], FashionMNIST]:
    def make(folder: Path) -> FashionMNIST:
        write_mnist(folder)
        if spoil is not None:
            change(folder / spoil)
        return FashionMNIST(str(folder))

    return make


def rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(change(file.read_bytes()))


two, hole = np.zeros((2, 2)), np.ones((4, 3))
hole[2, 1], hole[3, 0] = np.nan, np.inf
BAD = {
    "array: no path": (lambda _: ArrayFile(), ["data.path", "not given", "data.path=table.csv"]),
    "folder: no path": (lambda _: ImageFolder(), ["data.path", "not given", "data.path=photos/"]),
    "array: no file": (lambda d: ArrayFile(str(d / "no.csv")), ["data.path", "no.csv", "does not exist"]),
    "folder: no folder": (lambda d: ImageFolder(str(d / "no")), ["data.path", "does not exist", "photos/"]),
    "array: a folder": (lambda d: ArrayFile(str(d)), ["is a folder", "data=folder"]),
    "array: other ending": (write_bytes("x.parquet", b"1"), ["x.parquet", ".npy, .npz, .csv"]),
    "array: key of a csv": (
        lambda d: ArrayFile(str(write_csv("1\n2")(d).path), key="a"),
        ["data.key", "a", "leave it"],
    ),
    "array: damaged npy": (write_bytes("x.npy", b"\x93NUMPY\x01"), ["x.npy", "cannot be read"]),
    "array: damaged npz": (write_bytes("x.npz", b"PK\x03\x04nothing"), ["x.npz", "cannot be read"]),
    "array: text as npy": (write_bytes("x.npy", b"1,2\n3,4"), ["x.npy", "cannot be read"]),
    "array: empty": (write_array(np.zeros((0, 3))), ["x.npy", "empty", "(0, 3)"]),
    "array: no features": (write_array(np.zeros((5, 0))), ["x.npy", "empty", "(5, 0)"]),
    "array: a number": (write_array(3.0), ["x.npy", "single number"]),
    "array: one item": (write_array(np.zeros((1, 3))), ["x.npy", "1 item", "at least 2"]),
    "array: all the same": (write_array(np.ones((9, 3))), ["all 8", "nothing to learn"]),
    "array: text": (write_array(["a", "b"]), ["x.npy", "<U1", "real numbers"]),
    "array: complex": (write_array([1j, 2j]), ["complex128", "real numbers"]),
    "array: huge": (write_array([1e200, 2e200]), ["beyond 1e150"]),
    "array: NaN": (write_array(hole), ["NaN or infinite", "2 of 12", "[2, 1]"]),
    "array: objects": (write_array(np.array([{}, {}], dtype=object)), ["x.npy", "Python objects"]),
    "npz: objects": (write_array(0, a=np.array([{}, {}], dtype=object)), ["x.npz", "Python objects"]),
    "npz: several": (write_array(0, a=two, b=two), ["data.key", "not given", "a, b", "data.key=a"]),
    "npz: wrong key": (write_array(0, key="c", a=two, b=two), ["data.key", "c", "a, b"]),
    "csv: empty": (write_csv(""), ["t.csv", "no rows"]),
    "csv: a header only": (write_csv("a,b\n"), ["t.csv", "no rows"]),
    "csv: one row": (write_csv("a,b\n1,2\n"), ["t.csv", "1 item", "at least 2"]),
    "csv: text": (write_csv("a,b\n1,2\n\n3,red\n"), ["t.csv", "line 4", "column 2 (b)", "'red'", "not a number"]),
    "csv: text, no names": (write_csv("1,2\n3,red\n"), ["line 2", "column 2:", "'red'"]),
    "csv: a number among names": (write_csv("a,2\n1,2\n"), ["line 1", "'a'", "header"]),
    "csv: an empty cell": (write_csv("a,b\n1,2\n3,\n"), ["line 3", "(b)", "empty"]),
    "csv: NaN": (write_csv("a,b\n1,2\nnan,3\n"), ["line 3", "(a)", "not finite"]),
    "csv: infinite": (write_csv("1,2\n1,-inf\n"), ["line 2", "column 2", "not finite"]),
    "csv: ragged": (write_csv("a,b\n1,2\n3,4,5\n"), ["t.csv", "line 3", "3 columns", "2"]),
    "csv: binary": (write_bytes("t.csv", b"\xff\xfe\x00"), ["t.csv", "not a csv of UTF-8"]),
    "folder: a file": (lambda d: ImageFolder(write_csv("1")(d).path), ["t.csv", "is a file", "data=array"]),
    "folder: empty": (write_images(), ["holds no image", "png", "at least 2"]),
    "folder: one image": (write_images((4, 4)), ["holds one image only", "at least 2"]),
    "folder: no image": (
        lambda d: ImageFolder(str(Path(write_csv("1")(d).path or "").parent)),
        ["no image", "1 of other kinds"],
    ),
    "folder: a bad image": (write_images((9, 9), (9, 9), spoil="bad.jpg"), ["bad.jpg", "cannot be read as an image"]),
    "folder: several sizes": (
        write_images((4, 4), (4, 4), (6, 5)),
        ["0.png is 4 x 4", "2.png is 6 x 5", "data.size=64"],
    ),
    "clothes: no folder": (
        lambda d: FashionMNIST(str(d / "no")),
        ["data.folder", "no is not a folder", "Debian package"],
    ),
    "clothes: a file is missing": (
        write_clothes("t10k-labels-idx1-ubyte"),
        ["data.folder", "t10k-labels-idx1-ubyte.gz"],
    ),
    "clothes: another file": (
        write_clothes("train-labels-idx1-ubyte", rewrite(lambda b: b"%PDF-1.4" + b)),
        ["train-labels-idx1-ubyte", "25 50 44 46", "00 00 08 01"],
    ),
    "clothes: an empty file": (
        write_clothes("train-labels-idx1-ubyte", rewrite(lambda b: b"")),
        ["begins with nothing"],
    ),
    "clothes: images for labels": (
        write_clothes("t10k-labels-idx1-ubyte", lambda f: write_idx(f, np.zeros((20, 8, 8), np.uint8))),
        ["t10k-labels-idx1-ubyte", "00 00 08 03"],
    ),
    "clothes: no header": (write_clothes("t10k-labels-idx1-ubyte", rewrite(lambda b: b[:6])), ["header", "6 of 8"]),
    "clothes: cut off": (write_clothes("t10k-labels-idx1-ubyte", rewrite(lambda b: b[:-5])), ["holds 15", "says 20"]),
    "clothes: too long": (
        write_clothes("t10k-labels-idx1-ubyte", rewrite(lambda b: b + b"0")),
        ["holds 21", "says 20"],
    ),
    "clothes: a cut gzip": (
        write_clothes("train-images-idx3-ubyte.gz", rewrite(lambda b: b[:-40])),
        ["train-images-idx3-ubyte.gz", "cannot be read"],
    ),
    "clothes: a damaged gzip": (
        write_clothes("train-images-idx3-ubyte.gz", rewrite(lambda b: b[:200] + b"????" + b[204:])),
        ["train-images-idx3-ubyte.gz", "cannot be read"],
    ),
    "clothes: more images than labels": (
        write_clothes("train-labels-idx1-ubyte", lambda f: write_idx(f, np.zeros(39, np.uint8))),
        ["40 train images", "39 train labels"],
    ),
    "clothes: two sets": (
        write_clothes("t10k-images-idx3-ubyte.gz", lambda f: write_idx(f, np.zeros((20, 9, 8), np.uint8))),
        ["(8, 8)", "(9, 8)", "one set"],
    ),
    "clothes: no pixels": (
        write_clothes("train-images-idx3-ubyte.gz", lambda f: write_idx(f, np.zeros((40, 0, 8), np.uint8))),
        ["no pixels", "(40, 0, 8)"],
    ),
    "held_out": (lambda _: Digits(held_out=1.0), ["held_out: 1.0", "number in (0, 1)"]),
    "held_out of nothing": (lambda _: ImageFolder(held_out=0.0), ["held_out: 0.0", "number in (0, 1)"]),
    "split_seed": (lambda _: ArrayFile(split_seed=-1), ["split_seed: -1", ">= 0"]),
    "seed": (lambda _: Rings(seed=-2), ["seed: -2", ">= 0"]),
    "n": (lambda _: Moons(n=1), ["n: 1", ">= 2"]),
    "noise": (lambda _: SwissRoll(noise=-0.1), ["noise: -0.1", ">= 0"]),
    "size": (lambda _: ImageFolder(size=0), ["size: 0", ">= 1"]),
    "size of a side": (lambda _: ImageFolder(size=[8, -8]), ["size: [8, -8]", "[height, width]"]),
    "three sizes": (lambda _: ImageFolder(size=[8, 8, 8]), ["size: [8, 8, 8]", "two"]),
    "mode": (lambda _: ImageFolder(mode="hsv"), ["mode: 'hsv'", "rgb, grey"]),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_says_what_to_do(tmp_path: Path, case: str) -> None:
    make, parts = BAD[case]
    with pytest.raises(InputError) as caught:
        make(tmp_path).load()
    message = str(caught.value)
    print(message.replace(str(tmp_path) + "/", ""))
    assert "\n" not in message
    assert all(part in message for part in parts), message


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "exploded",))  # type: ignore[return-value]

    np.save(tmp_path / "x.npy", np.array([Bomb(), Bomb()], dtype=object))
    np.savez(tmp_path / "x.npz", a=np.array([Bomb(), Bomb()], dtype=object))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(InputError, match="Python objects"):
            ArrayFile(str(tmp_path / name)).load()
    assert not (tmp_path / "exploded").exists()
