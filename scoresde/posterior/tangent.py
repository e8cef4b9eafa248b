"""Derivatives of observations."""

import torch
from torch import Tensor

from scoresde.observation import Observation


class Tangent:
    """The derivative A' of an observation at x0 (B, *event), and its adjoint; A itself if it is linear."""

    def __init__(self, observation: Observation, x0: Tensor) -> None:
        self._observation, self._x0 = observation, x0

    def __call__(self, v: Tensor) -> Tensor:
        """A' v of v (B, *event)."""
        if self._observation.linear:
            seen: Tensor = self._observation(v)
            return seen
        with torch.enable_grad():  # A' v is linear in v, so the derivative of A'^T u by u, along v
            at = self._x0.clone().requires_grad_()
            seen = self._observation(at)
            u = torch.zeros_like(seen).requires_grad_()
            (back,) = torch.autograd.grad(seen, at, u, create_graph=True)
            return torch.autograd.grad(back, u, v)[0]

    def adjoint(self, u: Tensor) -> Tensor:
        """A'^T u of u (B, *seen)."""
        if self._observation.linear:
            return self._observation.adjoint(u)
        with torch.enable_grad():
            at = self._x0.clone().requires_grad_()
            return torch.autograd.grad(self._observation(at), at, u)[0]
