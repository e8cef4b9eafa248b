"""The base class of observations."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from scoresde._shapes import Coefficient, expand, flat
from scoresde.constraints import NonNegative
from scoresde.described import Described
from scoresde.errors import InputError, refuse
from scoresde.noise import Noise
from scoresde.observation.solve import conjugate_gradients

_TOLERANCE = 1e-8  # of a random pair, relative; an adjoint of another operator is off by about 1
_RANK = 1e-3  # of a random y, relative; what cannot be inverted is off by about 1
_SCALES = torch.logspace(-1, 3, 5, dtype=torch.float64)  # of items at which a derivative is looked for
_PROBED = 64  # values at each of these, at least
_DENSE = 2**22  # values of a matrix that is decomposed once, 32 MB
_CHUNK = 2**22  # values that are measured at once to find the matrix


class Observation(Described, nn.Module, ABC):
    """What is seen of an item x, with Gaussian noise.

        y = A(x) + sigma_y n,     n ~ N(0, I)

    All is in the units of whoever calls it: those of the data here, and those of a model after `in_units`. A subclass
    writes `forward`, and a linear one `adjoint`; calls `super().__init__` first and `check` last.

    Args:
        event_shape: of one item.
        sigma_y: standard deviation of the noise.

    Attributes:
        linear: whether A is; others have neither `adjoint` nor `solve`.
    """

    linear: bool = True

    def __init__(self, event_shape: Sequence[int], sigma_y: NonNegative = 0.05) -> None:
        nn.Module.__init__(self)
        self.event_shape, self.sigma_y = tuple(event_shape), float(sigma_y)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A(x): items (B, *event) to (B, *seen), row by row; differentiable, and of the type of x."""

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y: (B, *seen) to (B, *event), of the type of y.

        Raises:
            InputError: A is not linear.
        """
        raise InputError(f"observation: {type(self).__name__} has no adjoint, which this needs; take a linear one")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of an event without its channels; of one axis it has none."""
        return self.event_shape[1:] if len(self.event_shape) > 1 else self.event_shape

    @cached_property
    def seen(self) -> tuple[int, ...]:
        """The shape of one y."""
        try:
            with torch.no_grad():
                return tuple(self(torch.zeros(1, *self.event_shape, dtype=torch.float64)).shape[1:])
        except AttributeError as error:  # of which a module would make one of its own, that there is no `seen`
            raise RuntimeError(f"observation: {error}") from error

    def measure(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """A(x) + sigma_y n for items (B, *event); without noise A(x)."""
        y: Tensor = self(x)
        return y if noise is None else y + self.sigma_y * noise.normal("observation", 0, y.shape, y.device, y.dtype)

    def solve(self, v: Tensor, r: Coefficient, s: Coefficient) -> Tensor:
        """(r A A^T + s I)^-1 v for v (B, *seen), in float64, of the type of v.

        From the eigenvectors of A A^T where these are few numbers, else by conjugate gradients.

        Args:
            v: what to solve for.
            r: >= 0; a number, or one for each item, (B,).
            s: >= 0, likewise; > 0 unless A A^T has full rank.

        Raises:
            InputError: conjugate gradients did not converge, or s is 0 and A A^T has no inverse.
        """
        if isinstance(s, float | int) and s == 0:
            self.require_inverse()
        b = v.to(torch.float64)
        r, s = (expand(c.to(b) if isinstance(c, Tensor) else c, b) for c in (r, s))
        return self._solve(b, r, s).to(v.dtype)

    def require_inverse(self) -> None:
        """Raise InputError unless A A^T has an inverse."""
        culprit = "part of what is seen follows from the rest, and A A^T has no inverse"
        refuse(not self._full, f"observation: {culprit}; leave that out, or use posterior=mmps")

    def _solve(self, v: Tensor, r: Any, s: Any) -> Tensor:
        """`solve` of float64 numbers; r and s broadcast over v. Closed forms are written here."""
        if flat(v[:1]).shape[1] * self._size > _DENSE:
            out, residual = conjugate_gradients(lambda u: r * self(self.adjoint(u)) + s * u, v)
            worst = float(residual.max())
            message = f"observation: conjugate gradients stopped at a relative residual of {worst:.2g}"
            refuse(worst > _TOLERANCE, f"{message}; give a larger observation.sigma_y")
            return out
        values, vectors = (part.to(v) for part in self._spectrum)
        r, s = (flat(c) if isinstance(c, Tensor) and c.ndim > 1 else c for c in (r, s))
        found: Tensor = (flat(v) @ vectors / (r * values + s)) @ vectors.T
        return found.reshape(v.shape)

    @property
    def _size(self) -> int:
        return int(torch.Size(self.event_shape).numel())

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (M,) and eigenvectors (M, M) of A A^T."""
        a = self.matrix()
        values, vectors = torch.linalg.eigh(a @ a.T)
        return values.clamp(min=0), vectors

    @cached_property
    def _full(self) -> bool:
        """Whether A A^T has an inverse, by that of a random y."""
        y = Noise(0).normal("rank", 0, (1, *self.seen), dtype=torch.float64)
        with torch.no_grad():
            return bool((self(self.adjoint(self._solve(y, 1.0, 0.0))) - y).norm() <= _RANK * y.norm())

    @torch.no_grad()
    def matrix(self) -> Tensor:
        """A as a matrix (M, D) over flattened events, float64, for oracles and small events.

        Raises:
            InputError: A is not linear.
        """
        refuse(not self.linear, f"observation: {type(self).__name__} is not linear and has no matrix")
        basis = torch.eye(self._size, dtype=torch.float64).reshape(-1, *self.event_shape)
        return torch.cat([flat(self(part)) for part in torch.split(basis, max(1, _CHUNK // self._size))]).T

    def _check_derivative(self) -> None:
        scales = _SCALES.repeat(max(1, _PROBED // self._size))
        x = Noise(0).normal("x", 0, (len(scales), *self.event_shape), dtype=torch.float64)
        y = Noise(0).normal("y", 0, (1, *self.seen), dtype=torch.float64)
        at = x * expand(scales, x)
        refuse(not self._smooth(at), "observation: the function is not differentiable; write it in torch alone")
        with torch.enable_grad():
            seen = self(at)
            (slope,) = torch.autograd.grad(seen, at, y.to(seen).expand_as(seen), allow_unused=True)
        flat = slope is None or not bool(slope.any())
        refuse(flat, "observation: the derivative of the function is zero, as that of round(); give a smooth one")

    def check(self) -> None:
        """Raise InputError unless the adjoint is one, by a random pair: <A x, y> = <x, A^T y>.

        Others are only asked for a derivative: one that is not zero at all of some items from small to large.
        """
        x, y = (Noise(0).normal(name, 0, (1, *shape), dtype=torch.float64)
                for name, shape in (("x", self.event_shape), ("y", self.seen)))  # fmt: skip
        if not self.linear:
            return self._check_derivative()
        ax, aty = self(x), self.adjoint(y)
        shape = f"observation: the adjoint gives items of shape {tuple(aty.shape[1:])}, not {self.event_shape}"
        refuse(aty.shape != x.shape, shape)
        left, right = float((ax * y).sum()), float((x * aty).sum())
        off = abs(left - right) > _TOLERANCE * max(float(ax.norm() * y.norm()), float(x.norm() * aty.norm()))
        pair = f"<A x, y> is {left:.6g} and <x, A^T y> is {right:.6g}"
        refuse(off, f"observation: the adjoint is not one: {pair}; correct it")

    def _smooth(self, x: Tensor) -> bool:
        """Whether there is a derivative at x."""
        try:
            with torch.enable_grad():
                return bool(self(x.requires_grad_()).requires_grad)
        except RuntimeError as error:  # of numpy
            if "requires grad" in str(error):
                return False
            raise
