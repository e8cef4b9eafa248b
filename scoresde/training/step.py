"""One training step, which waits for no device, and everything that it changes, as a checkpoint holds it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.data.augment import Augmentation
from scoresde.errors import refuse
from scoresde.loss import Batch, Loss, LossTerms
from scoresde.loss.levels import LossHistory, stratified
from scoresde.model import device_of
from scoresde.nets.condition import AUGMENT
from scoresde.noise import Noise, derived_seed, parts, take
from scoresde.parallel import World
from scoresde.training.batches import Batches
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.ddp import AveragedShares
from scoresde.training.ema import Averages
from scoresde.training.power_ema import POWER
from scoresde.training.settings import Settings
from scoresde.training.shards import fill, local
from scoresde.training.shares import Shares, parts_of
from scoresde.training.state import (
    first_not_finite,
    load_module,
    load_optimizer,
    module_state,
    optimizer_state,
    require_same,
)
from scoresde.training.window import Window

# Inputs are drawn for several steps at once: after a pass through the network this code and its constants have left
# the caches of the processor, and loading them again costs more than the numbers. At most so many steps, and values.
_STEPS_AHEAD, _VALUES_AHEAD = 16, 2**17


class Unprofiled:
    """Measures nothing; see `scoresde.training.profile.Profile`, which measures the time of each part of a step."""

    def count(self, step: "Step", k: int) -> None:
        """Called before the first step, k, while the network is not accelerated."""

    def before_step(self, step: "Step") -> None:
        """Called before each step."""

    def mark(self, what: str) -> None:
        """Called with what the time since the last mark was spent on: data, forward, ..., checkpoint."""

    def finish(self, step: "Step") -> None:
        """Called after the last step."""


def reseed(device: torch.device, seed: int) -> None:
    """Seed the global generators from which a network on `device` draws, such as its dropout layers."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


