"""A field together with products of its Jacobian, by whichever derivatives torch has of its operations."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from scoresde._shapes import expand
from scoresde.errors import InputError, one_line, refuse

Field = Callable[[Tensor], Tensor]  # x (B, *event) to its rate of change, of each sample by itself


def products(field: Field, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """The field (B, *event) at x, and products of its Jacobian J with directions (k, B, *event), in one pass.

    They are J v by forward derivatives of all directions at once, or v J by backward ones, one by one, where an
    operation of the model has no others. The trace is the same of both.

    Raises:
        InputError: the field has no derivative, or the directions do not fit on the device.
    """
    _load()
    try:
        with sdpa_kernel(SDPBackend.MATH):  # the others have no forward derivatives
            both: Any = vmap(lambda v: jvp(field, (x,), (v,)), out_dims=(None, 0))  # type: ignore[arg-type,misc]
            value, found = both(directions)
    except torch.OutOfMemoryError:
        raise InputError(
            f"divergence: {len(directions)} directions of {len(x)} samples do not fit on the device; give a smaller "
            "batch_size, or fewer directions at once"
        ) from None
    except (RuntimeError, NotImplementedError):
        value, found = _backward(field, x, directions)
    return value, found


def require_derivative(field: Field, x: Tensor, direction: Tensor) -> None:
    """Refuse a field whose network has no derivative, as after detach() or round(): torch says that it is zero.

    What is left of J is then c I, from the part of the field that is known; and x moved in a direction moves the field
    otherwise.

    Args:
        field: see `products`.
        x: some samples (B, *event) of at least two values.
        direction: like x.

    Raises:
        InputError: the field has no derivative.
    """
    value, (found,) = products(field, x, direction[None])
    square = (direction * direction).flatten(1).sum(1)
    linear = expand((direction * found).flatten(1).sum(1) / square, x) * direction
    moved = field(x + direction) - value
    lost = (found - linear).norm() <= 1e-9 * found.norm() and (moved - linear).norm() > 1e-2 * moved.norm()
    what = "its output changes with x and has no derivative, as after detach() or round()"
    refuse(bool(lost), f"divergence: it is not defined for this model; {what}")


def _backward(field: Field, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        value = field(at)
        try:
            found = [torch.autograd.grad(value, at, v, retain_graph=True)[0] for v in directions]
        except (RuntimeError, NotImplementedError) as error:
            why = f"torch cannot differentiate it: {one_line(error):.300}"
            raise InputError(f"divergence: it is not defined for this model; {why}") from error
    return value.detach(), torch.stack(found)


@cache
def _load() -> None:
    """Load what torch needs for forward derivatives, which warns of a deprecated function that it uses itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))
