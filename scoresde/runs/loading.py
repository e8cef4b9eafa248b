"""The network of a run folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from scoresde.build import build
from scoresde.data import Transform
from scoresde.errors import InputError, refuse
from scoresde.parallel import world
from scoresde.runs.config import section
from scoresde.runs.sizes import require_network
from scoresde.sde import SDE
from scoresde.training import checkpoint as checkpoints
from scoresde.training.state import load_module

M = TypeVar("M", bound=torch.nn.Module)


@dataclass
class Loaded(Generic[M]):
    """A network from a run folder, in evaluation mode, with the other attributes of `Run`."""

    path: Path
    model: M
    transform: Transform
    event_shape: tuple[int, ...]
    config: dict[str, Any]
    step: int


def loaded(
    path: Path,
    cfg: dict[str, Any],
    kind: Any,
    checkpoint: str | int = "last",
    device: str = "auto",
    weights: str = "ema",
    allow: Sequence[str] = (),
    net: torch.nn.Module | None = None,
    sde: SDE | None = None,
) -> Loaded[M]:
    """What `load` reads from the folder of a run.

    Args:
        path: the folder.
        cfg: its configuration.
        kind: the class of the model.
        checkpoint: see `load`.
        device: likewise.
        weights: likewise.
        allow: likewise.
        net: likewise.
        sde: likewise.

    Raises:
        InputError: likewise.
    """
    device = pick_device(device)
    found = checkpoints.read(checkpoints.find(path, str(checkpoint)))
    kept = found.averages | ({"raw": found.modules["model"]} if "model" in found.modules else {})
    place = f"{path}, step {found.step}"
    refuse(weights not in kept, f"weights: {weights!r} is not one of {', '.join(kept)}, which {place}, holds")
    transform = Transform.from_dict(found.state["data"]["transform"])
    stored_model = section(cfg, "model", path)
    forward = section(cfg, "sde", path) if sde is None else sde
    network = stored_model.get("net") if net is None else net
    for key, part, what in (("sde", forward, "an SDE"), ("net", network, "a network")):
        refuse(part is None, f"{key}: {path} was trained with {what} of your own; give an equal one with {key}=")
    shape, about = tuple(transform.event_shape), {**stored_model, "net": network}
    require_network(about, shape, device, allow)
    model = build(about, "model", allow, kind, sde=build(forward, "sde", allow, SDE), event_shape=shape)
    load_module(model, kept[weights], place)
    return Loaded(path, model.to(device).eval(), transform, shape, cfg, found.step)


def pick_device(name: str) -> str:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` means here.

    Raises:
        InputError: there is no such device.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = ["cpu", *(f"cuda:{i}" for i in range(count)), *["cuda"][:count]]  # the last one is what auto means
    group = world()
    if group.own_device and name != "cpu":
        wanted = "are started, each with a device of its own; give auto or cuda"
        refuse(name not in ("auto", "cuda"), f"device: {name} is one, but {group.size} processes {wanted}")
        return f"cuda:{group.local}"
    if name not in ("auto", *there):
        found = f"there are {count or 'no'} CUDA devices on this machine"
        raise InputError(f"device: {name} is not there, {found}; give auto, cpu, cuda or cuda:0")
    return there[-1] if name == "auto" else name
