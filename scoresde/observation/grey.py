"""Color images seen in grey."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoresde._shapes import expand
from scoresde.constraints import NonNegative, Real
from scoresde.errors import require
from scoresde.observation.base import Observation

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


class Grey(Observation):
    """A weighted sum of the channels, y = sum_c w_c x_c; A A^T = |w|^2 I.

    Args:
        event_shape: of one item, (channels, *sizes).
        weights: of the channels; None takes those of luma for three channels, and equal ones for others.
        sigma_y: standard deviation of the noise.

    Raises:
        InputError: items of one channel, or other than one weight for each.
    """

    def __init__(
        self, event_shape: Sequence[int], weights: Sequence[Real] | None = None, sigma_y: NonNegative = 0.05
    ) -> None:
        super().__init__(event_shape, sigma_y)
        channels = self.event_shape[0] if len(self.event_shape) > 1 else 1
        require(channels > 1, "event_shape", list(self.event_shape), "grey is for items with several channels")
        usual = _LUMA if channels == len(_LUMA) else [1 / channels] * channels
        given = list(usual if weights is None else weights)
        require(len(given) == channels and any(given), "weights", given, f"give {channels} numbers, not all zero")
        self.w = nn.Buffer(torch.tensor(given, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        weighted: Tensor = x * self._w(x)
        return weighted.sum(1, keepdim=True)

    def adjoint(self, y: Tensor) -> Tensor:
        colored: Tensor = y * self._w(y)
        return colored

    def _w(self, x: Tensor) -> Any:
        return expand(self.w.to(x), x[0])

    def _solve(self, v: Tensor, r: Any, s: Any) -> Tensor:
        found: Tensor = v / (r * self.w.square().sum().to(v) + s)
        return found
