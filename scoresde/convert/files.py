"""Foreign files, read without running anything that they hold."""

import argparse
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde.data.numpy_files import read_npz
from scoresde.errors import InputError, one_line, refuse
from scoresde.files import read_json, read_yaml

_RAW = ("current_model_state", "model", "net_model", "model_state_dict", "state_dict", "net")
_AVERAGED = ("ema", "ema_model", "model_ema", "ema_state_dict", "state_dict_ema")
_INNER = r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."  # anywhere in a name
# what a name begins with where something is wrapped around the network, and whether that is an average
_WRAPPERS = dict.fromkeys(("module", "model", "net", "net_model", "online_model", "unet"), False)
_WRAPPERS |= dict.fromkeys((*_AVERAGED, "averaged_model"), True)
_COUNTERS = ("n_averaged", "num_updates", "initted", "step", "decay")  # of averages
_DEEPEST = 3  # sections within sections
_NETWORKS = ("unet", "transformer")
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
    if path.suffix == ".json":
        return read_json(path, key)
    try:
        content = read_yaml(path, f"{key}: {path}")
    except InputError as error:
        hint = "; python/tuple and the like are not plain YAML, write [1, 2, 2]" if "python/" in str(error) else ""
        raise InputError(f"{error}{hint}") from None
    if not isinstance(content, dict):
        raise InputError(f"{key}: {path} holds {type(content).__name__}, not keys and values")
    return content


def _content(path: Path) -> Mapping[str, Any]:
    """What a file holds by name."""
    kinds = {".npz": ("arrays", _arrays), ".safetensors": ("safetensors", _safetensors)}
    kind, read = kinds.get(path.suffix, ("a checkpoint", _pickled))
    try:
        content = read(path)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file leads to
        text = one_line(error)
        if isinstance(error, pickle.UnpicklingError):
            raise InputError(f"file: {path} is refused: {_reason(text)}; nothing of it was run; {_SAFE}") from None
        raise InputError(f"file: {path} cannot be read as {kind} ({text[:200]})") from None
    if not isinstance(content, Mapping):
        raise InputError(f"file: {path} holds {type(content).__name__}, not weights by name")
    return content


def _arrays(path: Path) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in read_npz(path, f"file: {path}").items()}


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _pickled(path: Path) -> Any:
    plain = torch.serialization.safe_globals([argparse.Namespace])  # whose making runs nothing
    with plain, warnings.catch_warnings(action="ignore"):  # of protocols and formats, which the answer makes plain
        return torch.load(path, map_location="cpu", weights_only=True)


def _reason(text: str) -> str:
    """What torch says is wrong, without its advice to run the code."""
    named = re.search(r"(?:GLOBAL|global|class) ([\w.]+)", text)
    if named and ("." in named[1]):
        return f"to read it, {named[1]} would have to be called, which is code of the file's choosing"
    return "it is a pickle of more than tensors, and to read it code of the file's choosing would have to run"


def _sorted(path: Path, content: Mapping[str, Any]) -> Source:
    """Separate the weights and their averages from what is stored beside them."""
    averaged = (*_AVERAGED, *["state_dict"] * (_RAW[0] in content))  # as Lightning does
    raw, ema = (next(filter(None, (_section(content, key) for key in keys)), {}) for keys in (_RAW, averaged))
    beside = _numbers(content) | _numbers(ema)
    shadow = ema.get("shadow_params")
    if isinstance(shadow, list):
        ema = {f"shadow_params.{i}": tensor for i, tensor in enumerate(shadow)}
    averages = {f"ema.{name}": value for name, value in ema.items() if name not in beside}
    source = _unwrapped(path, _weights({**(raw or ({} if ema else content)), **averages}, path))
    source.beside |= beside
    if isinstance(shadow, list) and isinstance(source.averages, dict):
        source.averages = list(source.averages.values())
    return source


