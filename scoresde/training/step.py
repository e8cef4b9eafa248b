"""One training step: data, noise, loss, gradient, update, average. Nothing here waits for the device."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from scoresde.levels import LossHistory, stratified
from scoresde.loss import LossTerms
from scoresde.model import ScoreModel
from scoresde.noise import Noise, derived_seed
from scoresde.training.batches import Batches
from scoresde.training.ema import Ema
from scoresde.training.window import Window

# Inputs are drawn for several steps at once: after a pass through the network this code and its constants have left
# the processor's caches, and calling them back costs more than the numbers. At most so many steps, and values.
_STEPS_AHEAD, _VALUES_AHEAD = 16, 2**17

_Draw = tuple[Tensor, Tensor, Tensor, int]  # data, uniform numbers, normal numbers, seed of what the network draws


class Loss(Protocol):
    """What a training minimises, such as `scoresde.loss.DenoisingScoreMatching`."""

    # if it has attributes `stratified` and `importance`, they say how the numbers u of a whole batch are drawn

    def __call__(self, model: ScoreModel, x0: Tensor, u: Tensor, eps: Tensor) -> LossTerms:
        """Loss of each sample for data x0 (B, *event), uniform numbers u (B,) and normal numbers eps (B, *event)."""


def reseed(device: torch.device, seed: int) -> None:
    """Set the global generators that a network on `device` draws from, such as its dropout layers."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


class Step:
    """Training step number k, a function of (seed, k) and of the state of model, optimizer and average.

    Steps are taken in order, from any k on.

    Args:
        model, ema, optimizer: what a step changes. The optimizer's learning rates are the base.
        loss: what it minimises.
        batches: the data.
        batch_size: items in a step.
        seed: with k, decides every random number.
        clip: largest norm of the whole gradient; 0 turns clipping off.
        rate: factor of the learning rate in step k.
        position: number of items used by earlier steps.
    """

    def __init__(
        self,
        model: ScoreModel,
        ema: Ema[ScoreModel],
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        batches: Batches,
        batch_size: int,
        seed: int,
        clip: float,
        rate: Callable[[int], float],
        position: int = 0,
    ) -> None:
        self.model, self.ema, self.optimizer, self.loss, self.batches = model, ema, optimizer, loss, batches
        self.batch_size, self.seed, self.clip, self.rate, self.position = batch_size, seed, clip, rate, position
        self.window = Window(model.sde)
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
            self._drawn = [self._draw(k + i, self.position + i * self.batch_size) for i in range(self._ahead)][::-1]
        x0, u, eps, seed = self._drawn.pop()
        reseed(self._device, seed)
        u, weight = (u, None) if self.history is None else self.history.draw(u)
        loss, lam = self.loss(self.model, x0, u, eps)
        weighted = loss if weight is None else weight.to(loss.dtype) * loss
        weighted.mean().backward()  # type: ignore[no-untyped-call]
        norm = self._clip()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.model)
        if self.history is not None:
            self.history.update(u, loss)
        self.window.add(LossTerms(loss.detach(), lam), norm, weight)
        self.position += self.batch_size

    def _draw(self, k: int, position: int) -> _Draw:
        """All that is random in step k, whose data begin at `position`."""
        x0 = self.batches.at(position, self.batch_size)
        u = self._noise.uniform("time", k, self.batch_size)
        u = stratified(u) if getattr(self.loss, "stratified", False) else u
        eps = self._noise.normal("train", k, x0.shape, self._device)
        return x0, u, eps, derived_seed(self.seed, "dropout", k)

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
