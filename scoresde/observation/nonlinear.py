"""Observations that are functions: a sensor that saturates, and any of your own."""

from collections.abc import Callable, Sequence

from torch import Tensor

from scoresde.constraints import NonNegative, Positive, Real
from scoresde.errors import require
from scoresde.observation.base import Observation


class Saturate(Observation):
    """A sensor that saturates, y = clip(gain x, low, high).

    Its derivative is zero where it saturates.

    Args:
        event_shape: of one item.
        gain: of the sensor.
        low: the least that it shows.
        high: the most.
        sigma_y: standard deviation of the noise.
    """

    linear = False

    def __init__(
        self,
        event_shape: Sequence[int],
        gain: Positive = 2.0,
        low: Real = 0.0,
        high: Real = 255.0,
        sigma_y: NonNegative = 0.05,
    ) -> None:
        super().__init__(event_shape, sigma_y)
        require(low < high, "high", high, f"give a number above low = {low:g}")
        self.gain, self.low, self.high = gain, low, high

    def forward(self, x: Tensor) -> Tensor:
        return (self.gain * x).clamp(self.low, self.high)


class Custom(Observation):
    """Any differentiable function of your own; linear if its adjoint is given.

    Args:
        event_shape: of one item.
        function: A, from (B, *event) to (B, *seen), row by row, in torch.
        adjoint: A^T, from (B, *seen) to (B, *event).
        sigma_y: standard deviation of the noise.

    Raises:
        InputError: the function is not differentiable, or the adjoint is not one.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        function: Callable[[Tensor], Tensor],
        adjoint: Callable[[Tensor], Tensor] | None = None,
        sigma_y: NonNegative = 0.05,
    ) -> None:
        super().__init__(event_shape, sigma_y)
        self.function, self._adjoint, self.linear = function, adjoint, adjoint is not None
        self.check()

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return super().adjoint(y) if self._adjoint is None else self._adjoint(y)
