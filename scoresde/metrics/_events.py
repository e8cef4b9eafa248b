"""What the metrics share: checked, flattened clouds of events, and how a quantity is declared."""

from functools import partial

import torch
from torch import Tensor

from scoresde.results.metric import Quantity

UNBIASED = "unbiased: 0 on average for a perfect sampler"
# A comparison with real data whose floor is what training items reach; lower is better unless it says otherwise.
Compared = partial(Quantity, direction="lower", floor="train")


def flat_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two clouds (n, *event) and (m, *event) as matrices of one floating type on the device of x.

    Raises:
        ValueError: a cloud is empty, or the events differ in shape.
    """
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(f"events of shape {tuple(x.shape[1:])} and {tuple(y.shape[1:])} cannot be compared")
    if not len(x) or not len(y):
        raise ValueError(f"an empty cloud cannot be compared: {len(x)} and {len(y)} items")
    kind = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return x.detach().reshape(len(x), -1).to(kind), y.detach().reshape(len(y), -1).to(x.device, kind)
