"""Image files of all formats and depths: every level to the bit, or one line; and no program is ever started."""

import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from scoresde.data import Dataset, ImageFolder
from scoresde.data.huggingface import HuggingFace
from scoresde.errors import InputError

RNG = np.random.default_rng(0)


def loaded(folder: Path, **settings: object) -> Dataset:
    return ImageFolder(str(folder), cache=str(folder / ".cache"), **settings).load()  # type: ignore[arg-type]


def levels(data: Dataset) -> np.ndarray:
    """The levels of all items, in order of their bytes."""
    items = data.transform.finish(torch.cat([data.train, data.heldout]))
    return np.array(sorted(items, key=lambda item: item.tobytes()))


def saved(folder: Path, images: np.ndarray, ending: str, **options: object) -> np.ndarray:
    """Write images (n, height, width[, channels]), and return them in order of their bytes."""
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k}.{ending}", **options)
    return np.array(sorted(images, key=lambda item: item.tobytes()))


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("bits", [5, 8, 12, 16])
def test_levels_of_16_bit_files_survive_exactly_in_as_many_bits_as_they_use(tmp_path, ending, bits):
    images = RNG.integers(0, 2**bits, (6, 7, 5), dtype=np.uint16)
    images[0, 0, 0] = 2**bits - 1
    expected, data = saved(tmp_path, images, ending), loaded(tmp_path, mode="grey16")
    assert data.event_shape == (1, 7, 5)
    assert (levels(data) == expected[:, None]).all()
    assert levels(data).dtype == np.uint16
    used = max(bits, 8)
    assert data.transform.levels == 2**used
    assert float(torch.cat([data.train, data.heldout]).max()) == (2**bits - 1) / 2 ** (used - 1) - 1


@pytest.mark.parametrize("mode", ["grey", "rgb", "rgba"])
@pytest.mark.parametrize("top", [255, 4095, 65535])
def test_a_mode_of_8_bits_refuses_to_lose_some_of_16(tmp_path, mode, top):
    saved(tmp_path, RNG.integers(0, top + 1, (3, 8, 8), dtype=np.uint16), "png")
    with pytest.raises(InputError, match=r"0\.png .*16 bits.*data\.mode=grey16"):
        loaded(tmp_path, mode=mode)


def test_8_bits_among_16_are_full_range(tmp_path):
    image = RNG.integers(0, 256, (4, 4), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image.astype(np.uint16) * 257).save(tmp_path / "b.png")
    for mode, factor in (("grey16", 257), ("grey", 1)):
        assert (levels(loaded(tmp_path, mode=mode)) == image.astype(int) * factor).all()


def test_resizing_16_bits_keeps_levels_between_those_of_8_bits(tmp_path):
    flat = np.full((8, 6), 1001, np.uint16)
    halves = np.repeat([[0, 65535]], [4, 4], axis=1).repeat(6, axis=0).astype(np.uint16)
    Image.fromarray(flat).save(tmp_path / "flat.png")
    Image.fromarray(halves).save(tmp_path / "halves.png")
    found = levels(loaded(tmp_path, mode="grey16", size=4))
    assert any((image == 1001).all() for image in found)
    other = next(image[0] for image in found if not (image == 1001).all())
    assert (other[:, 0] == 0).all()
    assert (other[:, -1] == 65535).all()
    assert (np.diff(other.astype(int), axis=1) >= 0).all()


def test_transparency_is_a_channel_on_purpose(tmp_path):
    images = RNG.integers(0, 256, (5, 6, 4, 4), dtype=np.uint8)
    expected, data = saved(tmp_path, images, "png"), loaded(tmp_path, mode="rgba")
    assert data.event_shape == (4, 6, 4)
    assert sorted(x.tobytes() for x in np.moveaxis(expected, -1, 1)) == [x.tobytes() for x in levels(data)]


@pytest.mark.parametrize(("ending", "mode"), [("gif", "grey"), ("tif", "rgb"), ("tiff", "grey"), ("bmp", "rgb")])
def test_other_formats_give_the_pixels_that_were_written(tmp_path, ending, mode):
    shape = (4, 5, 6, 3) if mode == "rgb" else (4, 5, 6)
    expected = saved(tmp_path, RNG.integers(0, 256, shape, dtype=np.uint8), ending)
    expected = np.moveaxis(expected, -1, 1) if mode == "rgb" else expected[:, None]
    assert sorted(x.tobytes() for x in expected) == [x.tobytes() for x in levels(loaded(tmp_path, mode=mode))]


