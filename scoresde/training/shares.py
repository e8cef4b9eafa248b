"""The gradient of a batch in parts, and of several processes: one sum, in an order that depends on the parts alone."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.errors import refuse
from scoresde.loss import Batch, Loss, LossTerms
from scoresde.parallel import World
from scoresde.training.settings import Settings


def parts_of(settings: Settings, world: World) -> int:
    """The number M of parts of a batch, each of which goes through the network alone.

    Raises:
        InputError: several processes cannot share them.
    """
    parts = settings.batch_size // (settings.micro_batch or settings.batch_size)
    wanted = f"is not allowed with {world.size} processes, which share parts of equal size; give"
    likely = f"{settings.batch_size // world.size}, for one part of the {settings.batch_size} items each"
    if settings.batch_size % world.size:
        likely = f"a trainer.batch_size that is a multiple of {world.size} first"
    got = "null" if settings.micro_batch is None else settings.micro_batch
    refuse(bool(parts % world.size), f"trainer.micro_batch: {got} {wanted} {likely}")
    return parts


class Shares:
    """Sums over M parts of a batch, of which process r of W computes those of number r modulo W.

    With 2^k the largest power of two in M, parts m, m + 2^k, ... are added one after the other, as terms of a sum
    over 2^k of them. Their sum is that of the even ones plus that of the odd ones, and these are sums of the same kind:
    the last levels of this tree are those between processes. Buffers begin each part as they begin the step; then they
    change by the mean of what they did in the parts, and integers by the sum.

    Args:
        module: whose gradients and buffers are summed.
        parts: M.
        world: of the processes.

    Attributes:
        share: the factor of the mean loss of a part.
        module: what the loss calls.
    """

    def __init__(self, module: nn.Module, params: Sequence[Tensor], parts: int, world: World) -> None:
        self.parts, self.numbers, self.share = parts, world.rows(parts), 1 / parts
        self.signal = 0  # one that some process has received
        self.module, self._params, self._world = module, params, world
        self._terms = (parts & -parts) // world.size
        self._moving = list(params)  # those that a forward pass changes, known after the first one
        self._used: list[Tensor] = []  # those that get gradients, known after the first step
        self._number: tuple[Tensor, Any] | None = None

    def evaluate(self, loss: Loss[Any], batch: Batch) -> LossTerms:
        """The loss of a part."""
        return loss(self.module, batch)

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """The norm of the whole gradient."""
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients))))
        return norm

    def first(self, names: Sequence[str], own: str | None) -> str | None:
        """The first name that any process has found, in the order of names; all have the same, unless they are cut."""
        return own

    def add(self, backward: Callable[[int], None]) -> None:
        """Call `backward(j)` for the j-th part of this process, for all j; the gradients are then their sum."""
        self._buffers = list(self.module.buffers())
        self._start, self._changes = self._state(), dict[int, Tensor]()
        weights = [p.detach().clone() for p in self._moving]

        def one(j: int) -> None:
            if self._changes and self._moving:
                torch._foreach_copy_([p.detach() for p in self._moving], weights)
            backward(j)
            if not self._changes:
                moved = [not torch.equal(p, w) for p, w in zip(self._moving, weights, strict=True)]
                weights[:] = itertools.compress(weights, moved)
                self._moving = list(itertools.compress(self._moving, moved))
            now = self._state()
            self._changes[j] = torch.where(now == self._start, 0.0, now - self._start)
            self._set(self._start)

        self._tree(one, 0, 1)

    def _tree(self, backward: Callable[[int], None], first: int, step: int) -> None:
        if step == self._terms:
            for j in range(first, len(self.numbers), step):
                backward(j)
            return
        self._tree(backward, first, 2 * step)
        even = [p.grad for p in self._params]
        for p in self._params:
            p.grad = None
        self._tree(backward, first + step, 2 * step)
        both = [(p.grad, g) for p, g in zip(self._params, even, strict=True) if p.grad is not None and g is not None]
        if both:
            torch._foreach_add_(*map(list, zip(*both, strict=True)))
        for p, g in zip(self._params, even, strict=True):
            p.grad = g if p.grad is None else p.grad

    def _state(self) -> Tensor:
        """All buffers in one, float64."""
        none = torch.empty(0, dtype=torch.float64, device=self._params[0].device)
        return torch.cat([none, *(b.double().flatten() for b in self._buffers)])

    def _set(self, state: Tensor) -> None:
        for buffer, part in zip(self._buffers, state.split([b.numel() for b in self._buffers]), strict=True):  # type: ignore[no-untyped-call]
            buffer.copy_(part.view_as(buffer))

    def unite(self, values: Sequence[Tensor], signal: int) -> list[Tensor]:
        """Sum the gradients of all processes, change the buffers, and gather values (B / W,) of the items of each.

        Args:
            values: such as losses, in the order of the rows of this process.
            signal: one that this process has received, or 0.

        Returns:
            The values of all items, (B,).
        """
        changes, size = torch.stack([self._changes[j] for j in range(len(self.numbers))]), self._world.size
        if size > 1:
            beside = torch.cat([*(v.to(changes) for v in values), changes.flatten(), changes.new_tensor([signal])])
            gathered, sizes = self._reduced(beside), [*map(len, values), changes.numel(), 1]
            *rows, every, signals = gathered.split(sizes, 1)  # type: ignore[no-untyped-call]
            values = [r.T.flatten().to(v.dtype) for r, v in zip(rows, values, strict=True)]
            changes = every.reshape(size, *changes.shape).transpose(0, 1).reshape(self.parts, -1)
            self._note(signals.max())
        if self._buffers:
            real = [torch.full_like(b, b.is_floating_point(), dtype=torch.bool).flatten() for b in self._buffers]
            self._set(self._start + torch.where(torch.cat(real), changes.mean(0), changes.sum(0)))
        return list(values)

    def _reduced(self, beside: Tensor) -> Tensor:
        """Sum the gradients of all processes; returns what stood beside them, (W, n)."""
        if not self._used:
            own = torch.tensor([p.grad is not None for p in self._params], device=beside.device)
            used = self._world.gather(own[None]).any(0).tolist()
            self._used = list(itertools.compress(self._params, used))
            self._others = [p for p, u in zip(self._params, used, strict=True) if not u]
        self._refuse_late()
        for p in self._used:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        gradients = [p.grad for p in self._used if p.grad is not None]
        gathered: Tensor
        total, gathered = self._world.sum(torch.cat([g.reshape(-1) for g in gradients]), beside)
        pieces = total.split([g.numel() for g in gradients])
        torch._foreach_copy_(gradients, [piece.view_as(g) for piece, g in zip(pieces, gradients, strict=True)])
        return gathered

    def _refuse_late(self) -> None:
        late = any(p.grad is not None for p in self._others)
        refuse(late, "model: some weights get gradients in later steps only, which several processes cannot share")

    def _note(self, number: Tensor) -> None:
        """Read the number of a signal; on a device that of the step before, so that nothing waits for this one."""
        if number.device.type == "cpu":
            self.signal = int(number)
            return
        host = torch.empty((), dtype=number.dtype, pin_memory=True).copy_(number, non_blocking=True)
        before, self._number = self._number, (host, torch.cuda.current_stream().record_event())
        if before is not None:
            before[1].synchronize()
            self.signal = int(before[0])
