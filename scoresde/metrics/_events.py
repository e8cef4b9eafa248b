"""What the metrics share: checked, flattened clouds of events."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from scoresde.results.metric import Quantity

UNBIASED = "unbiased: 0 on average for a perfect sampler"
# A comparison with real data whose floor is what training items reach; lower is better unless it says otherwise.
Compared = partial(Quantity, direction="lower", floor="train")
# Distances held at a time: 32 MB in float64.
_CHUNK = 2**22


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


def pair_mean(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor], distinct: bool) -> float:
    """The mean of kernel(|x_i - y_j|) over all pairs of clouds x (n, D) and y (m, D), summed in float64.

    If `distinct`, x and y are the same cloud and the pairs i = j are left out.

    Raises:
        ValueError: distinct pairs of a cloud of one point.
    """
    if distinct and len(x) < 2:
        raise ValueError("a cloud of one point has no pairs of different points")
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for part in torch.split(x, max(1, _CHUNK // len(y))):
        # differences, not the expansion of the square, whose cancellation would be felt between near points
        distances = torch.cdist(part, y, compute_mode="donot_use_mm_for_euclid_dist")
        total += kernel(distances).double().sum()
    if distinct:
        total -= len(x) * kernel(torch.zeros((), dtype=torch.float64, device=x.device))
    return float(total) / (len(x) * (len(x) - 1) if distinct else len(x) * len(y))