def png(width: int, height: int, depth: int, kind: int, rows: bytes = b"") -> bytes:
    """A PNG file, written by hand."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def frames(file: Path) -> None:
    images = [Image.new("L", (4, 4), level) for level in (0, 100, 200)]
    images[0].save(file, save_all=True, append_images=images[1:])


BAD = {
    "12 bits of 16 a color": ("a.png", png(2, 1, 16, 2, b"\0" + bytes(range(12))), ["channels of 16 bits", "8 bits"]),
    "a bomb of 3.6 billion": ("a.png", png(60000, 60000, 8, 0), ["3600000000 pixels", "exceeds limit of 178956970"]),
    "a bomb of 100 million": ("a.png", png(10000, 10000, 8, 0), ["100000000 pixels", "exceeds limit of 89478485"]),
    "fractions": ("a.tif", lambda f: Image.fromarray(np.ones((4, 4), np.float32)).save(f), ["fractions", "data=array"]),
    "32 bits": ("a.tif", lambda f: Image.fromarray(np.full((4, 4), 70000, np.int32)).save(f), ["70000", "0 to 65535"]),
    "an animation": ("a.gif", frames, ["several frames", "file of its own"]),
    "pages": ("a.tif", frames, ["several frames", "file of its own"]),
    "PostScript": ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", ["remove or replace"]),
    "another format": ("a.png", b"P5 4 4 255\n" + bytes(16), ["remove or replace"]),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_in_full_is_one_line_within_a_second(tmp_path, case, monkeypatch):
    name, content, words = BAD[case]
    Image.new("L", (4, 4)).save(tmp_path / "b.png")
    content(tmp_path / name) if callable(content) else (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    begin = time.monotonic()
    with pytest.raises(InputError) as found:
        loaded(tmp_path)
    assert time.monotonic() - begin < 1
    for word in ("data.path", name, *words):
        assert word in str(found.value)


def test_an_absurd_size_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match=r"size: 1000000 is 1,000,000,000,000 pixels an image; give at most"):
        ImageFolder(str(tmp_path), size=1_000_000)


def test_images_of_a_table_are_opened_by_the_same_rules(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    images = RNG.integers(0, 4096, (4, 3, 3), dtype=np.uint16)
    expected = saved(tmp_path, images, "png")
    folder = HuggingFace(str(tmp_path), mode="grey16", cache=str(tmp_path / ".cache"))
    assert (levels(folder.load()) == expected[:, None]).all()
    (tmp_path / "0.png").write_bytes(BAD["PostScript"][1])
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    with pytest.raises(InputError, match=r"item 0 of train .*remove or replace"):
        folder.load()


def of_folders(root: Path, counts: dict[str, int]) -> dict[bytes, str]:
    """Write so many images into each folder; returns in which each lies."""
    found = {}
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            image = RNG.integers(0, 256, (4, 5), dtype=np.uint8)
            Image.fromarray(image).save(root / folder / f"{k}.png")
            found[image.tobytes()] = folder
    return found


def named(data: Dataset, names: list[str]) -> dict[bytes, str]:
    """The class of each item, by its name."""
    assert data.labels is not None
    assert data.heldout_labels is not None
    items = data.transform.finish(torch.cat([data.train, data.heldout]))
    labels = [*data.labels.tolist(), *data.heldout_labels.tolist()]
    return {item.tobytes(): names[label] for item, label in zip(items, labels, strict=True)}


def test_folders_are_classes_in_the_order_of_their_names(tmp_path, capsys):
    written = of_folders(tmp_path, {"zebra": 5, "ant": 3, "cat": 4, "cat/small": 2})
    expected = {image: folder.partition("/")[0] for image, folder in written.items()}
    for settings in ({}, {"classes": True}, {}):  # the last one from the cache
        assert named(loaded(tmp_path, mode="grey", **settings), ["ant", "cat", "zebra"]) == expected
        assert "classes: 0 ant, 1 cat, 2 zebra" in capsys.readouterr().err
    assert loaded(tmp_path, mode="grey", classes=False).labels is None
    (tmp_path / "ant").rename(tmp_path / "mouse")
    moved = named(loaded(tmp_path, mode="grey"), ["cat", "mouse", "zebra"])
    assert moved == {image: name.replace("ant", "mouse") for image, name in expected.items()}


def test_what_lies_beside_folders_or_in_one_alone_has_no_class_unless_asked(tmp_path):
    of_folders(tmp_path, {"all": 4})
    assert loaded(tmp_path, mode="grey").labels is None
    only = loaded(tmp_path, mode="grey", classes=True).labels
    assert only is not None
    assert only.tolist() == [0] * len(only)
    of_folders(tmp_path, {".": 1, "more": 2})
    assert loaded(tmp_path, mode="grey").labels is None
    with pytest.raises(InputError, match=r"data\.classes: .*0\.png is in no folder of a class"):
        loaded(tmp_path, mode="grey", classes=True)
