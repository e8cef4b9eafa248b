"""The straight path between data and noise: rectified flow, flow matching."""

import torch
from torch import Tensor

from scoresde.errors import require
from scoresde.sde.base import SDE


class RectifiedSDE(SDE):
    """Straight lines from data to noise.

        alpha = 1 - t,  sigma = t,  f = -1 / (1 - t),  g^2 = 2 t / (1 - t),  velocity = eps - x_0

    Liu et al. 2022 (arXiv 2209.03003), eq. 1 with their time reversed; Lipman et al. 2022 (arXiv 2210.02747), eq. 20-23
    with sigma_min = 0. f and g diverge at t = 1, so time ends at T < 1; at the default T = 0.999 lam(T) is -6.91. The
    prior is N(0, T^2 I).

    Args:
        T: where time ends, below 1.
        t_min: see `SDE`.
        t_train: see `SDE`.

    Raises:
        InputError: if T is not below 1.
    """

    def __init__(self, T: float = 0.999, t_min: float = 1e-3, t_train: float = 1e-5) -> None:
        super().__init__(T, t_min, t_train)
        require(T < 1, "T", T, "give a time below 1, such as 0.999: at 1 nothing is left of the data and g is infinite")

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(-lam)
