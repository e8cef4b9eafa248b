"""The files of a checkpoint as they are read: the folder may be a stranger's, and its manifest right all the same."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scoresde.constraints import NonNegativeInt, checked
from scoresde.errors import InputError, one_line, refuse
from scoresde.files import read_json
from scoresde.training.shards import Shards
from scoresde.training.state import first_not_finite

SCHEMA = 1
_OTHER = "use another checkpoint"
_TYPES: dict[str, Any] = {  # of what state.json holds; the folder may be a stranger's
    "step": NonNegativeInt, "seed": int, "samples_seen": NonNegativeInt, "ema_updates": NonNegativeInt,
    "seconds": float, "record": str | None, "loss": float | None, "lr": float,
    "run_id": str | None, "best": dict | None, "best.step": NonNegativeInt, "best.metric": str, "best.value": float,
    "scaler": dict[str, float], "data": dict, "data.transform": dict, "data.train": int, "data.heldout": int,
    "optimizer": dict, "optimizer.class": str, "optimizer.values": dict[str, float | bool | None],
}  # fmt: skip


class _State(dict[str, Any]):
    """What state.json holds: a key that is not there is an error of the file."""

    def __missing__(self, key: str) -> Any:
        raise InputError(f"checkpoint: its state.json has no {key}; {_OTHER}")


def read_state(file: Path) -> dict[str, Any]:
    """The content of a state.json, with the types that it must have."""
    found = read_json(file, "checkpoint", _State)
    schema, wanted = found["schema"], f"this version reads {SCHEMA}; use the version that wrote it"
    refuse(schema != SCHEMA, f"checkpoint: {file} has schema {schema!r} but {wanted}")
    for key, annotation in _TYPES.items():
        part, _, last = key.rpartition(".")
        place = found.get(part) if part else found
        if place and last in place:
            checked(place[last], f"checkpoint: {file}: {key}", annotation)
    return found


def names(path: Path) -> list[str]:
    """The modules, the optimizer among them, in the folder of a checkpoint."""
    found = (file for file in path.iterdir() if file.suffix == ".safetensors" or file.is_dir())
    return sorted({file.name.removesuffix(".safetensors") for file in found})


def tensors(path: Path, name: str) -> Mapping[str, Tensor]:
    """The tensors of one module in the folder of an intact checkpoint, on the CPU, in one file or one of each process.

    Raises:
        InputError: the file is not as safetensors wants it, or weights are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = path / f"{name}.safetensors"
    parts = path / name
    try:
        found: Mapping[str, Tensor] = Shards(parts) if parts.is_dir() else load_file(file)
        wrong = None if name == "loss" else first_not_finite(found)  # whose state is its own affair
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        file = parts if parts.is_dir() else file
        raise InputError(f"checkpoint: {file} cannot be read ({one_line(error)}); {_OTHER}") from None
    refuse(wrong is not None, f"checkpoint: {file}: {wrong} holds NaN or infinity; {_OTHER}")
    return found
