"""Feature extractors from files: TorchScript, ONNX and local folders of transformers.

No Python pickle is loaded. A TorchScript file is a zip with a program and constants: torch reads it with a reader of
its own, which makes tensors and plain values and calls no Python, and the program can call the operators of torch
alone. ONNX is protobuf. Of a folder of transformers only safetensors and JSON are read, and code in it is not run.
Still a program is a program: load files of people whom you trust.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde.data.dataset import Dataset
from scoresde.errors import InputError, one_line, refuse
from scoresde.files import read_json
from scoresde.metrics.extractor import Extraction, Extractor, Images, digest_of, sha256

_RESAMPLING = {2: "bilinear", 3: "bicubic"}  # numbers of Pillow in preprocessor_config.json


def _hash(path: Path) -> str:
    return sha256([path.read_bytes()])[:16]


@dataclass(eq=False)
class _OfFile(Extractor):
    """What they share: the path and how images are prepared."""

    path: str
    images: Images | None = None

    def _there(self, kind: str, folder: bool = False) -> Path:
        path = Path(self.path).expanduser()
        found = path.is_dir() if folder else path.is_file()
        what = "folder" if folder else "file"
        refuse(not found, f"features: there is no {what} {path} (seen from {Path.cwd()}); give {kind}:{what.upper()}")
        return path

    def _extraction(
        self, kind: str, digest: str, images: Images, dataset: Dataset, call: Callable[[Tensor], Any]
    ) -> Extraction:
        images.check(dataset.transform)
        transform = dataset.transform

        def features(x: Tensor) -> Tensor:
            try:
                return _tensor(call(images.prepared(x, transform)), kind)
            except InputError:
                raise
            except Exception as error:  # whatever a program of anybody's raises
                said = one_line(error)[-300:] or type(error).__name__
                wanted = f"features: {self.path} does not take {tuple(images.card(dataset.event_shape)['size'])}"
                raise InputError(f"{wanted} ({said}); give another size, channels or range of its images") from None

        card = {"extractor": kind, "sha256": digest, **images.card(dataset.event_shape), "dtype": "float32"}
        return Extraction(features, card)


def _tensor(found: Any, kind: str) -> Tensor:
    found = found[0] if isinstance(found, tuple | list) and len(found) == 1 else found
    if not isinstance(found, Tensor):
        raise InputError(f"features: the network of {kind} must return one tensor (B, ...), not {type(found).__name__}")
    return found


@dataclass(eq=False)
class TorchScript(_OfFile):
    """Features of a program that was written by `torch.jit.save`.

    Args:
        path: the file.
        images: how its input is made, see `Images`; None gives images as they are with the range [0, 1].

    Raises:
        InputError: from `extract`: it is not there, or no TorchScript.
    """

    def extract(self, dataset: Dataset) -> Extraction:
        path, images = self._there("torchscript"), self.images or Images()

        @cache
        def program(device: torch.device) -> Any:  # its constants would not move with `to`
            with warnings.catch_warnings(action="ignore"):  # that torch would rather have others
                return torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]

        try:
            program(torch.device("cpu"))
        except (RuntimeError, ValueError) as error:
            said = one_line(error)[:200]
            raise InputError(f"features: {path} is no TorchScript ({said}); write it with torch.jit.save") from None
        return self._extraction("torchscript", _hash(path), images, dataset, lambda x: program(x.device)(x))


@dataclass(eq=False)
class Onnx(_OfFile):
    """Features of the first output of an ONNX model with one input.

    Args:
        path: the file.
        images: how its input is made, see `Images`; None gives images as they are with the range [0, 1].

    Raises:
        InputError: from `extract`: onnxruntime is not installed, or it is not there or no ONNX.
    """

    def extract(self, dataset: Dataset) -> Extraction:
        path, runtime = self._there("onnx"), _needed("onnxruntime", "onnx")

        @cache
        def session(place: str) -> Any:
            there = ["CPUExecutionProvider"] if place == "cpu" else runtime.get_available_providers()
            return runtime.InferenceSession(str(path), providers=there)

        try:
            (entry,) = session("cpu").get_inputs()
        except Exception as error:
            said = one_line(error)[:200]
            raise InputError(f"features: {path} cannot be used as ONNX ({said}); give a model with one input") from None

        def call(x: Tensor) -> Tensor:
            return torch.from_numpy(session(x.device.type).run(None, {entry.name: x.cpu().numpy()})[0])

        return self._extraction("onnx", _hash(path), self.images or Images(), dataset, call)


@dataclass(eq=False)
class HuggingFace(_OfFile):
    """Features of a vision model of transformers in a local folder, of whose weights only safetensors are read.

    They are the pooled output; of models without one the mean of the last hidden states over tokens.

    Args:
        path: folder with config.json, model.safetensors and preprocessor_config.json.
        images: how its input is made; None reads that from preprocessor_config.json.

    Raises:
        InputError: from `extract`: transformers is not installed, or a file is not there or of another kind.
    """

    def extract(self, dataset: Dataset) -> Extraction:
        path, library = self._there("hf", folder=True), _needed("transformers", "hf")
        weights = sorted(path.glob("*.safetensors"))
        refuse(not weights, f"features: {path} has no *.safetensors, and no other weights are read; save them with it")
        images = self.images or _preprocessor(path)
        try:
            network = library.AutoModel.from_pretrained(
                str(path), local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except Exception as error:
            raise InputError(f"features: {path} cannot be loaded ({one_line(error)[:200]})") from None
        vision = getattr(network, "vision_model", network).eval().float()

        def call(x: Tensor) -> Any:
            found = vision.to(x.device)(pixel_values=x)
            pooled = getattr(found, "pooler_output", None)
            return found.last_hidden_state.mean(1) if pooled is None else pooled

        return self._extraction("hf", digest_of(vision.state_dict())[:16], images, dataset, call)


def _preprocessor(path: Path) -> Images:
    """How images are prepared, as preprocessor_config.json says."""
    file = path / "preprocessor_config.json"
    refuse(not file.is_file(), f"features: {file} is not there, which says how images are prepared; give images")
    said = read_json(file, "features")
    size = said.get("crop_size") if said.get("do_center_crop") else said.get("size")
    side = next((size[k] for k in ("height", "shortest_edge") if k in size), None) if isinstance(size, dict) else size
    kernel: Any = _RESAMPLING.get(said.get("resample", 3), "bicubic")
    normal = (said.get("image_mean"), said.get("image_std")) if said.get("do_normalize", True) else (None, None)
    high = 255 * float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 255.0
    return Images(side, kernel, 0.0, high, 3, *normal)


def _needed(module: str, extra: str) -> Any:
    """A package that is not installed with scoresde."""
    try:
        return import_module(module)
    except ImportError as error:
        remedy = f'pip install "scoresde[{extra}]"'
        raise InputError(f"features: {extra}: needs {module} ({one_line(error)}); {remedy}") from None
