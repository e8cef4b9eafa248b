"""Decoded images on disk, and batches of them: the same items in the same order as from memory."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from scoresde.data import Dataset, ImageFolder, Transform
from scoresde.data.dataset import Stored, assemble
from scoresde.data.images import Item, kept
from scoresde.errors import InputError
from scoresde.training.batches import Batches

CPU = torch.device("cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for k, pixels in enumerate(rng.integers(0, 256, (20, 4, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{k}.png")
    return folder


def loaded(photos: Path, **settings: object) -> Dataset:
    return ImageFolder(str(photos), mode="grey", cache=str(photos.parent / "cache"), **settings).load()  # type: ignore[arg-type]


def test_images_on_disk_are_those_in_memory(photos: Path, monkeypatch) -> None:
    small = loaded(photos)
    monkeypatch.setattr("scoresde.data.dataset._IN_MEMORY", 100)
    large = loaded(photos)
    assert isinstance(small.items, Tensor)
    assert isinstance(large.items, Stored)
    assert torch.equal(large.items[:], small.train)
    assert torch.equal(large.heldout, small.heldout)
    assert (large.items.shape, large.event_shape) == ((18, 1, 4, 3), (1, 4, 3))
    assert large.items.nbytes == small.items.nbytes
    assert torch.equal(large.items[torch.tensor([5, 2, 5])], small.train[[5, 2, 5]])
    assert (large.sigma_data, large.sigma_max) == (small.sigma_data, small.sigma_max)


@pytest.mark.parametrize("flip", [False, True])
def test_batches_are_the_same_from_disk_and_from_memory_in_any_order(photos: Path, monkeypatch, flip: bool) -> None:
    small = Batches(loaded(photos).items, 3, CPU, flip)
    monkeypatch.setattr("scoresde.data.dataset._IN_MEMORY", 100)
    large = Batches(loaded(photos).items, 3, CPU, flip)
    for position, size in [(0, 4), (4, 4), (8, 4), (12, 4), (35, 50), (4, 4), (4, 5), (9, 5), (10**6, 7)]:
        assert torch.equal(large.at(position, size), small.at(position, size)), (position, size)


def test_the_next_batches_are_read_meanwhile_by_others(photos: Path, monkeypatch) -> None:
    monkeypatch.setattr("scoresde.data.dataset._IN_MEMORY", 100)
    items = loaded(photos).items
    assert isinstance(items, Stored)
    seen, all_read = [], threading.Event()
    read = Stored.__getitem__

    def spied(self: Stored, which: Tensor) -> Tensor:
        seen.append(threading.current_thread())
        if len(seen) == 9:
            all_read.set()
        return read(self, which)

    monkeypatch.setattr(Stored, "__getitem__", spied)
    batches = Batches(items, 0, CPU)
    batches.at(0, 2)
    assert all_read.wait(10)
    batches.at(2, 2)
    assert len(seen) <= 10  # the second was there, and one more is asked for
    assert threading.current_thread() not in seen


def test_half_of_the_images_are_mirrored_anew_in_each_epoch() -> None:
    x = torch.arange(400.0).reshape(100, 1, 1, 4)
    batches, whole = Batches(x, 5, CPU, flip=True), Batches(x, 5, CPU)
    mirrored = []
    for epoch in range(2):
        seen, plain = batches.at(100 * epoch, 100), whole.at(100 * epoch, 100)
        turned = (seen != plain).flatten(1).any(1)
        assert torch.equal(torch.where(turned[:, None, None, None], seen.flip(-1), seen), plain)
        assert 30 < int(turned.sum()) < 70
        mirrored.append(set((plain[turned, 0, 0, 0] // 4).tolist()))
        # item p is a function of p alone, however batches are cut
        assert torch.equal(torch.cat([batches.at(100 * epoch, 33), batches.at(100 * epoch + 33, 67)]), seen)
    assert mirrored[0] != mirrored[1]


def test_a_changed_file_is_decoded_anew_and_a_damaged_cache_too(photos: Path) -> None:
    first, cache = loaded(photos), photos.parent / "cache"
    assert len(list(cache.glob("*[0-9a-f].npy"))) == 1
    Image.fromarray(np.zeros((4, 3), np.uint8)).save(photos / "0.png")
    second = loaded(photos)
    assert not torch.equal(torch.cat([first.train, first.heldout]), torch.cat([second.train, second.heldout]))
    for file in cache.glob("images-*.npy"):
        file.write_bytes(file.read_bytes()[:-1])
    assert torch.equal(loaded(photos).train, second.train)
    assert torch.equal(loaded(photos, size=2).train, loaded(photos, size=2).train)
    assert not [*cache.glob(".*")]


def test_nothing_half_written_is_left_and_numbers_of_items_fit_the_header(tmp_path: Path) -> None:
    def items(n: int, broken: bool = False):
        for k in range(n):
            yield Item(str(k), np.full((1, 2, 2 + (broken and k == 3)), k % 256, np.uint8), k)

    with pytest.raises(InputError, match=r"data\.size: not given, but 0 is 2 x 2 pixels and 3 is 3 x 2"):
        kept(items(5, True), 5, "broken", str(tmp_path))
    with pytest.raises(InputError, match="1 images"):
        kept(items(1), 1, "one", str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    found = kept(items(1000), None, "all", str(tmp_path))
    assert isinstance(found.levels, np.memmap)
    assert (found.levels[:, 0, 1, 1] == np.arange(1000) % 256).all()
    assert found.labels is not None
    assert (found.labels == np.arange(1000)).all()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^data\.cache: .*give another folder$"):
        kept(items(5), 5, "five", str(tmp_path / "file"))


def test_figures_see_as_many_items_as_fit_into_memory_with_their_classes(tmp_path: Path, monkeypatch) -> None:
    made = (Item(str(k), np.full((1, 2, 2), k, np.uint8), k) for k in range(50))
    images = kept(made, 50, "numbered", str(tmp_path))
    monkeypatch.setattr("scoresde.data.dataset._IN_MEMORY", 16 * 20)  # bytes of twenty images in float32
    data = assemble(images.levels, Transform.of_levels((1, 2, 2)), (np.arange(5, 50), np.arange(5)), images.labels)
    assert data.train_labels is not None
    assert data.transform.finish(data.train)[:, 0, 0, 0].tolist() == data.train_labels.tolist()
    assert data.train_labels.tolist() == list(range(5, 50, 3))
    assert (len(data.items), data.labels is not None and len(data.labels)) == (45, 45)


def test_a_large_set_is_not_all_the_same_unless_it_is(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("scoresde.data.dataset._IN_MEMORY", 1)
    same = kept((Item(str(k), np.ones((1, 2, 2), np.uint8)) for k in range(5)), 5, "same", str(tmp_path)).levels
    with pytest.raises(InputError, match="nothing to learn"):
        assemble(same, Transform.of_levels((1, 2, 2)), (np.arange(4), np.arange(4, 5)))
