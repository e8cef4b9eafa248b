"""Whether a network, a batch and samples fit into memory, found before they are made."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np
import torch

from scoresde.build import build, resolve, within
from scoresde.data import Transform
from scoresde.errors import TARGET, InputError, one_line
from scoresde.room import memory, require_room
from scoresde.runs.config import leaves

_VALUE = 4  # bytes of a float32
_BATCHES = 4  # of that shape which a step holds at least: clean data, noise, input and output of the network
_WEIGHTS = 4  # copies of the weights in a training at least: their gradients, an average and the two moments of Adam


def require_network(model: Any, event_shape: Sequence[int], device: str, allow: Sequence[str], copies: int = 1) -> None:
    """Refuse the configuration of a model whose network is too large; it is made without memory for its weights.

    Raises:
        InputError: names the largest number of its settings, what the weights take, and what there is.
    """
    cfg = model.get("net") if isinstance(model, Mapping) else None
    if not isinstance(cfg, Mapping) or not within(resolve(cfg[TARGET], "model.net", allow).__module__, ("scoresde",)):
        return  # a network of the user's may do anything when it is made
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            net = build(cfg, "model.net", allow, torch.nn.Module, event_shape=tuple(event_shape))
    except (RuntimeError, TypeError, OverflowError) as error:  # sizes beyond those of any tensor
        raise InputError(f"model.net: cannot be made ({one_line(error).split('. ')[0]}); give smaller sizes") from None
    size = copies * sum(p.numel() * p.element_size() for p in net.parameters())
    numbers = [(max(v) if isinstance(v, list) else v, k) for k, v in leaves(cfg) if _is_size(v)]
    value, key = max(numbers, default=(0, "width"))
    require_room(f"model.net.{key}", value, size, there=_room(device))


def require_batch(key: str, rows: int, event_shape: Sequence[int], device: str) -> None:
    """Refuse a batch that is too large for the device."""
    _require(key, rows, _BATCHES * _VALUE * math.prod(event_shape), _room(device))


def require_samples(n: int, event_shape: Sequence[int]) -> None:
    """Refuse more samples than the memory of the host can hold."""
    _require("n", n, _VALUE * math.prod(event_shape), memory())


def require_disk(n: int, transform: Transform, place: Path) -> None:
    """Refuse more samples than the disk of a folder has room for."""
    _require("n", n, np.dtype(transform.dtype).itemsize * math.prod(transform.event_shape), disk_usage(place).free)


def _require(key: str, value: int, each: int, there: int) -> None:
    require_room(key, value, value * each, there // each, there)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, list) and bool(value) and all(map(_is_size, value)))


def _room(device: str) -> int:
    """Bytes of memory of a device."""
    return int(torch.cuda.get_device_properties(device).total_memory) if device.startswith("cuda") else memory()


def training_fits(cfg: Mapping[str, Any], trainer: Any, event_shape: Sequence[int], device: str, allow: Any) -> None:
    """Refuse a training whose network, batch or final samples do not fit."""
    require_samples(cfg["n"], event_shape)
    network_fits(cfg, trainer, event_shape, device, allow)


def network_fits(cfg: Mapping[str, Any], trainer: Any, event_shape: Sequence[int], device: str, allow: Any) -> None:
    """Refuse a training whose network or batch does not fit."""
    key = "micro_batch" if trainer.micro_batch else "batch_size"
    require_batch(f"trainer.{key}", getattr(trainer, key), event_shape, device)
    require_network(cfg["model"], event_shape, device, allow, _WEIGHTS)
