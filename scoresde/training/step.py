"""One training step: data, noise, loss, gradient, update, average. Nothing here waits for the device."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from scoresde.data.augment import Augmentation
from scoresde.errors import require
from scoresde.levels import LossHistory, stratified
from scoresde.loss import LossTerms
from scoresde.model import ScoreModel
from scoresde.noise import Noise, derived_seed
from scoresde.training.batches import Batches
from scoresde.training.window import Window

# Inputs are drawn for several steps at once: after a pass through the network this code and its constants have left
# the processor's caches, and calling them back costs more than the numbers. At most so many steps, and values.
_STEPS_AHEAD, _VALUES_AHEAD = 16, 2**17

# data, uniform numbers, normal numbers, what the network is told, if anything, and for each micro-batch the seed of
# what the network draws
_Draw = tuple[Tensor, Tensor, Tensor, Tensor | None, list[int]]


class Loss(Protocol):
    """What a training minimises, such as `scoresde.loss.DenoisingScoreMatching`.

    If it has attributes `stratified` and `importance`, they say how the numbers u of a whole batch are drawn.
    """

    def __call__(self, model: ScoreModel, x0: Tensor, u: Tensor, eps: Tensor, cond: Tensor | None = None) -> LossTerms:
        """Loss of each sample for data x0 (B, *event), uniform numbers u (B,) and normal numbers eps (B, *event).

        Where the network is told something, that is `cond`.
        """


def told_loss(loss: Loss, model: ScoreModel, x0: Tensor, u: Tensor, eps: Tensor, cond: Tensor | None) -> LossTerms:
    """The loss with a condition if there is one; a loss of the user's own need not know of conditions."""
    return loss(model, x0, u, eps) if cond is None else loss(model, x0, u, eps, cond)


class Averaged(Protocol):
    """What takes in the weights after each step: one average, or several."""

    def update(self, module: ScoreModel) -> None:
        """Take the weights of `module` into the average."""


def not_timed(what: str) -> None:
    """Stands for `Profile.mark` where nobody asks where the time goes."""