def _section(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    return value if isinstance(value, Mapping) else {}


def _numbers(content: Mapping[str, Any]) -> dict[str, int | float]:
    return {key: value for key, value in content.items() if isinstance(value, int | float)}


def _weights(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Tensors by name; those of sections have both names, with a point between."""
    for _ in range(_DEEPEST):
        sections = {key: value if isinstance(value, Mapping) else {"": value} for key, value in content.items()}
        content = {f"{k}.{n}" if n else k: value for k, inner in sections.items() for n, value in inner.items()}
    other = [f"{name} is no tensor" for name, value in content.items() if not isinstance(value, Tensor)]
    fault = next(iter(other), "" if content else "it is empty")
    refuse(bool(fault), f"file: {path} does not hold weights by name ({fault})")
    return {str(name): tensor for name, tensor in content.items()}


def _unwrapped(path: Path, tensors: Mapping[str, Tensor]) -> Source:
    """The weights and their averages, under the names that they have without the wrappers around the network.

    Raises:
        InputError: two sets of weights have the same names then, or there are none.
    """
    sets: dict[bool, dict[str, Tensor]] = {False: {}, True: {}}
    beside = {}
    for name, tensor in tensors.items():
        averaged, own = False, re.sub(_INNER, "", name)
        while (found := own.partition("."))[0] in _WRAPPERS and found[2]:
            averaged, own = _WRAPPERS.get(found[0]) or averaged, found[2]
            averaged = averaged and found[0] != "online_model"
        if own in _COUNTERS and tensor.numel() == 1:
            beside[own] = tensor.item()
            continue
        there = sets[averaged].setdefault(own, tensor)
        twice = there is not tensor and not torch.equal(there, tensor)
        refuse(twice, f"file: {path} holds {own} twice, once as {name}; keep one network of them")
    weights, averages = sets[False] or sets[True], sets[True] if sets[False] else None
    refuse(not weights, f"file: {path} does not hold weights by name (it is empty)")
    return Source(path, weights, averages or None, beside=beside)


def _folder(path: Path) -> Source:
    """A folder of diffusers: that of a network, or that of a pipeline with a network and a `scheduler` in it."""
    net = next((path / name for name in _NETWORKS if (path / name).is_dir()), path)
    found = (net / "config.json").is_file()
    refuse(not found, f"file: the folder {path} has no config.json; give one of diffusers, or a file")
    place, tensors = _stored(net)
    averages = path / f"{net.name}_ema"
    if net != path and averages.is_dir():
        tensors |= {f"ema.{name}": tensor for name, tensor in _stored(averages)[1].items()}
    source = _unwrapped(place, tensors)
    source.settings["unet"] = _mapping(net / "config.json", "file")
    for schedule in (*path.glob("scheduler/scheduler_config.json"), *path.glob("scheduler_config.json")):
        source.settings["scheduler"] = _mapping(schedule, "file")
    return source


def _stored(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The weights of a folder of diffusers, and the file that holds or lists them.

    Those without a variant, such as fp16, come first, then safetensors, then one file in place of several.
    """
    for variant in ("", ".*"):
        for kind in ("safetensors", "bin"):
            name = f"diffusion_pytorch_model{variant}.{kind}"
            parts = rf"-\d{{5}}-of-\d{{5}}\.{kind}$"
            whole = [file for file in folder.glob(name) if not re.search(parts, file.name)]
            lists = folder.glob(f"diffusion_pytorch_model.{kind}.index{variant}.json")
            if files := sorted(whole) or sorted(lists):
                names = ", ".join(file.name for file in files)
                refuse(len(files) > 1, f"file: {folder} must hold one set of weights, and holds {names}; keep one")
                return files[0], _weights(_listed(files[0]), files[0])
    raise InputError(f"file: {folder} must hold diffusion_pytorch_model.safetensors or .bin, and holds neither")


def _listed(file: Path) -> Mapping[str, Any]:
    """What a file holds, or the files that it lists."""
    if file.suffix != ".json":
        return _content(file)
    names = _section(_mapping(file, "file"), "weight_map").values()
    tensors: dict[str, Any] = {}
    for name in dict.fromkeys(map(str, names)):
        refuse(Path(name).name != name, f"file: {file} lists {name}, which is not in its folder")
        tensors |= _content(file.parent / name)
    return tensors
