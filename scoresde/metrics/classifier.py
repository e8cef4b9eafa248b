"""A small classifier of the data at hand, whose last hidden layer gives the features of metrics."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from scoresde import progress
from scoresde.constraints import Count, NonNegativeInt
from scoresde.data.dataset import Dataset
from scoresde.data.images import cache_folder
from scoresde.errors import InputError, refuse
from scoresde.files import aside
from scoresde.metrics.extractor import Extraction, Extractor, digest_of, plain_card, sha256, weights_hash

_RECIPE = 1  # counts the changes of network and training, so that features of an older one are never reused
_COARSEST = 8  # pixels of a side at which halving ends
_BATCH, _RATE = 128, 2e-3


@dataclass(eq=False)
class Classifier(Extractor):
    """Features of a small convolutional network that was trained to classify the data set.

    Trained once for a data set, on its training items, on the CPU and from a fixed seed; then kept in a cache folder
    under the hash of the data and of the settings. The features are the last hidden layer before its nonlinearity,
    shifted and divided by one number, so that over the training items they have mean 0 and on average variance 1.

    Metrics in these features compare samples of one data set with each other. They are not comparable to those in
    features of Inception, although the formulas are the same.

    Args:
        features: how many.
        epochs: passes through the training items.
        seed: decides the initial weights and the order of the items.
        cache: folder of trained networks; None takes scoresde in the user's cache folder.

    Raises:
        InputError: from the constructor: a number out of range. From `network`: data without classes, or of one class,
            or that are no images.
    """

    features: Count = 64
    epochs: Count = 4
    seed: NonNegativeInt = 0
    cache: str | None = None

    def extract(self, dataset: Dataset) -> Extraction:
        network = self.network(dataset)
        return Extraction(network, plain_card("classifier", weights_hash(network), dataset.event_shape))

    def network(self, dataset: Dataset) -> _Network:
        """The network that gives features (B, features) of items (B, channels, height, width) in model units."""
        labels, shape = dataset.train_labels, dataset.event_shape
        images, remedy = "images (channels, height, width)", "name a network of your own"
        if labels is None:
            raise InputError(f"features: these data have no classes to train a classifier on; {remedy}")
        refuse(len(shape) != 3, f"features: a Classifier takes {images}, not items of shape {shape}")
        classes, targets = torch.unique(labels, return_inverse=True)
        refuse(len(classes) < 2, f"features: all items are of one class; {remedy}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = _Network(shape, self.features, len(classes)).eval()
        key = self._key(dataset.train, targets)
        file = cache_folder(self.cache) / f"classifier-{key[:16]}.safetensors"
        weights = _stored(file, key)
        if weights:
            network.load_state_dict(weights)
        else:
            self._train(network, dataset.train, targets)
            _store(file, key, network.state_dict())
        return network.requires_grad_(False)

    def _key(self, x: Tensor, targets: Tensor) -> str:
        """A hash of all that decides the weights."""
        settings = json.dumps([_RECIPE, self.features, self.epochs, self.seed, list(x.shape), str(x.dtype)])
        return sha256([settings, x, targets])

    @torch.enable_grad()
    def _train(self, network: _Network, x: Tensor, targets: Tensor) -> None:
        """Minimise the cross-entropy with Adam, at a rate that rises and falls once."""
        x, targets = x.detach().cpu().float(), targets.cpu()
        generator = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.Adam(network.parameters())
        steps = self.epochs * -(-len(x) // _BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
        with progress.bar(steps, "training the classifier", unit="step", leave=False) as bar:
            for _ in range(self.epochs):
                for index in torch.split(torch.randperm(len(x), generator=generator), _BATCH):
                    optimizer.zero_grad(set_to_none=True)
                    loss = functional.cross_entropy(network.logits(x[index]), targets[index])
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
                    bar.update()
        network.standardise(x)


class _Network(nn.Module):
    """Convolutions that halve the sides until few pixels are left, one hidden layer, and the classes."""

    def __init__(self, event_shape: tuple[int, ...], features: int, classes: int) -> None:
        super().__init__()
        channels, *sides = event_shape
        widths = [channels, 16]
        while max(sides) > _COARSEST:
            widths.append(min(2 * widths[-1], 128))
            sides = [-(-n // 2) for n in sides]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=1 if i == 0 else 2, padding=1) for i, (a, b) in enumerate(pairwise(widths))
        )
        self.hidden = nn.Linear(widths[-1] * sides[0] * sides[1], features)
        self.last = nn.Linear(features, classes)
        self.mean = nn.Buffer(torch.zeros(features))
        self.scale = nn.Buffer(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised features (B, features) of images x."""
        return (self._hidden(x) - self.mean) / self.scale

    def logits(self, x: Tensor) -> Tensor:
        """Unnormalised log-probabilities (B, classes) of images x."""
        out: Tensor = self.last(functional.relu(self._hidden(x)))
        return out

    @torch.no_grad()
    def standardise(self, x: Tensor) -> None:
        """Give the features of images x mean 0 and on average variance 1."""
        features = torch.cat([self._hidden(part).double() for part in torch.split(x, 500)])
        variance, mean = torch.var_mean(features, 0)
        self.mean.copy_(mean)
        self.scale.copy_(variance.mean().sqrt().clamp(min=1e-12))

    def _hidden(self, x: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = functional.relu(convolution(x))
        out: Tensor = self.hidden(x.flatten(1))
        return out


def _store(file: Path, key: str, weights: dict[str, Tensor]) -> None:
    """Write aside, then rename; without a place to write, the network is trained again next time."""
    from safetensors.torch import save

    with suppress(OSError, InputError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with aside(file) as temporary:
            temporary.write_bytes(save(weights, {"key": key, "sha256": digest_of(weights)}))


def _stored(file: Path, key: str) -> dict[str, Tensor] | None:
    """The weights of a file that is whole and of this key, else None."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            about = opened.metadata() or {}
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
    except (OSError, SafetensorError):
        return None
    return weights if about.get("key") == key and about.get("sha256") == digest_of(weights) else None