def reseed(device: torch.device, seed: int) -> None:
    """Set the global generators that a network on `device` draws from, such as its dropout layers."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


class Step:
    """Training step number k, a function of (seed, k) and of the state of model, optimizer and average.

    Steps are taken in order, from any k on.

    Args:
        model, average, optimizer: what a step changes. The optimizer's learning rates are the base.
        loss: what it minimises.
        batches: the data.
        batch_size: items in a step.
        seed: with k, decides every random number.
        clip: largest norm of the whole gradient; 0 turns clipping off.
        rate: factor of the learning rate in step k.
        position: number of items used by earlier steps.
        micro_batch: items that go through the network at once; their gradients add up to that of the whole batch. Data,
            noise and noise levels are those of the whole batch, dropout is a function of (seed, k, micro-batch).
        scaler: for the gradients of float16; it skips steps in which one overflows.
        mark: called with what the time since its last call was spent on.
        augmentation: changes the data, by random numbers of (seed, k), and says how; in place of the classes of the
            data, that is then what the network is told.

    Raises:
        InputError: micro_batch does not divide batch_size.
    """

    def __init__(
        self,
        model: ScoreModel,
        average: Averaged,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        batches: Batches,
        batch_size: int,
        seed: int,
        clip: float,
        rate: Callable[[int], float],
        position: int = 0,
        micro_batch: int | None = None,
        scaler: torch.amp.GradScaler | None = None,
        mark: Callable[[str], None] = not_timed,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.model, self.average, self.optimizer, self.loss, self.batches = model, average, optimizer, loss, batches
        self.batch_size, self.seed, self.clip, self.rate, self.position = batch_size, seed, clip, rate, position
        self.mark, self.augmentation = mark, augmentation
        self.scaler = scaler or torch.amp.GradScaler(model.device.type, enabled=False)
        wanted = f"it must divide the {batch_size} items of trainer.batch_size"
        require(batch_size % (micro_batch or batch_size) == 0, "micro_batch", micro_batch, wanted)
        self._parts = batch_size // (micro_batch or batch_size)
        self.window = Window(model.sde, skipping=self.scaler.is_enabled())
        self.history = LossHistory(model.device) if getattr(loss, "importance", False) else None
        self._noise, self._device, self._on_host = Noise(seed), model.device, model.device.type == "cpu"
        self._ahead = max(1, min(_STEPS_AHEAD, _VALUES_AHEAD // batches.at(0, batch_size).numel()))
        self._drawn: list[_Draw] = []  # inputs of the next steps, the last one first
        self._limit = torch.tensor(clip, device=model.device)
        self._base = [group["lr"] for group in optimizer.param_groups]
        self._params = [p for group in optimizer.param_groups for p in group["params"]]

    def __call__(self, k: int) -> None:
        self._set_rate(self.rate(k))
        if not self._drawn:
            self._drawn = [self.draw(k + i, self.position + i * self.batch_size) for i in range(self._ahead)][::-1]
        self.mark("data")
        x0, u, eps, cond, seeds = self._drawn.pop()
        u, weight = (u, None) if self.history is None else self.history.draw(u)
        terms = self._gradient(x0, u, eps, cond, weight, seeds)
        self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.mark("optimizer")
        self.average.update(self.model)
        if self.history is not None:
            self.history.update(u, terms.loss)
        self.window.add(terms, norm, weight)
        self.position += self.batch_size
        self.mark("average")

    def draw(self, k: int, position: int) -> _Draw:
        """All that is random in step k, whose data begin at `position`."""
        x0 = self.batches.at(position, self.batch_size)
        u = self._noise.uniform("time", k, self.batch_size)
        u = stratified(u) if getattr(self.loss, "stratified", False) else u
        eps = self._noise.normal("train", k, x0.shape, self._device)
        cond = self.batches.labels(position, self.batch_size)
        if self.augmentation is not None:
            chances = self._noise.uniform("augment", k, self.batch_size * self.augmentation.uniforms)
            amounts = self._noise.normal("augment", k, (self.batch_size, self.augmentation.normals))
            x0, cond = self.augmentation(x0, chances.reshape(self.batch_size, -1), amounts)
        purposes = ("dropout" if part == 0 else f"dropout {part}" for part in range(self._parts))
        return x0, u, eps, cond, [derived_seed(self.seed, purpose, k) for purpose in purposes]

    def _gradient(
        self, x0: Tensor, u: Tensor, eps: Tensor, cond: Tensor | None, weight: Tensor | None, seeds: list[int]
    ) -> LossTerms:
        """Add the gradient of the mean loss to that of the parameters; returns the loss terms, detached."""
        if len(seeds) == 1:
            return self._pass(x0, u, eps, cond, weight, seeds[0], 1.0)
        parts, terms = len(seeds), []
        for part, seed in enumerate(seeds):
            mine = slice(part, None, parts)  # sample i is in micro-batch i mod parts, so each has all noise levels
            told, share = (None if one is None else one[mine] for one in (cond, weight))
            terms.append(self._pass(x0[mine], u[mine], eps[mine], told, share, seed, 1 / parts))
        return LossTerms(*(torch.stack(of_parts, 1).flatten() for of_parts in zip(*terms, strict=True)))

    def _pass(
        self, x0: Tensor, u: Tensor, eps: Tensor, cond: Tensor | None, weight: Tensor | None, seed: int, share: float
    ) -> LossTerms:
        """Forward and backward through the network, for a share of the whole batch."""
        reseed(self._device, seed)
        loss, lam = told_loss(self.loss, self.model, x0, u, eps, cond)
        self.mark("forward")
        weighted = loss if weight is None else weight.to(loss.dtype) * loss
        mean = weighted.mean() if share == 1 else weighted.mean() * share
        self.scaler.scale(mean).backward()  # type: ignore[no-untyped-call]
        self.mark("backward")
        return LossTerms(loss.detach(), lam)

    @property
    def lr(self) -> float:
        """Learning rate of the last step, of the first group of parameters."""
        return float(self.optimizer.param_groups[0]["lr"])

    def restore_rate(self) -> None:
        """Put the base learning rates back, so that the optimizer can be used again."""
        self._set_rate(1.0)

    def _set_rate(self, rate: float) -> None:
        for group, base in zip(self.optimizer.param_groups, self._base, strict=True):
            group["lr"] = base * rate

    def _clip(self) -> Tensor:
        """Norm of the whole gradient, which is then scaled down to at most `clip`."""
        gradients = [p.grad for p in self._params if p.grad is not None]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        # where there is nothing to wait for, a gradient that is short enough is left as it is
        if self.clip > 0 and not (self._on_host and norm <= self.clip):
            torch._foreach_mul_(gradients, self._limit / norm.clamp(min=self.clip))
        return norm
