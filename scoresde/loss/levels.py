"""The noise levels of a batch: stratified, and drawn by importance.

Both act on the numbers u in [0, 1) from which a loss takes its times, so they hold for any loss and any density of
times: equal parts of [0, 1) are equal parts of that density. Both leave the expectation of the loss unchanged.
"""

import math

import torch
from torch import Tensor

_BINS = 32
_MEMORY = 128  # decay time of a bin, in items
_ENOUGH = 10  # items that each bin must have seen before u is drawn by importance
_EVEN = 0.1  # share of items drawn from the density of the loss itself; no weight exceeds its inverse


def stratified(u: Tensor) -> Tensor:
    """Number k of B is moved into the k-th of B equal parts, (k + u_k) / B, float64; u and result (B,) in [0, 1).

    The mean of f over such a batch has variance of order 1/B^3 for a smooth f, and 1/B without (Kingma et al. 2021,
    arXiv 2107.00630, app. I, share one u_k). Draw for the whole batch, then cut it into micro-batches.
    """
    u = u.to(torch.float64)
    # u beside 1 would round up to the next part
    return ((torch.arange(len(u), dtype=u.dtype, device=u.device) + u) / len(u)).clamp(max=1 - 2.0**-53)


class LossHistory:
    """Importance sampling of noise levels, from the losses seen so far.

    The unit interval of u is cut into K = 32 bins of widths p_j, narrower at the ends, where losses may grow without
    bound. With second moments m_j of the last losses in bin j, the density of u, and the weight that keeps the
    expectation, are

        q_j = 0.9 sqrt(m_j) / sum_i p_i sqrt(m_i) + 0.1,    w = 1 / q_j <= 10

    where sqrt(m_j) has the smallest variance of all densities (Nichol and Dhariwal 2021, arXiv 2102.09672, section 3.3,
    there for discrete times), and the constant bounds the weights. Until each bin has seen ten items, q = 1.
    No method waits for the device.

    Args:
        device: where losses lie.

    Attributes:
        edges: of the bins, float64 (K + 1,), (1 - cos(pi k / K)) / 2.
        sums: the history, float64 (K, 2): for each bin, the number of items and the sum of their squared losses, both
            discounted with a decay time of 128 items. Part of the state of a training.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        angles = torch.arange(_BINS + 1, dtype=torch.float64, device=device) * (math.pi / _BINS)
        self.edges = torch.sin(angles / 2) ** 2  # exact at 0, where a cosine would cancel
        self._widths = self.edges.diff()
        self.sums = torch.zeros(_BINS, 2, dtype=torch.float64, device=device)

    def density(self) -> Tensor:
        """The density q of u in each bin, (K,), of mean 1 over the unit interval."""
        count, squares = self.sums.unbind(1)
        size = (squares / count).sqrt()
        mean = (self._widths * size).sum()
        return torch.where((count.min() >= _ENOUGH) & (mean > 0), (1 - _EVEN) * size / mean + _EVEN, 1.0)

    def draw(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers u of density q from uniform v, by the inverse of the distribution function, and their weights 1/q.

        Args:
            v: (B,) in [0, 1); where they are stratified, so is u with respect to q.

        Returns:
            u in [0, 1) and weights, float64 (B,).
        """
        q, v = self.density(), v.to(self.sums.device, torch.float64, non_blocking=True)
        masses = q * self._widths
        ends = masses.cumsum(0)
        bins = torch.searchsorted(ends[:-1], v, right=True)
        u = self.edges[bins] + (v - (ends - masses)[bins]) / q[bins]
        return u.clamp(0, 1 - 2.0**-53), 1 / q[bins]

    def update(self, u: Tensor, loss: Tensor) -> None:
        """Add the losses (B,), without weights, of a whole batch at the numbers u (B,) from `draw`.

        Losses that are not finite are ignored: half precision may skip such a step, otherwise the training stops.
        """
        bins = torch.searchsorted(self.edges[1:-1], u, right=True)
        members = bins == torch.arange(_BINS, device=u.device)[:, None]
        loss = loss.detach().to(u.dtype)
        finite = torch.isfinite(loss)
        items = torch.stack([finite.to(u.dtype), torch.where(finite, loss**2, 0.0)], 1)
        new = members.to(u.dtype) @ items  # a product, since scattered additions on CUDA come in any order
        self.sums = self.sums * (1 - 1 / _MEMORY) ** new[:, :1] + new

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold to resume exactly."""
        return {"sums": self.sums}

    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.sums = state["sums"].to(self.sums)
