"""Samples as single PNG files: every level to the bit, in a folder that other tools read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scoresde.cli.stream import sample_files
from scoresde.data import Digits, HuggingFace, ImageFolder, Transform
from scoresde.errors import InputError

RNG = np.random.default_rng(0)
MODES = {"grey": (1, 8), "rgb": (3, 8), "rgba": (4, 8), "grey16": (1, 16)}


def written(folder: Path, samples: np.ndarray, transform: Transform) -> Path:
    with sample_files(folder, len(samples), transform, "png") as append:
        append(samples[:4])
        append(samples[4:])
    assert (np.load(folder / "samples.npz")["samples"] == samples).all()
    return folder / "images"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_files_hold_the_levels_of_the_samples_in_their_order(tmp_path, mode, bits):
    channels, most = MODES[mode]
    bits = min(bits, most)
    dtype = "uint16" if mode == "grey16" else "uint8"
    samples = RNG.integers(0, 2**bits, (9, channels, 5, 6)).astype(dtype)
    samples[0, 0, 0, 0] = 2**bits - 1
    folder = written(tmp_path, samples, Transform.of_levels((channels, 5, 6), bits, dtype))
    assert sorted(file.name for file in folder.iterdir()) == [f"{k:05d}.png" for k in range(9)]
    for k, sample in enumerate(samples):
        with Image.open(folder / f"{k:05d}.png") as image:
            pixels = np.asarray(image)
        assert (pixels.reshape(5, 6, channels) == np.moveaxis(sample, 0, -1)).all()
    again = ImageFolder(str(folder), mode=mode, cache=str(tmp_path / "cache")).load()
    found = [*again.transform.finish(again.train), *again.transform.finish(again.heldout)]
    assert sorted(x.tobytes() for x in found) == sorted(x.tobytes() for x in samples)


def test_a_data_set_of_hugging_face_reads_the_folder(tmp_path):
    pytest.importorskip("datasets")
    samples = RNG.integers(0, 256, (9, 3, 5, 6)).astype("uint8")
    folder = written(tmp_path, samples, Transform.of_levels((3, 5, 6)))
    data = HuggingFace(str(folder), cache=str(tmp_path / "cache")).load()
    found = [*data.transform.finish(data.train), *data.transform.finish(data.heldout)]
    assert sorted(x.tobytes() for x in found) == sorted(x.tobytes() for x in samples)


def test_other_levels_and_fractions_fill_the_range_of_8_bits(tmp_path):
    digits = np.arange(17, dtype=np.uint8).repeat(64)[: 16 * 64 + 64].reshape(17, 1, 8, 8)
    folder = written(tmp_path, digits, Digits().load().transform)
    values = [np.asarray(Image.open(folder / f"{k:05d}.png")) for k in range(17)]
    assert [int(x[0, 0]) for x in values] == [round(255 * k / 16) for k in range(17)]
    fractions = Transform("image", (1, 1, 3), 0.0, 1.0, low=-1.0, high=1.0)
    samples = np.array([-1.0, 0.0, 1.0], dtype=np.float32).reshape(1, 1, 1, 3)
    folder = written(tmp_path, samples, fractions)
    assert np.asarray(Image.open(folder / "00000.png")).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("transform", [Transform("table", (3,)), Transform.of_levels((2, 4, 4))])
def test_what_is_no_image_is_refused_and_leaves_no_folder(tmp_path, transform):
    with pytest.raises(InputError, match="format: png is for images of 1, 3 or 4 channels"):
        written(tmp_path, np.zeros((1, *transform.event_shape)), transform)
    assert not any(tmp_path.iterdir())
