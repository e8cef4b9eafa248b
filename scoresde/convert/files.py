"""Foreign files, read without running anything that they hold."""

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from scoresde.errors import InputError, refuse

_SAFE = (
    "ask its author for a file of safetensors, or write one where you trust the file: save_file(net.state_dict(), ...)"
)


@dataclass
class Source:
    """What a foreign file holds.

    Attributes:
        path: the file or folder.
        raw: the weights by name.
        averages: their moving average in the order of the parameters, or by name; None if there is none.
        settings: what stands beside the weights: the configuration of a diffusers folder, ema's decay.
    """

    path: Path
    raw: dict[str, Tensor]
    averages: list[Tensor] | dict[str, Tensor] | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def read_file(path: str | Path) -> Source:
    """Read a checkpoint (.pth, .pt, .safetensors, .npz) or a folder of diffusers.

    Raises:
        InputError: it is not there, cannot be read, or would have to run code to be read; then nothing was run.
    """
    place = Path(path).expanduser()
    refuse(not place.exists(), f"file: {place} does not exist (seen from {Path.cwd()})")
    if place.is_dir():
        return _folder(place)
    content = _numpy(place) if place.suffix == ".npz" else _tensors(place)
    return _sorted(place, content)


def read_settings(path: str | Path) -> dict[str, Any]:
    """The original's configuration from a JSON or YAML file, as plain values.

    Raises:
        InputError: it is not there or cannot be read.
    """
    place = Path(path).expanduser()
    refuse(not place.is_file(), f"config: there is no file {place} (seen from {Path.cwd()})")
    return _mapping(place, "config")


def _mapping(path: Path, key: str) -> dict[str, Any]:
    """The content of a JSON or YAML file; messages begin with the key."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        hint = "; python/tuple and the like are not plain YAML, write [1, 2, 2]" if "python/" in str(error) else ""
        raise InputError(f"{key}: {path} is not readable ({_line(error)}){hint}") from None
    if not isinstance(content, dict):
        raise InputError(f"{key}: {path} holds {type(content).__name__}, not keys and values")
    return content


def _tensors(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"file: {path} cannot be read as safetensors ({_line(error)})") from None
    try:
        with warnings.catch_warnings(action="ignore"):  # of protocols and formats, which the answer makes plain
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"file: {path} is refused: {_reason(str(error))}; nothing of it was run; {_SAFE}") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise InputError(f"file: {path} cannot be read as a checkpoint ({_line(error)[:200]})") from None
    if not isinstance(content, Mapping):
        raise InputError(f"file: {path} holds {type(content).__name__}, not weights by name")
    return content


def _reason(text: str) -> str:
    """What torch says is wrong, without its advice to run the code."""
    named = re.search(r"(?:GLOBAL|global|class) ([\w.]+)", text)
    if named and ("." in named[1]):
        return f"to read it, {named[1]} would have to be called, which is code of the file's choosing"
    return "it is a pickle of more than tensors, and to read it code of the file's choosing would have to run"


def _numpy(path: Path) -> dict[str, Tensor]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (OSError, ValueError, TypeError, KeyError) as error:
        refused = "pickle" in str(error)
        why = "an array of objects, to read which code would have to run; nothing of it was run" if refused else ""
        raise InputError(f"file: {path} cannot be read as arrays ({why or _line(error)})") from None


def _sorted(path: Path, content: Mapping[str, Any]) -> Source:
    """Separate the weights from what is stored beside them."""
    model, ema = content.get("model"), content.get("ema")
    if isinstance(model, Mapping):
        raw, rest = _weights(model, path), {k: v for k, v in content.items() if isinstance(v, int | float)}
        if isinstance(ema, Mapping) and isinstance(ema.get("shadow_params"), list):
            beside = {k: v for k, v in ema.items() if k in ("decay", "num_updates")}
            return Source(path, raw, list(ema["shadow_params"]), {**rest, **beside})
        averages = _weights(ema, path) if isinstance(ema, Mapping) else None
        return Source(path, raw, averages, rest)
    for key in ("state_dict", "ema", "net"):  # other customs for one set of weights
        if isinstance(content.get(key), Mapping):
            return Source(path, _weights(content[key], path))
    return Source(path, _weights(content, path))


def _weights(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Tensors by name, without the prefix that a parallel wrapper puts before all of them."""
    other = [str(k) for k, v in content.items() if not isinstance(v, Tensor)]
    if other or not content:
        what = f"{other[0]} is no tensor" if other else "it is empty"
        raise InputError(f"file: {path} does not hold weights by name ({what})")
    tensors = {str(k): v for k, v in content.items()}
    wrapped = all(k.startswith("module.") for k in tensors)
    return {k.removeprefix("module."): v for k, v in tensors.items()} if wrapped else tensors


def _folder(path: Path) -> Source:
    """A folder of diffusers: that of a network, or that of a pipeline with `unet` and `scheduler` in it."""
    unet = path / "unet" if (path / "unet").is_dir() else path
    if not (unet / "config.json").is_file():
        raise InputError(f"file: the folder {path} has no config.json; give one of diffusers, or a file")
    settings: dict[str, Any] = {"unet": _mapping(unet / "config.json", "file")}
    for schedule in (path / "scheduler" / "scheduler_config.json", path / "scheduler_config.json"):
        if schedule.is_file():
            settings["scheduler"] = _mapping(schedule, "file")
    files = sorted(unet.glob("diffusion_pytorch_model*.safetensors"))
    if len(files) != 1:
        shown = ", ".join(f.name for f in files) or "none"
        pickled = "; its .bin is a pickle" if list(unet.glob("*.bin")) else ""
        raise InputError(f"file: {unet} must hold one diffusion_pytorch_model.safetensors, and holds {shown}{pickled}")
    return Source(path, _weights(_tensors(files[0]), files[0]), None, settings)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
