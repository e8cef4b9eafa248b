"""The loss on items that training never sees."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.loss import Batch, Loss
from scoresde.model import device_of
from scoresde.noise import Noise, permutation
from scoresde.parallel import World

_BATCHES = 32  # forward passes: about the cost of eleven training steps, whatever the data
_SEED = 0  # the same noise for every run, so that runs are compared on the same task


def heldout_loss(
    loss: Loss[Any],
    model: nn.Module,
    data: Tensor,
    batch_size: int,
    conditions: Mapping[str, Tensor] | None = None,
    world: World | None = None,
) -> float:
    """Mean loss over 32 batches of held-out items (M, *event), with noise and noise levels that never change.

    Every item is used about equally often, each time at another level. The levels of a batch are stratified: one in
    each of `batch_size` equal parts of their density, assigned to the items by a permutation. The model is used as it
    is; put it into evaluation mode first.

    Args:
        loss: what is evaluated, with gradients enabled if it differentiates.
        model: what the loss takes.
        data: held-out items.
        batch_size: items in a batch.
        conditions: of the items, by name.
        world: of several processes, which share the batches.
    """
    world = world or World()
    pairs, device = _BATCHES * batch_size, device_of(model)
    # more items than pairs: evenly spaced ones; fewer: repeated
    index = torch.arange(pairs) * len(data) // pairs if len(data) > pairs else torch.arange(pairs) % len(data)
    sums = torch.zeros(-(-_BATCHES // world.size), dtype=torch.float64, device=device)
    for place, batch in enumerate(world.rows(_BATCHES)):
        first = batch * batch_size
        rows = index[first : first + batch_size]
        x0 = data[rows].to(device)
        cond = {name: values[rows].to(device) for name, values in (conditions or {}).items()}
        noise = Noise(_SEED, range(first, first + batch_size))
        strata = permutation(_SEED, "heldout", batch, batch_size)
        u = (strata + noise.uniform("heldout time", 0, batch_size)) / batch_size
        eps = noise.normal("heldout", 0, x0.shape, device)
        with torch.set_grad_enabled(loss.differentiates):
            one = loss(model, Batch(x0, u, eps, cond or None, noise))
        sums[place] = one.loss.detach().sum(dtype=torch.float64)
    total = 0.0
    for one_sum in world.gather(sums)[:_BATCHES].tolist():  # in order, and not by `sum`, which rounds less
        total += one_sum
    return total / pairs
