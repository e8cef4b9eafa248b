"""A field together with products of its Jacobian, by whichever derivatives torch has of its operations."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from scoresde.errors import InputError, one_line

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
    if not found.any() and not torch.equal(field(x + directions[0]), value):
        raise InputError(
            "divergence: it is not defined for this model; its output changes with x and has no derivative, as after "
            "detach() or round()"
        )
    return value, found


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
