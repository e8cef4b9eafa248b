"""Tensors of which each process holds some rows (`DTensor` of torch), whole again where that is needed, and on disk.

A module of a checkpoint that is cut is a folder of safetensors files, one of each process, in the format of
`HuggingFaceStorageWriter` of torch.distributed.checkpoint, which knows no pickle. torch imports all this slowly, so it
happens where something is cut.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.errors import InputError, one_line
from scoresde.parallel import joined


def is_cut(tensor: Any) -> bool:
    """Whether each process holds only a part of a tensor, or may."""
    return hasattr(tensor, "placements")


def local(tensor: Any) -> Tensor:
    """What this process holds of a tensor: the same memory."""
    own: Tensor = tensor.detach().to_local() if is_cut(tensor) else tensor
    return own


def rows(whole: Tensor, like: Any) -> Tensor:
    """What this process holds of a tensor that is cut as `like` is."""
    if is_cut(whole) or not is_cut(like) or not like.placements[0].is_shard():
        return local(whole)
    parts, rank = whole.chunk(like.device_mesh.size()), like.device_mesh.get_local_rank()
    return parts[rank] if rank < len(parts) else whole[:0]


def _full(tensor: Any) -> Tensor:
    every: Tensor = tensor.detach().full_tensor()
    return every


def cut(own: Tensor, like: Any) -> Tensor:
    """The tensor of which this process holds `own`, in the place of `like`, which may be of another type."""
    from torch.distributed.tensor import DTensor

    made: Tensor = DTensor.from_local(
        own, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    return made


@torch.no_grad()
def fill(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Copy whole tensors, or those of a `Shards`, into tensors of the same names that may be cut."""
    if isinstance(saved, Shards):
        saved.load(dict(own))
        return
    for name, tensor in own.items():
        local(tensor).copy_(rows(saved[name], tensor))


def unite(*modules: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """Give every process all rows of the parameters; returns each module, the name, and the parameter as it was."""
    found = [(m, name, p) for one in modules for m in one.modules() for name, p in m._parameters.items() if is_cut(p)]
    made: dict[Any, nn.Parameter] = {}  # parameters with several names stay one
    with joined().together(computing=True):
        for module, name, p in found:
            if p is not None and p not in made:
                made[p] = nn.Parameter(_full(p), p.requires_grad)
            module._parameters[name] = made[p]
    return [(module, name, p) for module, name, p in found if p is not None]


@contextmanager
def whole(*modules: nn.Module) -> Iterator[None]:
    """A context in which every process has all rows of the parameters, to read them; all processes enter it."""
    before = unite(*modules)
    try:
        yield
    finally:
        for module, name, p in before:
            module._parameters[name] = p


def write(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write what each process holds into a file of its own; all processes call it, on a file system that they share.

    Raises:
        InputError: one of them cannot.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    try:
        with joined().together(computing=True):
            save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        rank, (failure, _) = next(iter(error.failures.items()))
        raise InputError(f"{folder}: process {rank} cannot write ({one_line(failure)})") from error


class Shards(Mapping[str, Tensor]):
    """The tensors in a folder that `write` has made, each read when it is asked for, on the CPU.

    Args:
        folder: of the files, which may be a stranger's.

    Raises:
        ValueError, KeyError, TypeError: files that `write` has not made.
    """

    def __init__(self, folder: Path) -> None:
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

        reader = self._reader = HuggingFaceStorageReader(str(folder))
        about = reader.read_metadata()
        self._kinds: dict[str, Any] = dict(sorted(about.state_dict_metadata.items()))
        reader.read_metadata = lambda: about  # type: ignore[method-assign]  # once, not for every tensor
        for name, kind in self._kinds.items():
            begin = 0
            for part in sorted(kind.chunks, key=lambda c: tuple(c.offsets) + tuple(c.sizes)):
                wanted = (begin, *[0] * (len(kind.size) - 1))[: len(kind.size)]
                if tuple(part.offsets) != wanted or tuple(part.sizes[1:]) != tuple(kind.size[1:]):
                    raise ValueError(f"the rows of {name} do not follow each other")
                begin += part.sizes[0] if part.sizes else 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def __getitem__(self, name: str) -> Tensor:
        kind = self._kinds[name]
        found = torch.empty(kind.size, dtype=kind.properties.dtype)
        self.load({name: found})
        return found

    def load(self, own: dict[str, Any]) -> None:
        """Read into tensors of the same names and shapes; of those that are cut, what this process holds."""
        from torch.distributed.checkpoint.state_dict_loader import load

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is", UserWarning)  # each process reads for itself
            load(own, storage_reader=self._reader, no_dist=True)
