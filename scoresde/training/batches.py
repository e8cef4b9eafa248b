"""Which training items belong to which step: a pure function of the seed and one integer, the data position."""

import torch
from torch import Tensor

from scoresde.noise import permutation

_SHARE_OF_DEVICE = 0.25  # of the free device memory that the data may take; the rest is for weights and activations


def _fits(data: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    return data.nbytes <= _SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]


class Batches:
    """Batches cut from the endless sequence of epochs, each a permutation of all items.

    Item number p of the sequence is permutation(seed, "data", p // N)[p % N]; a batch is any run of consecutive p, may
    cross epochs, and may be longer than the data. Data that is small beside the memory of the device lies there as one
    tensor; other data stays in pinned memory on the host.

    Args:
        data: all training items (N, *event).
        seed: decides the order.
        device: where batches are wanted.
    """

    def __init__(self, data: Tensor, seed: int, device: torch.device) -> None:
        self._device, self._seed = device, seed
        self._data = data.to(device) if _fits(data, device) else data.pin_memory()
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def at(self, position: int, size: int) -> Tensor:
        """Items number position, ..., position + size - 1 of the sequence, (size, *event)."""
        parts: list[Tensor] = []
        while size > 0:
            epoch, offset = divmod(position, len(self._data))
            part = self._permutation(epoch)[offset : offset + size]
            parts.append(part)
            position, size = position + len(part), size - len(part)
        index = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self._data.index_select(0, index).to(self._device, non_blocking=True)

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            order = permutation(self._seed, "data", epoch, len(self._data))
            self._epoch, self._order = epoch, order.to(self._data.device)
        return self._order
