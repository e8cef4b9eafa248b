"""Which noise levels a batch visits: spread evenly, and more often where the loss is larger.

Both work on the numbers u in [0, 1) from which a loss takes its times, so they hold for any loss and any density of
times: equal parts of [0, 1) are equal parts of that density. Both leave the expectation of the loss as it is.
"""

import torch
from torch import Tensor

from scoresde.errors import InputError

_BINS = 64  # equal parts of the density of times
_MEMORY = 256  # the history forgets over so many items for each bin
_ENOUGH = 10  # items that a bin must have seen lately
_EVEN = 0.1  # share of items that follow the density of the loss itself; no weight exceeds its inverse


def stratified(u: Tensor) -> Tensor:
    """Number k of B is moved into the k-th of B equal parts, (k + u_k) / B, float64; u and result (B,) in [0, 1).

    The mean of f over such a batch has variance of order 1/B^3 for a smooth f, and 1/B without (Kingma et al. 2021,
    arXiv 2107.00630, app. I, share one u_k). Draw for the whole batch, then cut it into parts for the device.
    """
    u = u.to(torch.float64)
    # u beside 1 would round up to the next part
    return ((torch.arange(len(u), dtype=u.dtype, device=u.device) + u) / len(u)).clamp(max=1 - 2.0**-53)


class LossHistory:
    """Importance sampling of noise levels from the losses seen so far.

    The unit interval of u is cut into K = 64 bins. With second moments m_j of the loss in bin j over the recent past,
    the density of u, and the weight that keeps the expectation, are

        q_j = 0.9 sqrt(m_j) / mean_i sqrt(m_i) + 0.1,    w = 1 / q_j <= 10

    where sqrt(m_j) has the smallest variance of all densities (Nichol and Dhariwal 2021, arXiv 2102.09672, section 3.3,
    there for discrete times), and the constant bounds the weights. Until each bin has seen ten items, q = 1.
    Nothing here waits for the device.

    Args:
        device: where losses lie.

    Attributes:
        sums: the history, float64 (K, 2): of each bin, the number of items and the sum of their squared losses, both
            discounted by the number of all items since, with a memory of 256 items for each bin. It decides what comes,
            so it belongs in checkpoints.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.sums = torch.zeros(_BINS, 2, dtype=torch.float64, device=device)

    def density(self) -> Tensor:
        """The density q of u in each bin, (K,), of mean 1."""
        count, squares = self.sums.unbind(1)
        spread = (squares / count.clamp(min=1)).sqrt()
        q = (1 - _EVEN) * spread / spread.mean() + _EVEN
        return torch.where((count.min() >= _ENOUGH) & (spread.mean() > 0), q, 1.0)

    def draw(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers u of density q from uniform v, by the inverse of the distribution function, and their weights 1/q.

        Args:
            v: (B,) in [0, 1); where they are stratified, so is u with respect to q.

        Returns:
            u in [0, 1) and weights, float64 (B,).
        """
        q, v = self.density(), v.to(self.sums.device, torch.float64)
        ends = q.cumsum(0) / _BINS
        bins = torch.searchsorted(ends[:-1], v, right=True)
        within = (v - (ends - q / _BINS)[bins]) / q[bins]
        u = (bins / _BINS + within).clamp(0, 1 - 2.0**-53)
        return u, 1 / q[bins]

    def update(self, u: Tensor, loss: Tensor) -> None:
        """Take in the losses (B,), without weights, of a whole batch at numbers u (B,) that `draw` gave."""
        items = torch.stack([torch.ones_like(u), loss.detach().to(u.dtype) ** 2], 1)
        members = (u * _BINS).long() == torch.arange(_BINS, device=u.device)[:, None]
        # a product of matrices, since scattered additions on CUDA come in any order
        self.sums = self.sums * (1 - 1 / (_BINS * _MEMORY)) ** len(u) + members.to(u.dtype) @ items

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        return {"sums": self.sums}

    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`.

        Raises:
            InputError: it is the state of something else.
        """
        if state.keys() != {"sums"} or state["sums"].shape != self.sums.shape:
            found = {name: tuple(tensor.shape) for name, tensor in state.items()}
            raise InputError(f"checkpoint: a loss history of {found} where sums {tuple(self.sums.shape)} are expected")
        self.sums = state["sums"].to(self.sums)
