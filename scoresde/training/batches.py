"""The training items of each step: a pure function of the seed and one integer, the data position."""

import functools
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from scoresde.data.dataset import Stored
from scoresde.data.transform import Transform
from scoresde.noise import Noise, permutation, take
from scoresde.parallel import World

_IMAGES = 4  # dimensions of a batch of images
_SHARE_OF_DEVICE = 0.25  # of the free device memory, for the data; the rest is for weights and activations
_BATCHES_AHEAD = 8  # read from disk while the device computes
_WORKERS = min(4, os.cpu_count() or 1)  # threads: reading and encoding hold no lock of the interpreter


class Batches:
    """Batches cut from the endless sequence of epochs, each a permutation of all items.

    Item number p of the sequence is permutation(seed, "data", p // N)[p % N]. A batch is any run of consecutive p; it
    may cross epochs and be longer than the data. Data that is small compared with the memory of the device is kept
    there as one tensor; other data stays in pinned memory on the host; items on disk are read ahead by threads.

    Args:
        data: all training items (N, *event).
        seed: decides the order.
        device: of the batches.
        flip: mirror every other image, left to right, with the images of its condition; which ones depends on seed
            and p.
        conditions: of the items, by name.
        dequantise: the transform of items of levels, which are spread over their cells, see `Transform.dequantised`;
            the numbers depend on seed and p.
        world: of several processes, each of which is given those items of a batch that are its `rows`.
    """

    def __init__(
        self,
        data: Tensor | Stored,
        seed: int,
        device: torch.device,
        flip: bool = False,
        conditions: Mapping[str, Tensor] | None = None,
        dequantise: Transform | None = None,
        world: World | None = None,
    ) -> None:
        self._world = world or World()
        self._device, self._seed, self._flip, self._size = device, seed, flip, len(data)
        self._dequantise = dequantise
        place = torch.device("cpu")  # of the indices
        if isinstance(data, Stored):
            self._data: Tensor | _Reader = _Reader(data, device.type == "cuda")
        else:
            fits = device.type != "cuda" or data.nbytes <= _SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]
            self._data = data.to(device) if fits else data.pin_memory()
            place = self._data.device
        self._order = functools.lru_cache(2)(functools.partial(_order, seed, self._size, place))  # of an epoch
        self._conditions = {name: values.to(place) for name, values in (conditions or {}).items()}

    def at(self, position: int, size: int) -> Tensor:
        """Items position, ..., position + size - 1 of the sequence, (size, *event); of several processes, its own."""
        if isinstance(self._data, Tensor):
            batch = self._data.index_select(0, self._index(position, size))
        else:
            following = [position + i * size for i in range(1 + _BATCHES_AHEAD)]
            batch = self._data.read({(first, size): self._index(first, size) for first in following})
        batch = self._placed(batch, position, size)
        if self._dequantise is None:
            return batch
        u = Noise(self._seed, self._world.rows(size, position)).uniform("dequantise", 0, batch.shape)
        return self._dequantise.dequantised(batch, u)

    def conditions(self, position: int, size: int) -> dict[str, Tensor]:
        """The conditions of what `at` returns, by name."""
        return {
            name: self._placed(values.index_select(0, self._index(position, size)), position, size)
            for name, values in self._conditions.items()
        }

    def _placed(self, batch: Tensor, position: int, size: int) -> Tensor:
        """A batch on the device, where every other image is mirrored."""
        batch = batch.to(self._device, non_blocking=True)
        if not self._flip or batch.ndim != _IMAGES:
            return batch
        chosen = Noise(self._seed, self._world.rows(size, position)).uniform("flip", 0, len(batch)) < 0.5
        return torch.where(chosen.to(self._device)[:, None, None, None], batch.flip(-1), batch)

    def _index(self, position: int, size: int) -> Tensor:
        """The indices of the items."""
        first, offset = divmod(position, self._size)
        order = self._order(first)
        for epoch in range(first + 1, 1 + (position + size - 1) // self._size):
            order = torch.cat([order, self._order(epoch)])
        return take(order, self._world.rows(size, offset))


def _order(seed: int, count: int, place: torch.device, epoch: int) -> Tensor:
    return permutation(seed, "data", epoch, count).to(place)


class _Reader:
    """Reads batches from disk ahead of time."""

    def __init__(self, data: Stored, pin: bool) -> None:
        self._data, self._pin = data, pin
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="scoresde-data")
        self._reads: dict[tuple[int, int], Future[Tensor]] = {}

    def read(self, wanted: dict[tuple[int, int], Tensor]) -> Tensor:
        """The first of the wanted batches, each given by the indices of its items; the others are read meanwhile."""
        self._reads = {name: self._reads.get(name) or self._pool.submit(self._one, i) for name, i in wanted.items()}
        return self._reads.pop(next(iter(wanted))).result()

    def _one(self, index: Tensor) -> Tensor:
        batch = self._data[index]
        return batch.pin_memory() if self._pin else batch