@dataclass(eq=False)
class Step:
    """Training step number k, a function of (seed, k) and of the state of model, optimizer and average.

    Steps are taken in order, from any k on.

    Args:
        model: the network, which a step changes.
        averages: of its weights, which a step changes.
        optimizer: which a step changes; its learning rates are the base.
        loss: what it minimizes.
        batches: the data.
        settings: of the training. The gradients of micro-batches add up to that of the whole batch. Data, noise and
            noise levels are those of the whole batch; dropout is a function of (seed, k, micro-batch).
        seed: with k, decides every random number.
        position: number of items used by earlier steps.
        scaler: scales the gradients of float16; it skips steps in which one overflows.
        profile: measures the time of each part.
        augmentation: changes the data by random numbers of (seed, k); the condition `augment` says how.
        world: of several processes, each of which works on its items of each batch, see `Shares`.
        signals: those that this process has received.
        shares: of the processes, where the network is cut.

    Raises:
        InputError: the state of the model or of the optimizer cannot be saved, or the processes cannot share a batch.
    """

    model: nn.Module
    averages: Averages[Any]
    optimizer: torch.optim.Optimizer
    loss: Loss[Any]
    batches: Batches
    settings: Settings
    seed: int
    position: int = 0
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler(enabled=False))
    profile: Unprofiled = field(default_factory=Unprofiled)
    augmentation: Augmentation | None = None
    world: World = field(default_factory=World)
    signals: Sequence[int] = ()
    shares: Shares | None = None

    def __post_init__(self) -> None:
        self.clip, size = self.settings.clip, self.settings.batch_size
        self.batch_size, self._rows = size, self.world.rows(size)
        self._device = device_of(self.model)
        self._on_host = self._device.type == "cpu"
        self.window = Window(self.loss.range_of_lam(self.model), skipping=self.scaler.is_enabled())
        self.history = LossHistory(self._device) if self.loss.importance else None
        self._noise = Noise(self.seed, self._rows)
        self._ahead = max(1, min(_STEPS_AHEAD, _VALUES_AHEAD // self.batches.at(0, size).numel()))
        self._drawn: list[tuple[Batch, Tensor, list[int]]] = []  # inputs of the next steps, the last one first
        self._limit = torch.tensor(self.clip, device=self._device)
        self._base = [group["lr"] for group in self.optimizer.param_groups]
        self._params = [p for group in self.optimizer.param_groups for p in group["params"]]
        kind = AveragedShares if self.settings.strategy == "ddp" and self.world.size > 1 else Shares
        given = self.shares
        self._shares = given or kind(self.model, self._params, parts_of(self.settings, self.world), self.world)
        module_state(self.model), optimizer_state(self.optimizer, self.model)

    @property
    def trained(self) -> nn.Module:
        """What the loss calls: the model, or that which is cut over the processes."""
        return self._shares.module

    @property
    def stopping(self) -> Sequence[int]:
        """The signals at which all processes stop after this step."""
        return self.signals if self.world.size == 1 else list(filter(None, [self._shares.signal]))

    def __call__(self, k: int) -> None:
        self.set_rate(self.settings.rate(k))
        if not self._drawn:
            self._drawn = [self.draw(k + i, self.position + i * self.batch_size) for i in range(self._ahead)][::-1]
        self.profile.mark("data")
        batch, u, seeds = self._drawn.pop()
        weight = None
        if self.history is not None:
            u, weight = self.history.draw(u)
            batch = replace(batch, u=take(u, self._rows))
        terms = self._gradient(batch, weight, seeds)
        self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.profile.mark("optimizer")
        self.averages.update(self.model)
        if self.history is not None:
            self.history.update(u, terms.loss)
        self.window.add(terms, norm, weight)
        self.loss.after_step(self.model, k)
        self.position += self.batch_size
        self.profile.mark("average")

    def draw(self, k: int, position: int) -> tuple[Batch, Tensor, list[int]]:
        """The items of step k, whose data begin at `position`, the u of all processes, and the seed of each part."""
        x0 = self.batches.at(position, self.batch_size)
        u = Noise(self.seed).uniform("time", k, self.batch_size)
        u = stratified(u) if self.loss.stratified else u
        eps = self._noise.normal("train", k, x0.shape, self._device)
        cond = self.batches.conditions(position, self.batch_size)
        if self.augmentation is not None:
            x0, cond = self._augmented(self.augmentation, x0, cond, k)
        purposes = ("dropout" if part == 0 else f"dropout {part}" for part in self._shares.numbers)
        seeds = [derived_seed(self.seed, purpose, k) for purpose in purposes]
        return Batch(x0, take(u, self._rows), eps, cond or None, self._noise, k), u, seeds

    def _augmented(
        self, augmentation: Augmentation, x0: Tensor, cond: dict[str, Tensor], k: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The images x0, and those of their conditions, changed in the same way, and how, as a further condition."""
        chances = self._noise.uniform("augment", k, (len(x0), augmentation.uniforms))
        amounts = self._noise.normal("augment", k, (len(x0), augmentation.normals))
        images = {"": x0, **{name: c for name, c in cond.items() if c.ndim == x0.ndim}}
        changed, how = augmentation(torch.cat(list(images.values()), 1), chances, amounts)
        x0, *others = torch.split(changed, [image.shape[1] for image in images.values()], 1)
        return x0, {**cond, **dict(zip(list(images)[1:], others, strict=True)), AUGMENT: how}

    def _gradient(self, batch: Batch, weight: Tensor | None, seeds: list[int]) -> LossTerms:
        """Add the gradient of the mean loss to that of the parameters; returns the loss terms, detached."""
        if self._shares.parts == 1:
            return self._pass(batch, weight, seeds[0], 1.0)
        weight = None if weight is None else take(weight, self._rows)
        own, found = parts(range(len(batch.x0)), len(seeds)), dict[int, LossTerms]()

        def backward(j: int) -> None:
            weights = None if weight is None else take(weight, own[j])
            found[j] = self._pass(batch.part(own[j]), weights, seeds[j], self._shares.share)

        self._shares.add(backward)
        terms = [found[j] for j in range(len(own))]
        columns = [[one.loss for one in terms], [one.lam for one in terms if one.lam is not None]]
        values = [torch.stack(column, 1).flatten() for column in columns if column]
        losses, *lams = self._shares.unite(values, self.signals[0] if self.signals else 0)
        return LossTerms(losses, *lams)

    def _pass(self, batch: Batch, weight: Tensor | None, seed: int, share: float) -> LossTerms:
        """Forward and backward through the network, for a share of the whole batch."""
        reseed(self._device, seed)
        loss, lam = self._shares.evaluate(self.loss, batch)
        self.profile.mark("forward")
        weighted = loss if weight is None else weight.to(loss.dtype) * loss
        mean = weighted.mean() if share == 1 else weighted.mean() * share
        self.scaler.scale(mean).backward()  # type: ignore[no-untyped-call]
        self.profile.mark("backward")
        return LossTerms(loss.detach(), lam)

    def set_rate(self, rate: float) -> None:
        """Set the learning rates to those of the optimizer times `rate`."""
        for group, base in zip(self.optimizer.param_groups, self._base, strict=True):
            group["lr"] = base * rate

    def _clip(self) -> Tensor:
        """Norm of the whole gradient, which is then scaled down to at most `clip`."""
        gradients = [p.grad for p in self._params if p.grad is not None]
        norm = self._shares.norm(gradients)
        # on the host, where nothing has to be waited for, a short gradient is left as it is
        if self.clip > 0 and not (self._on_host and norm <= self.clip):
            torch._foreach_mul_(list(map(local, gradients)), self._limit / norm.clamp(min=self.clip))
        return norm

    def not_finite(self) -> str | None:
        """The name of a weight or of a tensor of the optimizer with NaN or infinity; None if all are finite."""
        tensors, _ = optimizer_state(self.optimizer, self.model)
        tensors = {name: local(t) for name, t in {**dict(self.model.named_parameters()), **tensors}.items()}
        return self._shares.first(list(tensors), first_not_finite(tensors))

    def snapshot(self, done: int) -> Checkpoint:
        """The power-function averages after `done` steps."""
        states = self.averages.states()
        return Checkpoint(done, {name: states[name] for name in states if name.startswith(POWER)}, {}, {})

    def checkpoint(self, done: int, state: dict[str, Any]) -> Checkpoint:
        """The checkpoint after `done` steps, with the values `state` besides."""
        modules = {"model": module_state(self.model), **self.averages.states()}
        if self.history is not None:
            modules["history"] = self.history.state()
        if of_loss := self.loss.state():
            modules["loss"] = of_loss
        tensors, rest = optimizer_state(self.optimizer, self.model)
        own = {"ema_updates": self.averages.members["ema"].updates, "scaler": self.scaler.state_dict()}
        own |= {"samples_seen": self.position, "optimizer": rest}
        return Checkpoint(done, modules, tensors, {**state, **own})

    def load(self, start: Checkpoint, origin: Path) -> None:
        """The inverse of `checkpoint`; `origin` is the place of the checkpoint, for messages.

        Raises:
            InputError: the checkpoint is that of another model, optimizer or loss, or lacks a power-function average.
        """
        asked, held, state = self.averages.members, start.averages, start.state
        late = [name for name in asked if name.startswith(POWER) and name not in held]
        wanted = f"is an average from the first step on, and {origin} has none; begin a new training with init="
        refuse(bool(late), f"ema_power: {late and late[0].removeprefix(POWER)} {wanted}")
        for name in ("model", "ema"):
            refuse(name not in start.modules, f"checkpoint: {origin}/{name}.safetensors is missing; use another one")
        load_module(self.model, start.modules["model"], origin / "model.safetensors")
        for name, average in asked.items():  # a further exponential one begins at the weights
            fill(module_state(average.module), module_state(self.model))
            if name in held:
                load_module(average.module, held[name], origin / f"{name}.safetensors")
            average.updates = state["ema_updates"]
        place = origin / "optimizer.safetensors"
        load_optimizer(self.optimizer, self.model, start.optimizer, state["optimizer"], place)
        self.loss.load(start.modules.get("loss", {}))
        self.position = int(state["samples_seen"])
        if self.history is not None and "history" in start.modules:
            require_same(start.modules["history"], self.history.state(), origin / "history.safetensors")
            self.history.load(dict(start.modules["history"]))
        if self.scaler.is_enabled() and state.get("scaler"):  # else it was trained in another arithmetic
            self.scaler.load_state_dict(state["scaler"])
