"""The conditions of a training: those that the network takes, of the data and of augmentation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn

from scoresde.data.augment import Augmentation
from scoresde.data.dataset import Dataset
from scoresde.errors import refuse, require
from scoresde.nets.condition import AUGMENT, Condition, Kind, Kinds, conditions_of

_WHERE = "model.net.condition"


@dataclass(frozen=True)
class TrainingConditions:
    """The conditions of a training.

    Attributes:
        train: of each training item, by name.
        heldout: of each held-out item, by name.
        samples: of samples, which take them in turn: all classes of the data, or what the held-out items have.
        augmentation: changes training items, and says how.
    """

    train: Mapping[str, Tensor]
    heldout: Mapping[str, Tensor]
    samples: Mapping[str, Tensor]
    augmentation: Augmentation | None = None


def network_of(module: nn.Module) -> nn.Module:
    """The network that a training accelerates: `module.net` of a score model, otherwise the module itself."""
    net = getattr(module, "net", None)
    return net if isinstance(net, nn.Module) else module


def conditions(model: nn.Module, dataset: Dataset, augment: float, targets: Sequence[str] = ()) -> TrainingConditions:
    """What fits the network, the data, `Trainer.augment` and what the loss takes besides, see `Loss.targets`.

    Raises:
        InputError: they do not fit together; names the values.
    """
    members = dict(conditions_of(network_of(model)))
    augmentation = members.pop(AUGMENT, None)
    if augment > 0:
        _check_augmented(augmentation, dataset, augment)
    for name, member in members.items():
        _check(member, _of_all(dataset, name))
    for name in targets:
        _of_all(dataset, name, "data", "give data with it")
    train = {name: dataset.conditions[name] for name in (*members, *targets)}
    heldout = {name: dataset.heldout_conditions[name] for name in (*members, *targets)}
    samples = {name: heldout[name] for name in members}
    if members.keys() == {"class"}:
        samples = {"class": torch.unique(train["class"])}
    return TrainingConditions(train, heldout, samples, Augmentation(augment) if augment > 0 else None)


def condition_sizes(condition: Kinds, given: Any, dataset: Dataset) -> Any:
    """The argument `condition_size` of a network, with the sizes of this data where it is 0 or left out.

    Args:
        condition: the argument `condition`.
        given: what was given for `condition_size`.
        dataset: knows the sizes.

    Raises:
        InputError: the data has no such condition.
    """
    given = 0 if given == "measured" else given
    if not isinstance(condition, Mapping):
        return given or _measured(str(condition), condition, dataset)
    sizes = given if isinstance(given, Mapping) else dict.fromkeys(condition, given)
    return {name: sizes.get(name) or _measured(name, kind, dataset) for name, kind in condition.items()}


def _measured(name: str, kind: Kind | None, dataset: Dataset) -> int:
    if name == AUGMENT:
        return Augmentation.size
    if kind is None or kind not in get_args(Kind):  # of a network of the user
        return 0
    return _size(kind, _of_all(dataset, name))


def _of_all(
    dataset: Dataset, name: str, key: str = _WHERE, remedy: str = "give null, or other data"
) -> tuple[Tensor, Tensor]:
    known = dataset.conditions.keys() & dataset.heldout_conditions.keys()
    wanted = f"this data has {', '.join(sorted(known)) or 'no conditions'}; {remedy}"
    require(name in known, key, name, wanted)
    return dataset.conditions[name], dataset.heldout_conditions[name]


def _size(kind: Kind, values: tuple[Tensor, Tensor]) -> int:
    """The size of a condition with these values."""
    if kind == "class":
        return max(int(part.max()) for part in values) + 1
    return values[0].shape[2 if kind == "tokens" else 1]


def _check(member: Condition, values: tuple[Tensor, Tensor]) -> None:
    size = _size(member.kind, values)
    fits, wanted = size == member.size, f"the {member.name} of this data has size {size}"
    if member.kind == "class":
        low = min(int(part.min()) for part in values)
        require(low >= 0, "data", low, "classes are counted from 0; give each item one")
        fits, wanted = size <= member.size, f"this data has {size} classes; give {size} or more"
    require(fits, f"{_WHERE}_size", member.size, wanted)


def _check_augmented(member: Condition | None, dataset: Dataset, augment: float) -> None:
    images = dataset.transform.kind == "image" and len(dataset.event_shape) == 3
    wanted = f"items of shape {dataset.event_shape} are no images (channels, height, width); give 0"
    require(images, "trainer.augment", augment, wanted)
    found = "no such condition" if member is None else f"{member.kind} {member.size}, dropout {member.dropout:g}"
    fits = member is not None and (member.kind, member.size, member.dropout) == ("vector", Augmentation.size, 0)
    needed = f"needs a network with the condition augment: vector, of size {Augmentation.size}, without dropout"
    wanted = f"give {_WHERE}={{augment:vector}}, with others if you like, or 0"
    refuse(not fits, f"trainer.augment: {augment!r} {needed}, but it has {found}; {wanted}")
