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

from scoresde.errors import InputError, one_line, refuse

_SAFE = "ask its author for safetensors, or write them where you trust the file: save_file(net.state_dict(), ...)"


@dataclass
class Source:
    """What a foreign file holds.

    Attributes:
        path: the file or folder.
        raw: the weights by name.
        averages: their moving average in the order of the parameters, or by name; None if there is none.
        settings: the configurations of a folder of diffusers.
        beside: numbers that stand beside the weights, such as the training step.
    """

    path: Path
    raw: dict[str, Tensor]
    averages: list[Tensor] | dict[str, Tensor] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, int | float] = field(default_factory=dict)


def read_file(path: str | Path) -> Source:
    """Read a checkpoint (.pth, .pt, .safetensors, .npz) or a folder of diffusers.

    Raises:
        InputError: it is not there, cannot be read, or would have to run code to be read; then nothing was run.
    """
    place = Path(path).expanduser()
    refuse(not place.exists(), f"file: {place} does not exist (seen from {Path.cwd()})")
    if place.is_dir():
        return _folder(place)
    return _sorted(place, _content(place))


def read_settings(config: str | Path | Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The original's configuration as plain values: a mapping, a JSON or YAML file, or nothing.

    Raises:
        InputError: the file is not there or cannot be read.
    """
    if not isinstance(config, str | Path):
        return config or {}
    place = Path(config).expanduser()
    refuse(not place.is_file(), f"config: there is no file {place} (seen from {Path.cwd()})")
    return _mapping(place, "config")


def _mapping(path: Path, key: str) -> dict[str, Any]:
    """The content of a JSON or YAML file; messages begin with the key."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        hint = "; python/tuple and the like are not plain YAML, write [1, 2, 2]" if "python/" in str(error) else ""
        raise InputError(f"{key}: {path} is not readable ({one_line(error)}){hint}") from None
    if not isinstance(content, dict):
        raise InputError(f"{key}: {path} holds {type(content).__name__}, not keys and values")
    return content


def _content(path: Path) -> Mapping[str, Any]:
    """What a file holds by name."""
    kinds = {".npz": ("arrays", _arrays), ".safetensors": ("safetensors", _safetensors)}
    kind, read = kinds.get(path.suffix, ("a checkpoint", _pickled))
    try:
        content = read(path)
    except Exception as error:  # whatever a damaged file leads to
        text = one_line(error)
        if isinstance(error, pickle.UnpicklingError) or "allow_pickle" in text:
            raise InputError(f"file: {path} is refused: {_reason(text)}; nothing of it was run; {_SAFE}") from None
        raise InputError(f"file: {path} cannot be read as {kind} ({text[:200]})") from None
    if not isinstance(content, Mapping):
        raise InputError(f"file: {path} holds {type(content).__name__}, not weights by name")
    return content


def _arrays(path: Path) -> dict[str, Tensor]:
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _pickled(path: Path) -> Any:
    with warnings.catch_warnings(action="ignore"):  # of protocols and formats, which the answer makes plain
        return torch.load(path, map_location="cpu", weights_only=True)


def _reason(text: str) -> str:
    """What torch says is wrong, without its advice to run the code."""
    named = re.search(r"(?:GLOBAL|global|class) ([\w.]+)", text)
    if named and ("." in named[1]):
        return f"to read it, {named[1]} would have to be called, which is code of the file's choosing"
    return "it is a pickle of more than tensors, and to read it code of the file's choosing would have to run"


def _sorted(path: Path, content: Mapping[str, Any]) -> Source:
    """Separate the weights from what is stored beside them."""
    model, ema = _section(content, "model"), _section(content, "ema")
    if not isinstance(content.get("model"), Mapping):
        sets = (_section(content, key) for key in ("state_dict", "ema", "net"))  # customs for one set of weights
        return Source(path, _weights(next(filter(None, sets), content), path))
    source = Source(path, _weights(model, path), beside=_numbers(content) | _numbers(ema))
    if isinstance(shadow := ema.get("shadow_params"), list):
        source.averages = list(_weights({f"ema.shadow_params.{i}": t for i, t in enumerate(shadow)}, path).values())
    elif ema:
        source.averages = _weights(ema, path)
    return source


def _section(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    return value if isinstance(value, Mapping) else {}


def _numbers(content: Mapping[str, Any]) -> dict[str, int | float]:
    return {key: value for key, value in content.items() if isinstance(value, int | float)}


def _weights(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Tensors by name, without the prefix that a wrapper puts before all of them."""
    other = [f"{name} is no tensor" for name, value in content.items() if not isinstance(value, Tensor)]
    fault = next(iter(other), "" if content else "it is empty")
    refuse(bool(fault), f"file: {path} does not hold weights by name ({fault})")
    tensors = {str(name): tensor for name, tensor in content.items()}
    for wrapper in ("module.", "model."):  # of parallel computation, and of EDM's preconditioning
        if all(name.startswith(wrapper) for name in tensors):
            return {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors


def _folder(path: Path) -> Source:
    """A folder of diffusers: that of a network, or that of a pipeline with `unet` and `scheduler` in it."""
    unet = path / "unet" if (path / "unet").is_dir() else path
    found = (unet / "config.json").is_file()
    refuse(not found, f"file: the folder {path} has no config.json; give one of diffusers, or a file")
    settings = {"unet": _mapping(unet / "config.json", "file")}
    for schedule in (*path.glob("scheduler/scheduler_config.json"), *path.glob("scheduler_config.json")):
        settings["scheduler"] = _mapping(schedule, "file")
    files = sorted(unet.glob("diffusion_pytorch_model*.safetensors"))
    shown = ", ".join(f.name for f in files) or "none"
    pickled = "; its .bin is a pickle" if any(unet.glob("*.bin")) else ""
    wanted = f"file: {unet} must hold one diffusion_pytorch_model.safetensors"
    refuse(len(files) != 1, f"{wanted}, and holds {shown}{pickled}")
    return Source(path, _weights(_content(files[0]), files[0]), settings=settings)
