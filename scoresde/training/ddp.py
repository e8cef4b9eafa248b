"""Gradients that torch averages over processes while the backward pass still runs: faster, but no longer bit by bit."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scoresde.errors import InputError
from scoresde.loss import Batch, Loss, LossTerms
from scoresde.training.shares import Shares


class _Evaluated(nn.Module):
    """A model in the evaluation of a loss, which may call it several times; its buffers are left as they are.

    Args:
        model: whose gradients are averaged.
        used: those of its parameters that get gradients.
    """

    def __init__(self, model: nn.Module, used: Sequence[Tensor]) -> None:
        super().__init__()
        self.model, ids = model, set(map(id, used))
        unused = [name for name, p in self.named_parameters() if id(p) not in ids]
        self._ddp_params_and_buffers_to_ignore = unused + [name for name, _ in self.named_buffers()]

    def forward(self, loss: Loss[Any], batch: Batch) -> LossTerms:
        return loss(self.model, batch)


class AveragedShares(Shares):
    """Shares whose gradients DistributedDataParallel averages, bucket by bucket, during the last backward pass.

    Each process adds those of its parts, one after the other. Losses, levels, buffers and signals travel as they do
    in `Shares`, so all that differs is the rounding of the gradient. The first step is one of `Shares`, and shows which
    weights have gradients.

    Li et al. 2020 (arXiv 2006.15704), section 3.2.
    """

    _whole: DistributedDataParallel | None = None

    def evaluate(self, loss: Loss[Any], batch: Batch) -> LossTerms:
        terms: LossTerms = super().evaluate(loss, batch) if self._whole is None else self._whole(loss, batch)
        return terms

    def _tree(self, backward: Callable[[int], None], first: int, step: int) -> None:
        if self._whole is None:
            return super()._tree(backward, first, step)
        *early, last = range(len(self.numbers))
        with self._whole.no_sync():
            for j in early:
                backward(j)
        with self._world.together(computing=True):
            backward(last)

    def _reduced(self, beside: Tensor) -> Tensor:
        if self._whole is None:
            gathered = super()._reduced(beside)
            self._begin()
            return gathered
        self._refuse_late()
        try:
            self._whole._check_reducer_finalized()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            wanted = "not allowed for a network that leaves out some weights in some steps; give exact"
            raise InputError(f"trainer.strategy: ddp is {wanted}") from error
        every: Tensor = self._world.gather(beside[None])
        return every

    def _begin(self) -> None:
        """Let torch average the gradients from now on."""
        whole = _Evaluated(self._module, self._used)
        self._whole = DistributedDataParallel(whole, init_sync=False, gradient_as_bucket_view=True)
        self.share *= self._world.size  # torch divides by it
