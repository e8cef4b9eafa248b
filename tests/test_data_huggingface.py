"""Sets of the datasets library: every local form gives one data set, decoded once; nothing is fetched."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scoresde.data import Dataset, HuggingFace, ImageFolder
from scoresde.errors import InputError

datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """The same images as a folder, as parquet files, and as save_to_disk leaves them."""
    root = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 6, 5, 3), dtype=np.uint8)
    rows = {"picture": [Image.fromarray(p) for p in pixels], "kind": [k % 3 for k in range(24)], "size": [1.5] * 24}
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "kind": datasets.ClassLabel(names=["a", "b", "c"]),
            "size": datasets.Value("float32"),
        }
    )
    whole = datasets.Dataset.from_dict(rows, features=features)
    parts = datasets.DatasetDict({"train": whole.select(range(20)), "test": whole.select(range(20, 24))})
    parts.save_to_disk(str(root / "saved"))
    whole.save_to_disk(str(root / "saved_whole"))
    (root / "parquet").mkdir()
    for name, part in parts.items():
        part.to_parquet(str(root / "parquet" / f"{name}-00000-of-00001.parquet"))
    for k, p in enumerate(pixels[:20]):
        folder = root / "pictures" / "train" / "abc"[k % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(p).save(folder / f"{k:02}.png")
    return root


def same(a: Dataset, b: Dataset) -> bool:
    assert a.train_labels is not None
    assert b.train_labels is not None
    whole = torch.equal(a.train, b.train) and torch.equal(a.heldout, b.heldout)
    return whole and torch.equal(a.train_labels, b.train_labels)


def test_every_form_of_a_set_is_the_same(root: Path, capfd) -> None:
    expected = HuggingFace(str(root / "saved"), held_out_split="test").load()
    assert expected.event_shape == (3, 6, 5)
    assert (len(expected.train), len(expected.heldout)) == (20, 4)
    assert expected.train_labels is not None
    assert expected.train_labels.tolist() == [k % 3 for k in range(20)]
    assert same(expected, HuggingFace(str(root / "parquet"), held_out_split="test").load())
    assert same(expected, HuggingFace(str(root / "parquet"), held_out_split="test", streaming=True).load())
    assert same(expected, HuggingFace(str(root / "saved"), held_out_split="test", streaming=True).load())
    file = str(root / "parquet" / "train-00000-of-00001.parquet")
    images = {tuple(x.flatten().tolist()) for x in expected.train}
    for one in (HuggingFace(file, held_out=0.25), HuggingFace(str(root / "pictures"), held_out=0.25)):
        data = one.load()
        assert (len(data.train), len(data.heldout)) == (15, 5)
        assert {tuple(x.flatten().tolist()) for x in torch.cat([data.train, data.heldout])} == images
    grey = HuggingFace(str(root / "pictures"), size=4, mode="grey", held_out=0.25).load()
    pairs = (grey, ImageFolder(str(root / "pictures"), size=4, mode="grey", held_out=0.25).load())
    sums = [sorted(torch.cat([d.train, d.heldout]).flatten(1).sum(1).tolist()) for d in pairs]
    assert sums[0] == sums[1]
    assert capfd.readouterr().err == ""


def test_columns_and_limits_are_chosen(root: Path) -> None:
    data = HuggingFace(
        str(root / "saved"), image="picture", label="kind", limit=8, held_out=0.25, streaming=True
    ).load()
    assert (len(data.train), len(data.heldout)) == (6, 2)
    other = HuggingFace(str(root / "saved"), split="test", held_out=0.25).load()
    assert len(other.train) == 3


def test_images_are_decoded_once(root: Path, tmp_path: Path, monkeypatch) -> None:
    one = HuggingFace(str(root / "parquet"), held_out=0.25, cache=str(tmp_path))
    first = one.load()
    monkeypatch.setattr("scoresde.data.huggingface.levels", lambda *_: pytest.fail("decoded again"))
    assert same(first, one.load())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # older datasets leave a file open
@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({}, ["data.path", "not given", "data.path=zalando"]),
        ({"path": "pandas"}, ["data.path: pandas", "owner/name"]),
        ({"path": "nobody/nothing"}, ["data.path: nobody/nothing", "cannot be read"]),
        ({"path": "saved", "split": "exam"}, ["data.split: exam", "train, test"]),
        ({"path": "parquet", "split": "exam"}, ["parquet, part exam", "cannot be read"]),
        ({"path": "saved", "image": "photo"}, ["data.image: photo", "picture, kind, size"]),
        ({"path": "saved", "image": "kind"}, ["data.image", "kind holds no images", "picture"]),
        ({"path": "saved", "label": "size"}, ["data.label", "item 0 of train", "1.5", "integers"]),
        ({"path": "notes.pkl"}, ["notes.pkl", ".pkl", ".parquet"]),
        ({"path": "table.csv"}, ["data.image", "no column of images among a, b"]),
        ({"limit": 1}, ["limit: 1", ">= 2"]),
        ({"mode": "hsv"}, ["mode: 'hsv'"]),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(root: Path, settings: dict, parts: list[str]) -> None:
    (root / "notes.pkl").write_bytes(b"never read")
    (root / "table.csv").write_text("a,b\n1,2\n")
    if (root / settings.get("path", "none")).exists():
        settings = {**settings, "path": str(root / settings["path"])}
    with pytest.raises(InputError) as caught:
        HuggingFace(**settings).load()
    message = str(caught.value)
    print(message)
    assert "\n" not in message
    assert all(part in message for part in parts), message


def test_without_the_library_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'scoresde\[data\]'"):
        HuggingFace("a/b").load()
