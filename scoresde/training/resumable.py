"""Everything that a training changes, as a checkpoint holds it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoresde.errors import InputError
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.ema import Averages
from scoresde.training.power_ema import POWER
from scoresde.training.state import first_not_finite, load_module, load_optimizer, module_state, optimizer_state
from scoresde.training.step import Step


@dataclass(frozen=True)
class Resumable:
    """The changing parts of a training.

    Args:
        step: has the model, the optimizer, the loss and the scaler of the gradients.
        averages: of the weights.

    Raises:
        InputError: something cannot be saved.
    """

    step: Step
    averages: Averages[Any]

    def __post_init__(self) -> None:
        module_state(self.step.model), optimizer_state(self.step.optimizer, self.step.model)

    def not_finite(self) -> str | None:
        """The name of a tensor with NaN or infinity; None if all are finite."""
        tensors, _ = optimizer_state(self.step.optimizer, self.step.model)
        return first_not_finite({**dict(self.step.model.named_parameters()), **tensors})

    def checkpoint(self, done: int, state: dict[str, Any]) -> Checkpoint:
        """The checkpoint after `done` steps, with the values `state` besides."""
        step = self.step
        tensors, rest = optimizer_state(step.optimizer, step.model)
        averages = {name: module_state(average.module) for name, average in self.averages.members.items()}
        others = {"history": {} if step.history is None else step.history.state(), "loss": step.loss.state()}
        kept = {name: found for name, found in others.items() if found}
        own = {"ema_updates": self.averages.members["ema"].updates, "scaler": step.scaler.state_dict()}
        own |= {"samples_seen": step.position, "optimizer": rest}
        return Checkpoint(done, {"model": module_state(step.model), **averages, **kept}, tensors, {**state, **own})

    def snapshot(self, done: int) -> Checkpoint:
        """The power-function averages after `done` steps."""
        powers = {name: average for name, average in self.averages.members.items() if name.startswith(POWER)}
        return Checkpoint(done, {name: module_state(average.module) for name, average in powers.items()}, {}, {})

    def load(self, start: Checkpoint, origin: Path) -> None:
        """The inverse of `checkpoint`; `origin` is the place of the checkpoint, for messages.

        Raises:
            InputError: the checkpoint is that of another model, optimizer, loss or of other averages.
        """
        step, state, members = self.step, start.state, self.averages.members
        if start.averages.keys() != members.keys():
            asked, held = ", ".join(members), ", ".join(sorted(start.averages))
            raise InputError(
                f"ema: the averages asked for are {asked}, but {origin} holds {held}; resume with the same"
            )
        load_module(step.model, start.modules["model"], origin)
        for name, average in members.items():
            load_module(average.module, start.modules[name], origin)
            average.updates = state["ema_updates"]
        load_optimizer(step.optimizer, step.model, start.optimizer, state["optimizer"], origin)
        step.loss.load(start.modules.get("loss", {}))
        step.position = int(state["samples_seen"])
        if step.history is not None and "history" in start.modules:
            step.history.load(start.modules["history"])
        if step.scaler.is_enabled() and state.get("scaler"):  # else it was trained in another arithmetic
            step.scaler.load_state_dict(state["scaler"])
