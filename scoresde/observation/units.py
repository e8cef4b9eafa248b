"""Observations in the units of a model."""

from typing import Any

import torch
from torch import Tensor, nn

from scoresde.data import Transform
from scoresde.errors import require
from scoresde.observation.base import Observation


class InUnits(Observation):
    """An observation of data, seen from the units of a model, x_data = S x + m.

        y_data = A(S x + m) + sigma_y n
        y = (y_data - A(m)) / c = A(S x / c) + (sigma_y / c) n      if A is linear
        y = y_data / c = A(S x + m) / c + (sigma_y / c) n           otherwise

    c is one number: the scale of the data, or the root mean square of the scales of its features. So A is the same in
    both units where the features have one scale, as images have.

    Args:
        observation: in data units.
        transform: of the data.

    Raises:
        InputError: the observation is of items of another shape, or its adjoint is not one.
    """

    def __init__(self, observation: Observation, transform: Transform) -> None:
        scale, mean = (torch.as_tensor(value, dtype=torch.float64) for value in (transform.scale, transform.mean))
        self._c = float(scale.square().mean().sqrt())
        super().__init__(observation.event_shape, observation.sigma_y / self._c)
        self.observation, self.linear = observation, observation.linear
        self._even = bool((scale == scale.reshape(-1)[0]).all())
        shapes = (transform.event_shape, observation.event_shape)
        require(shapes[0] == shapes[1], "observation.event_shape", list(shapes[1]), f"the data have {list(shapes[0])}")
        self.scale, self.mean = (nn.Buffer(self._feature(value)) for value in (scale, mean))
        self.check()

    def _feature(self, value: Tensor) -> Tensor:
        return value.reshape(self.event_shape) if value.ndim else value.expand(self.event_shape).clone()

    def encode(self, y: Tensor) -> Tensor:
        """What was measured in data units, (B, *seen), in those of the model."""
        out = y.to(torch.float64)
        if self.linear:
            out = out - self.observation(self.mean[None].to(out))
        return (out / self._c).to(y.dtype if y.is_floating_point() else torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        if self.linear:
            y: Tensor = self.observation(x if self._even else x * (self.scale / self._c).to(x))
        else:
            y = self.observation(x * self.scale.to(x) + self.mean.to(x)) / self._c
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        x = self.observation.adjoint(y)
        return x if self._even else x * (self.scale / self._c).to(x)

    def _solve(self, v: Tensor, r: Any, s: Any) -> Tensor:
        return self.observation._solve(v, r, s) if self._even else super()._solve(v, r, s)


def in_units(observation: Observation, transform: Transform) -> InUnits:
    """The observation of data in the units of a model, see `InUnits`; its `encode` takes measurements there."""
    return InUnits(observation, transform)
