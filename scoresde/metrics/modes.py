"""Does a model sample the whole distribution? The modes of the data that samples reach, and how often each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scoresde.constraints import Fraction, NonNegativeInt, Positive, at_least
from scoresde.data.dataset import CLASS, Dataset
from scoresde.errors import InputError, refuse, require
from scoresde.metrics._events import Compared
from scoresde.metrics.classifier import Classifier
from scoresde.metrics.extractor import plain_card, sha256, weights_hash
from scoresde.metrics.features import features_of, reference
from scoresde.metrics.nearest import nearest_neighbours
from scoresde.results.interval import TWO_SIDED
from scoresde.results.metric import Measurement, Metric, Quantity

_MOST = 10**6  # modes that channels write


class Assigned(NamedTuple):
    """The mode of each sample: the likeliest (n,), int64, and whether the sample lies in it (n,), bool."""

    modes: Tensor
    inside: Tensor


Assignment = Callable[[Tensor], Assigned]  # of samples (n, *event) in model units


class Learned(NamedTuple):
    """What assigns samples to modes, and its card: what decides that."""

    assign: Assignment
    card: dict[str, Any]


def nearest_mean(dataset: Dataset, deviations: float = 3.0) -> Learned:
    """Assigns samples (n, *event) to the nearest mean of a class of training items.

    A sample lies in its mode within some standard deviations, per feature, of that class: 98.9 % of a Gaussian in the
    plane do within 3.
    """
    x, (values, coded) = dataset.train.flatten(1).double(), torch.unique(dataset.train_labels, return_inverse=True)
    count = torch.bincount(coded)[:, None]
    centres = torch.zeros(len(values), x.shape[1], dtype=x.dtype).index_add(0, coded, x) / count
    squares = (x - centres[coded]).square().mean(1)
    reach = deviations * (torch.bincount(coded, squares) / count[:, 0]).sqrt()

    def assign(samples: Tensor) -> Assigned:
        distances, indices = nearest_neighbours(samples.flatten(1), centres)
        return Assigned(values[indices[:, 0]], distances[:, 0] <= reach[indices[:, 0]])

    card = plain_card("nearest mean", sha256([centres, reach])[:16], dataset.event_shape)
    return Learned(assign, card)


def likeliest(dataset: Dataset, classifier: Classifier, base: int | None = None, confidence: float = 0.9) -> Learned:
    """Assigns images to modes by a classifier of the training items; see `Modes`."""
    channels = 1 if base is None else dataset.event_shape[0]
    powers = (base or 1) ** torch.arange(channels - 1, -1, -1)

    def parts(x: Tensor) -> Tensor:
        return x.reshape(len(x) * channels, -1, *x.shape[2:])

    def digits(labels: Tensor | None) -> dict[str, Tensor]:
        return {CLASS: (torch.as_tensor(labels)[:, None] // powers % (base or 1)).flatten()}

    if base is not None:
        labels, others = digits(dataset.train_labels), digits(dataset.heldout_labels)
        dataset = Dataset(parts(dataset.train), parts(dataset.heldout), dataset.transform, labels, others)
    network, values = classifier.network(dataset), torch.unique(dataset.train_labels)

    def assign(samples: Tensor) -> Assigned:
        probabilities = features_of(network.logits, parts(samples)).softmax(1).reshape(len(samples), channels, -1)
        sure, index = probabilities.max(2)
        return Assigned((values[index] * powers).sum(1), sure.prod(1) >= confidence)

    card = plain_card("classifier", weights_hash(network), dataset.event_shape)
    return Learned(assign, {**card, "base": base, "confidence": confidence})


@dataclass(eq=False)
class Modes(Metric):
    """How many modes of the data samples reach, how far the shares of the modes are off, and how many samples hit one.

    The modes are the classes of the data. A classifier assigns images to them, and an image lies in its mode if the
    classifier is sure. Other items are assigned to the nearest mean of a class, and lie in the mode if they are within
    some standard deviations of it. A mode is found if one sample lies in it; shares count every sample for its
    likeliest mode. The modes are learned on training items, and held-out items must show that they are recognised.

    The half of each interval is 1.96 standard deviations over samples drawn again with replacement; of modes found it
    is about the value itself, as drawing again finds fewer. Near the divergence of real data it is wider than need be.

    Args:
        classifier: of images.
        confidence: probability of the likeliest mode, from which on a sample lies in it; 0 counts every sample.
        deviations: the same for other items: standard deviations of the mode, per feature, as Euclidean distance.
        base: of images whose channels are classified one by one: the number of classes of a channel, such as 10 for
            digits; the class of an image is the number that the channels write. None classifies images as a whole.
        equal: whether all modes are equally likely. False measures their shares on held-out items.
        accuracy: the share of held-out items that must be assigned to their class.
        resamples: of the samples, for intervals.
        seed: of those.

    Raises:
        InputError: a number out of range. From `prepare`: data without classes; a base of other classes; modes that
            are not recognised on held-out items.

    Modes found and divergence after L. Metz et al., arXiv 1611.02163, section 3.3.1, there over all samples
    (`confidence=0`); samples within 3 standard deviations after A. Srivastava et al., arXiv 1705.07761, section 5.1.
    """

    quantities = (
        Compared("modes_found", "modes", "modes of the data in which samples lie", direction="higher"),
        Compared(
            "mode_divergence", "mode KL", "divergence of the shares of modes from those of the data",
            "about (modes - 1) / 2n for a perfect sampler", "nats", ratio=True,
        ),
        Quantity(
            "in_modes", "in modes", "share of samples that lie in a mode", direction="higher", floor="heldout"
        ),
    )  # fmt: skip
    classifier: Classifier = field(default_factory=Classifier)
    confidence: Fraction = 0.9
    deviations: Positive = 3.0
    base: Annotated[int, at_least(2)] | None = None
    equal: bool = False
    accuracy: Fraction = 0.9
    resamples: Annotated[int, at_least(2)] = 200
    seed: NonNegativeInt = 0
    _known: dict[int, tuple[Dataset, Learned, np.ndarray]] = field(default_factory=dict, init=False, repr=False)

    def prepare(self, dataset: Dataset) -> None:
        """Learn the modes, and see on held-out items whether they are recognised."""
        if id(dataset) in self._known:
            return
        labels, others, shape = dataset.train_labels, dataset.heldout_labels, dataset.event_shape
        if labels is None or others is None:
            raise InputError("metrics.modes: these data have no classes, which are their modes; give other metrics")
        images, base = len(shape) == 3, self.base
        fits = base is None or (images and int(labels.max()) < base ** shape[0] <= _MOST)
        wanted = f"items have shape {shape} and classes up to {int(labels.max())}; give null, or 10 for three digits"
        require(fits, "metrics.modes.base", base, wanted)
        if images:
            remedy = "raise metrics.modes.classifier.epochs"
            learned = likeliest(dataset, self.classifier, base, self.confidence)
        else:
            learned, remedy = nearest_mean(dataset, self.deviations), "these modes overlap; give other data"
        right = float((learned.assign(dataset.heldout).modes == others).double().mean())
        said = f"{100 * right:.3g} % of held-out items are recognised, and {100 * self.accuracy:.3g} % are asked for"
        refuse(right < self.accuracy, f"metrics.modes.accuracy: {said}; {remedy}, or ask for less")
        self._known[id(dataset)] = dataset, learned, self._shares(dataset, labels, others)

    def card(self, dataset: Dataset) -> dict[str, Any]:
        self.prepare(dataset)
        shares = "equal" if self.equal else "held-out"
        return {**self._known[id(dataset)][1].card, "shares": shares, **reference(dataset)}

    def _shares(self, dataset: Dataset, labels: Tensor, others: Tensor) -> np.ndarray:
        """The share of each mode in the data; 0 for classes that do not occur."""
        modes = np.unique(labels) if self.base is None else np.arange(self.base ** dataset.event_shape[0])
        known = np.bincount(others[torch.isin(others, torch.from_numpy(modes))], minlength=int(modes[-1]) + 1)
        missing = [] if self.equal else [int(mode) for mode in modes if not known[mode]]
        said = f"class {min(missing, default=0)} has no held-out item, which would show how likely it is"
        refuse(bool(missing), f"metrics.modes.equal: {said}; give more data, or true if all classes are equally likely")
        known = np.bincount(modes) if self.equal else known
        return np.asarray(known / known.sum())

    def assign(self, samples: Tensor, dataset: Dataset) -> Assigned:
        """The modes of samples (n, *event) in model units."""
        self.prepare(dataset)
        return self._known[id(dataset)][1].assign(samples)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, Measurement]:
        from scipy.special import rel_entr

        modes, lies = self.assign(samples, dataset)
        reference = self._known[id(dataset)][2]
        # outside and inside of each mode
        counts = np.bincount(2 * modes + lies, minlength=2 * len(reference))
        again = np.random.default_rng(self.seed).multinomial(len(samples), counts / len(samples), self.resamples)
        pairs = np.concatenate([counts[None], again]).reshape(len(again) + 1, -1, 2)
        inside, hit = pairs[:, :, 1], (pairs[:, :, 1] > 0).sum(1)
        values = hit, rel_entr(pairs.sum(2) / len(samples), reference).sum(1), inside.sum(1) / len(samples)
        # drawing again loses modes with few samples, and a mode with few may be found by luck
        spreads = (float(np.square(hit[1:] - hit[0]).mean()), *(float(v[1:].var(ddof=1)) for v in values[1:]))
        measured = zip(self.quantities, values, spreads, strict=True)
        return {q.key: Measurement(float(v[0]), half=TWO_SIDED * spread**0.5) for q, v, spread in measured}
