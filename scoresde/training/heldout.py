"""The loss on items that training never sees."""

import torch
from torch import Tensor

from scoresde.model import ScoreModel
from scoresde.noise import Noise, permutation
from scoresde.training.step import Loss, told_loss

_BATCHES = 32  # forward passes: about the cost of eleven training steps, whatever the data
_SEED = 0  # the same noise for every run, so that runs are compared on the same task


@torch.no_grad()
def heldout_loss(loss: Loss, model: ScoreModel, data: Tensor, batch_size: int, cond: Tensor | None = None) -> float:
    """Mean loss over 32 batches of held-out items (M, *event), with noise and noise levels that never change.

    The network is told the condition `cond` (M, ...) of each item, if there is one.

    Every item is used about equally often, each time at another level. The levels of a batch are stratified: one in
    each of `batch_size` equal parts of their density, assigned to the items by a permutation. The model is used as it
    stands; put it into evaluation mode first.
    """
    pairs, device = _BATCHES * batch_size, model.device
    # more items than pairs: evenly spaced ones; fewer: round and round
    index = torch.arange(pairs) * len(data) // pairs if len(data) > pairs else torch.arange(pairs) % len(data)
    total = torch.zeros((), dtype=torch.float64, device=device)
    for batch in range(_BATCHES):
        first = batch * batch_size
        rows = index[first : first + batch_size]
        x0, told = data[rows].to(device), None if cond is None else cond[rows].to(device)
        noise = Noise(_SEED, range(first, first + batch_size))
        strata = permutation(_SEED, "heldout", batch, batch_size)
        u = (strata + noise.uniform("heldout time", 0, batch_size)) / batch_size
        eps = noise.normal("heldout", 0, x0.shape, device)
        total += told_loss(loss, model, x0, u, eps, told).loss.sum(dtype=torch.float64)
    return total.item() / pairs
