"""Data: ranges of images, what is an image, a class or a source, and means of many numbers, by their exact values."""

import numpy as np
import pytest
import torch

from scoresde.data import ArrayFile, Dataset, Digits, Rings, SwissRoll, Transform, items, memory
from scoresde.data.dataset import DataSource
from scoresde.errors import InputError


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [((0.0, 0.3), 0, 1), ((0.2, 1.0), 0, 1), ((-0.5, 0.5), -1, 1), ((-1.0, 1.0), -1, 1), ((2.0, 10.0), 2, 10),
     ((0.0, 1.5), 0, 1.5), ((-1.5, 0.0), -1.5, 0)],
)  # fmt: skip
def test_images_of_fractions_run_over_a_usual_range_or_their_own(values, low, high):
    transform = items._of_images(np.array(values, np.float32).reshape(2, 1, 1, 1))
    assert (transform.low, transform.high) == (low, high)
    ends = torch.tensor([low, (low + high) / 2, high]).reshape(3, 1, 1, 1)
    assert transform.encode(ends).flatten().tolist() == pytest.approx([-1, 0, 1])


def test_two_features_have_one_unit_if_their_spreads_are_alike():
    x = np.random.default_rng(0).standard_normal(100)
    for factor, alike in ((10 * 0.99, True), (10 * 1.01, False)):
        for points in ([x, factor * x[::-1]], [factor * x, x]):
            assert items._alike(np.stack(points, axis=1)) == alike


def test_images_of_one_number_are_zero_in_model_units():
    transform = items._of_images(np.full((2, 1, 1, 1), 5.0))
    assert transform.encode(torch.tensor([5.0, 6.0]).reshape(2, 1, 1, 1)).flatten().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("shape", "kind", "says"),
    [
        ((40, 9, 7), "float32", None),
        ((40, 4, 3), "float32", None),
        ((40, 2, 1), "float32", None),
        ((9, 8, 8), "uint8", None),
        ((9, 8, 8), "float32", "could be grey images or series"),
        *(((32, 5, channels), "float32", "looks like one image") for channels in (1, 3, 4)),
        ((32, 5, 2), "float32", None),
        ((2, 1, 4, 4, 4), "float32", None),
        ((2, 1, 2, 2, 2, 2), "float32", "give items of at most 4 axes"),
    ],
)
def test_what_may_be_images_without_their_axis_of_channels_is_refused(shape, kind, says):
    if says is None:
        memory._check_axes(np.zeros(shape, kind))
        return
    with pytest.raises(InputError, match=says):
        memory._check_axes(np.zeros(shape, kind))


@pytest.mark.parametrize(
    ("home", "own"),
    [("mine", True), ("scoresde.data.toys", True), ("scoresde.runs", False), ("scoresdes.x", True), ("__main__", True)],
)
def test_a_source_is_of_the_data_or_of_the_user(home, own):
    assert issubclass(type("Loads", (), {"load": None, "__module__": home}), DataSource) == own
    assert not issubclass(type("Other", (), {"__module__": home}), DataSource)


def test_items_of_classes_are_those_with_their_labels():
    x = torch.arange(24.0).reshape(12, 2)
    labels = torch.tensor([0, 1, 2, 1, 0, 2, 1, 2])
    data = Dataset(x[:8], x[8:], Transform("points", (2,)), {"class": labels}, {"class": torch.tensor([2, 0, 1, 2])})
    some = data.of_classes([2, 1])
    assert torch.equal(some.items, x[[1, 2, 3, 5, 6, 7]])
    assert some.labels.tolist() == [1, 2, 1, 2, 1, 2]
    assert torch.equal(some.heldout, x[[8, 10, 11]])
    assert some.heldout_labels.tolist() == [2, 1, 2]
    assert data.classes == 3


def test_items_with_nan_are_dropped_with_their_classes(tmp_path):
    values = np.arange(60.0).reshape(20, 3)
    values[[3, 11], [0, 2]] = np.nan
    kept = np.delete(values, [3, 11], axis=0)
    np.savez(tmp_path / "x.npz", x=values, y=np.arange(20) // 3)
    np.save(tmp_path / "x.npy", values)
    for name in ("x.npz", "x.npy"):
        data = ArrayFile(str(tmp_path / name), missing="drop").load()
        found = data.transform.finish(torch.cat([data.train, data.heldout]))
        order = found[:, 0].argsort()
        assert found[order] == pytest.approx(kept, abs=1e-4)
        if name == "x.npz":
            labels = torch.cat([data.labels, data.heldout_labels]).numpy()[order]
            assert labels.tolist() == np.delete(np.arange(20) // 3, [3, 11]).tolist()


def test_an_archive_is_a_trap_only_if_it_shrinks_more_than_200_times(tmp_path, monkeypatch):
    monkeypatch.setattr("scoresde.data.numpy_files._HARMLESS", 1000)
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).integers(0, 9, (500, 2)))
    assert len(ArrayFile(str(tmp_path / "a.npz")).load().items) == 450
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros((50_000, 2)))
    with pytest.raises(InputError, match="at most 200 times are read"):
        ArrayFile(str(tmp_path / "b.npz")).load()


def test_the_mean_of_many_numbers_of_float32_is_taken_in_float64():
    values = (1000.1 + np.random.default_rng(0).random((300_000, 2))).astype(np.float32)
    transform = Transform.standardising(values, "table", per_feature=True)
    assert transform.mean == pytest.approx(values.astype(np.float64).mean(axis=0), rel=1e-12)
    assert transform.scale == pytest.approx(values.astype(np.float64).std(axis=0), rel=1e-9)


def test_what_sources_are_where_nothing_is_said():
    data = Digits().load()
    assert (len(data.train), len(data.heldout)) == (1438, 359)  # a fifth
    assert (Rings().noise, SwissRoll().noise) == (0.1, 0.05)
