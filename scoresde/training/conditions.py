"""What the network is told in a training: the class of each item, or what augmentation has done to it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from scoresde.control.guidance import condition_of
from scoresde.data.augment import Augmentation
from scoresde.data.dataset import Dataset
from scoresde.errors import InputError, require
from scoresde.model import Model
from scoresde.nets.condition import Condition


class Conditions(NamedTuple):
    """What the network is told, each None where it is told nothing.

    Attributes:
        labels: for each training item (N,).
        augmentation: changes training items, and says how.
        heldout: for each held-out item (M, ...).
        samples: for samples, taken in turn: all classes of the data, or that nothing was changed.
    """

    labels: Tensor | None = None
    augmentation: Augmentation | None = None
    heldout: Tensor | None = None
    samples: Tensor | None = None


def conditions(model: nn.Module, dataset: Dataset, augment: float) -> Conditions:
    """What fits the network, the data and `Trainer.augment`.

    Raises:
        InputError: they do not go together; names the values.
    """
    told = condition_of(model) if isinstance(model, Model) else None
    if augment > 0:
        _check_augmented(told, dataset, augment)
        nothing = unchanged()
        heldout = nothing.expand(len(dataset.heldout), -1)
        return Conditions(None, Augmentation(augment), heldout, nothing)
    if told is None:
        return Conditions()
    where = f"model.net.condition: {told.kind!r}"
    if told.kind != "class":
        raise InputError(f"{where} is not what a training can tell; give class, vector with trainer.augment, or null")
    if dataset.labels is None or dataset.heldout_labels is None:
        raise InputError(f"{where} with condition_size={told.size}, but this data has no classes (labels: None)")
    classes, low = dataset.classes, int(torch.cat([dataset.labels, dataset.heldout_labels]).min())
    require(low >= 0, "data", low, "classes are counted from 0; give each item one")
    assert classes is not None
    wanted = f"this data has {classes} classes; give {classes} or more"
    require(classes <= told.size, "model.net.condition_size", told.size, wanted)
    return Conditions(dataset.labels, None, dataset.heldout_labels, torch.unique(dataset.labels))


def unchanged() -> Tensor:
    """What a network that was trained with augmentation is told of images to which nothing was done, (1, 9)."""
    return torch.zeros(1, Augmentation.size)


def _check_augmented(told: Condition | None, dataset: Dataset, augment: float) -> None:
    shape = dataset.event_shape
    images = dataset.transform.kind == "image" and len(shape) == 3
    require(
        images, "trainer.augment", augment, f"items of shape {shape} are no images (channels, height, width); give 0"
    )
    if told is not None and told.kind == "class":
        raise InputError(
            f"trainer.augment: {augment!r} together with model.net.condition='class' is not possible; give one of them"
        )
    fits = told is not None and (told.kind, told.size, told.dropout) == ("vector", Augmentation.size, 0)
    settings = {"condition": "vector", "condition_size": Augmentation.size, "condition_dropout": 0}
    typed = " ".join(f"model.net.{key}={value}" for key, value in settings.items())
    found = "takes no condition" if told is None else f"takes {told.kind}, {told.size}, drop-out {told.dropout:g}"
    require(fits, "trainer.augment", augment, f"the network {found}; give {typed}, or 0")
