"""Items as a network sees them: the space in which distances between images are meaningful."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.constraints import Count
from scoresde.data.dataset import Dataset
from scoresde.errors import InputError, did_you_mean, refuse
from scoresde.metrics.classifier import Classifier
from scoresde.metrics.extractor import Extraction, Extractor, Pixels, of_module, sha256
from scoresde.metrics.extractor_files import HuggingFace, Onnx, TorchScript
from scoresde.metrics.randconv import RandConv
from scoresde.results.metric import Device, Metric


class Auto(Extractor):
    """A `Classifier` of images with classes, `RandConv` of other images and of series, and vectors as they are."""

    def extract(self, dataset: Dataset) -> Extraction:
        labels, axes = dataset.train_labels, len(dataset.event_shape)
        classes = 0 if labels is None else len(torch.unique(labels))
        return (Classifier() if classes > 1 and axes == 3 else RandConv() if axes > 1 else Pixels()).extract(dataset)


_PLAIN: dict[str, Callable[[], Extractor]] = {
    "auto": Auto, "classifier": Classifier, "pixels": Pixels, "randconv": RandConv,
}  # fmt: skip
_OF_FILES: dict[str, Callable[[str], Extractor]] = {"torchscript": TorchScript, "onnx": Onnx, "hf": HuggingFace}


def extractor(text: str) -> Extractor:
    """The extractor that a text names: auto, classifier, pixels, randconv, torchscript:FILE, onnx:FILE or hf:FOLDER.

    Raises:
        InputError: there is none of this name.
    """
    kind, colon, path = text.partition(":")
    if kind in _OF_FILES and path:
        return _OF_FILES[kind](path)
    if kind in _PLAIN and not colon:
        return _PLAIN[kind]()
    known = [*_PLAIN, *(f"{name}:{'FOLDER' if name == 'hf' else 'FILE'}" for name in _OF_FILES)]
    near = did_you_mean(kind, [*_PLAIN, *_OF_FILES])
    raise InputError(f"features: {text!r} is not known{near}; give one of {', '.join(known)}")


def features_of(
    network: Callable[[Tensor], Tensor], items: Tensor, batch_size: int = 500, device: Device = "cpu"
) -> Tensor:
    """Features (n, k) on the CPU of items (n, *event) in model units.

    Args:
        network: called as network(x) on items (B, *event), returns (B, ...).
        items: the items.
        batch_size: items at a time.
        device: where the network computes, which is moved there if it is a module.

    Raises:
        InputError: the network does not return one tensor with a row for each item, as many features for each batch, or
            finite numbers for finite items.
    """
    name, parts = type(network).__name__, []
    network = network.to(device) if isinstance(network, nn.Module) else network
    with torch.no_grad():
        for part in torch.split(items.float(), batch_size):
            found = network(part.to(device))
            rows = isinstance(found, Tensor) and found.shape[:1] == part.shape[:1]
            refuse(not rows, f"features: {name} must return one tensor (B, ...)")
            parts.append(found.flatten(1).cpu())
            first, last = parts[0].shape[1], parts[-1].shape[1]
            refuse(first != last, f"features: {first} of one batch and {last} of another; give as many for each")
    features = torch.cat(parts)
    lost = ~features.isfinite().all(1) & items.flatten(1).isfinite().all(1)
    which = f"{int(lost.sum())} of {len(items)} items, the first is {int(lost.int().argmax())}"
    refuse(bool(lost.any()), f"features: those of {name} are not finite for {which}")
    return features


@dataclass(eq=False)
class FeatureMetric(Metric):
    """A metric in features of a network; those of the held-out items are computed once.

    Args:
        features: an `Extractor` or its name, see `scoresde.metrics.extractor`; or a network of your own, called as
            features(x) on items (B, *event) in model units, returns (B, ...).
        batch_size: items at a time.

    Raises:
        InputError: batch_size < 1, or an extractor of this name is not known.
    """

    features: nn.Module | Extractor | str = "auto"
    batch_size: Count = 500
    _known: dict[int, tuple[Dataset, Extraction, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.features, str):
            extractor(self.features)

    def prepare(self, dataset: Dataset) -> None:
        """Train or load the network if need be, and compute the features of the held-out items."""
        if id(dataset) not in self._known:
            found = self.extraction(dataset)
            real = features_of(found.features, dataset.heldout, self.batch_size, self.device)
            self._known[id(dataset)] = dataset, found, real

    def extraction(self, dataset: Dataset) -> Extraction:
        """What gives features of items of a data set."""
        own = extractor(self.features) if isinstance(self.features, str) else self.features
        return own.extract(dataset) if isinstance(own, Extractor) else of_module(own, dataset)

    def pair(self, samples: Tensor, dataset: Dataset) -> tuple[Tensor, Tensor]:
        """The features (n, k) of samples and (m, k) of held-out items."""
        self.prepare(dataset)
        _, found, real = self._known[id(dataset)]
        own = features_of(found.features, samples, self.batch_size, self.device)
        same = own.shape[1] == real.shape[1]
        refuse(not same, f"features: {own.shape[1]} of samples and {real.shape[1]} of held-out items; give as many")
        return own, real

    def card(self, dataset: Dataset) -> dict[str, Any]:
        """What decides the values besides the samples: the extractor and the reference."""
        self.prepare(dataset)
        _, found, real = self._known[id(dataset)]
        return {**found.card, "features": real.shape[1], **reference(dataset)}


def reference(dataset: Dataset) -> dict[str, Any]:
    """The fields of a card about the items with which samples are compared."""
    transform = json.dumps(dataset.transform.to_dict(), sort_keys=True)
    plain = isinstance(dataset.transform.mean, float) and isinstance(dataset.transform.scale, float)
    words = f"(x - {dataset.transform.mean}) / {dataset.transform.scale}, " if plain else ""
    return {
        "reference": sha256([dataset.heldout])[:16],
        "reference_split": "held-out",
        "reference_n": len(dataset.heldout),
        "reference_transform": words + hashlib.sha256(transform.encode()).hexdigest()[:16],
    }
