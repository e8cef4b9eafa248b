"""Everything that a training changes, as a checkpoint holds it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.errors import InputError
from scoresde.loss import Loss
from scoresde.loss.levels import LossHistory
from scoresde.training.averages import Averages, is_average
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.state import first_not_finite, load_module, load_optimizer, module_state, optimizer_state


@dataclass
class Resumable:
    """The changing parts of a training.

    Args:
        model: see `Trainer`.
        averages: see `Trainer`.
        optimizer: see `Trainer`.
        loss: see `Trainer`.
        scaler: of the gradients.
        history: of the losses, if noise levels are drawn by importance.
    """

    model: nn.Module
    averages: Averages[Any]
    optimizer: torch.optim.Optimizer
    loss: Loss[Any]
    scaler: torch.amp.GradScaler
    history: LossHistory | None = None

    def check(self) -> None:
        """Raise InputError for what cannot be saved."""
        module_state(self.model), optimizer_state(self.optimizer, self.model)

    def not_finite(self) -> str | None:
        """The name of a tensor with NaN or infinity; None if all are finite."""
        tensors, _ = optimizer_state(self.optimizer, self.model)
        return first_not_finite({**dict(self.model.named_parameters()), **tensors})

    def checkpoint(self, step: int, state: dict[str, Any]) -> Checkpoint:
        """The checkpoint of a step, with the values `state` besides."""
        tensors, rest = optimizer_state(self.optimizer, self.model)
        averages = {name: module_state(average.module) for name, average in self.averages.members.items()}
        modules: dict[str, dict[str, Tensor]] = {"model": module_state(self.model), **averages}
        others = {"history": {} if self.history is None else self.history.state(), "loss": self.loss.state()}
        modules |= {name: kept for name, kept in others.items() if kept}
        own = {"ema_updates": self.averages.updates, "scaler": self.scaler.state_dict(), "optimizer": rest}
        return Checkpoint(step, modules, tensors, {**state, **own})

    def load(self, start: Checkpoint, origin: Path) -> None:
        """The inverse of `checkpoint`; `origin` is the place of the checkpoint, for messages.

        Raises:
            InputError: the checkpoint is that of another model, optimizer, loss or of other averages.
        """
        state, members = start.state, self.averages.members
        stored = sorted(filter(is_average, start.modules))
        if stored != sorted(members):
            raise InputError(
                f"ema: the averages asked for are {', '.join(members)}, but {origin} holds {', '.join(stored)}; "
                "resume with the same"
            )
        load_module(self.model, start.modules["model"], origin)
        for name, average in members.items():
            load_module(average.module, start.modules[name], origin)
        load_optimizer(self.optimizer, self.model, start.optimizer, state["optimizer"], origin)
        self.loss.load(start.modules.get("loss", {}))
        self.averages.updates = state["ema_updates"]
        if self.history is not None and "history" in start.modules:
            self.history.load(start.modules["history"])
        if self.scaler.is_enabled() and state.get("scaler"):  # else it was trained in another arithmetic
            self.scaler.load_state_dict(state["scaler"])
