"""Feature extractors: what turns items into the features in which metrics compare them, and says what it is."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from scoresde.constraints import Checked, Count
from scoresde.data.dataset import Dataset
from scoresde.data.transform import Transform
from scoresde.errors import refuse, require

_AS_THEY_ARE = {"resize": "none", "range": "model units"}


class Extraction(NamedTuple):
    """An extractor for one data set.

    Attributes:
        features: called with items (B, *event) in model units, returns (B, ...); computes on the device of the items,
            or is a network, which `features_of` puts there.
        card: what decides the features: extractor, sha256, size, resize, range, dtype.
    """

    features: Callable[[Tensor], Tensor]
    card: Mapping[str, Any]


class Extractor(Checked, ABC):
    """Where features come from."""

    @abstractmethod
    def extract(self, dataset: Dataset) -> Extraction:
        """What gives features of items like those of a data set.

        Raises:
            InputError: it takes no such items, or is not there.
        """


class Pixels(Extractor):
    """The items themselves, in model units."""

    def extract(self, dataset: Dataset) -> Extraction:
        return Extraction(lambda x: x.flatten(1), plain_card("pixels", "none", dataset.event_shape))


def of_module(network: nn.Module, dataset: Dataset) -> Extraction:
    """A network of the user's own, called with items in model units."""
    card = plain_card(type(network).__name__, weights_hash(network), dataset.event_shape)
    return Extraction(network.eval(), card)


def plain_card(name: str, digest: str, event_shape: Iterable[int]) -> dict[str, Any]:
    """The card of an extractor that takes items as they are, in model units and float32."""
    return {"extractor": name, "sha256": digest, "size": list(event_shape), **_AS_THEY_ARE, "dtype": "float32"}


def weights_hash(network: nn.Module) -> str:
    """A short hash of the weights: metrics in features of two networks are comparable only where it is the same."""
    return digest_of(network.state_dict())[:16]


def digest_of(weights: Mapping[str, Any]) -> str:
    """The SHA-256 of weights by name."""
    return sha256(part for name in sorted(weights) for part in (name, weights[name]))


def sha256(parts: Iterable[str | bytes | Tensor]) -> str:
    """The SHA-256 of texts, bytes and the values of tensors."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.cpu().contiguous().numpy().tobytes() if isinstance(part, Tensor) else part
        digest.update(raw.encode() if isinstance(raw, str) else raw)
    return digest.hexdigest()


@dataclass(frozen=True)
class Images(Checked):
    """How images are made what a network takes.

    In data units they are clipped to their bounds, and rounded where they have levels, as they would be in a file.
    Then the bounds become `low` and `high`, one channel becomes three equal ones if three are wanted, and the sides
    become `size`, in float32, by an antialiased kernel, without clipping; last each channel is shifted and divided.

    Args:
        size: of both sides in pixels; None keeps them.
        kernel: of the resizing.
        low: what the lower bound of the data becomes.
        high: what the upper bound becomes.
        channels: that the network takes; None keeps them.
        mean: subtracted from each channel.
        std: by which each channel is divided.

    Raises:
        InputError: a number out of range. From `prepared`: items that are no images, or without bounds.
    """

    size: Count | None = None
    kernel: Literal["bicubic", "bilinear"] = "bicubic"
    low: float = 0.0
    high: float = 1.0
    channels: Literal[1, 3] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None

    def card(self, event_shape: tuple[int, ...]) -> dict[str, Any]:
        """What it says of itself."""
        shape, size = self._shape(event_shape), f"{event_shape[1]} x {event_shape[2]}"
        kernel = "none" if self.size is None else f"{self.kernel}, antialiased, from {size}"
        normal = f", then (x - {self.mean}) / {self.std}" if self.mean or self.std else ""
        spread = f", {event_shape[0]} channel to {shape[0]}" if shape[0] != event_shape[0] else ""
        return {"size": list(shape), "resize": kernel, "range": f"[{self.low:g}, {self.high:g}]{spread}{normal}"}

    def _shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        sides = event_shape[1:] if self.size is None else (self.size, self.size)
        return (self.channels or event_shape[0], *sides)

    def check(self, transform: Transform) -> None:
        """Raise InputError unless it takes items of this transform."""
        shape = tuple(transform.event_shape)
        refuse(len(shape) != 3, f"features: it takes images (channels, height, width), not items of shape {shape}")
        bounded = transform.low is not None and transform.high is not None
        refuse(not bounded, "features: these data have no bounds to become its range; give randconv or pixels")
        fits = self.channels in (None, shape[0]) or (self.channels, shape[0]) == (3, 1)
        require(fits, "features.channels", self.channels, f"the data have {shape[0]}; give null, or 3 for one channel")
        for name, values in (("mean", self.mean), ("std", self.std)):
            many = len(values or [0.0]) in (1, self._shape(shape)[0])
            require(many, f"features.{name}", values, f"give one number, or {self._shape(shape)[0]}")

    def prepared(self, x: Tensor, transform: Transform) -> Tensor:
        """Items (B, *event) in model units as the network takes them."""
        bottom, top = float(transform.low or 0), float(transform.high or 0)
        x = transform.decode(x).clamp(bottom, top)
        x = x.round() if transform.levels is not None else x
        x = (x - bottom) / (top - bottom) * (self.high - self.low) + self.low
        x = x.expand(-1, self.channels or x.shape[1], -1, -1)
        if self.size is not None:
            x = functional.interpolate(x, (self.size, self.size), mode=self.kernel, antialias=True)
        shift, scale = (x.new_tensor(v or [d])[:, None, None] for v, d in ((self.mean, 0.0), (self.std, 1.0)))
        return ((x - shift) / scale).float()
