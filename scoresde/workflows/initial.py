"""A training that starts from another run: its SDE and network as they are, its weights, its units of data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scoresde import runs
from scoresde.data import Dataset, Transform
from scoresde.errors import refuse
from scoresde.plain import key_of
from scoresde.training.checkpoint import Checkpoint

KEY = "init"
_TAKEN = ("sde", "model")


@dataclass(frozen=True)
class Initial:
    """What a training takes from the run that `init` names.

    Attributes:
        run: the folder; None for a training that is resumed and began from none.
        transform: between data units and those of the network.
        weights: of the model; None for a training that has a checkpoint of its own.
    """

    run: str | None
    transform: Transform
    weights: Mapping[str, torch.Tensor] | None

    @classmethod
    def of(cls, cfg: Mapping[str, Any], own: Checkpoint | None, allow: Sequence[str]) -> "Initial | None":
        """From the configuration of a training, or from its own checkpoint, so that the run may be gone by then."""
        if own is not None:  # whose units are kept, whatever the data would have now
            return cls(cfg[KEY], Transform.from_dict(own.state["data"]["transform"]), None)
        if cfg[KEY] is None:
            return None
        run = runs.load(cfg[KEY], device="cpu", allow=allow)
        return cls(cfg[KEY], run.transform, run.model.state_dict())

    def in_its_units(self, dataset: Dataset) -> Dataset:
        """The data as the network knows them.

        Raises:
            InputError: items of another shape, or in other units.
        """
        return dataset.under(self.transform, f"{KEY}: {self.run}" if self.run else "data: the run")


def taken_over(cfg: dict[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """The configuration with the SDE and the model of the run that `init` names, if it names one.

    Raises:
        InputError: it is not a run, or another SDE or model was typed.
    """
    if cfg[KEY] is None:
        return cfg
    run = Path(cfg[KEY])
    stored = runs.read_config(run)
    for text in typed:
        key = key_of(text)
        taken = key.partition(".")[0] in _TAKEN
        refuse(taken, f"{key}: {KEY}= takes the SDE and the network of {run} as they are; leave it out")
    return {**cfg, **{key: runs.section(stored, key, run) for key in _TAKEN}}
