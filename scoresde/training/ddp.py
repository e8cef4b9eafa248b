"""Gradients that torch averages over processes while the backward pass still runs: faster, but no longer bit by bit."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scoresde.errors import InputError
from scoresde.loss import Batch, Loss, LossTerms
from scoresde.training.shares import Shares


class Evaluated(nn.Module):
    """A model in the evaluation of a loss, which may call it several times."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

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
        whole, used = Evaluated(self.module), set(map(id, self._used))
        aside = [name for name, p in whole.named_parameters() if id(p) not in used]
        aside += [name for name, _ in whole.named_buffers()]  # they are left as they are
        setattr(whole, "_ddp_params_and_buffers_to_ignore", aside)  # noqa: B010 - mypy refuses the plain form
        self._whole = DistributedDataParallel(whole, init_sync=False, gradient_as_bucket_view=True)
        self.share *= self._world.size  # torch divides by it
