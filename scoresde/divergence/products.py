"""A field together with products of its Jacobian, by backward derivatives."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from scoresde._shapes import expand
from scoresde.errors import InputError, one_line, refuse
from scoresde.evaluations import count_products

Field = Callable[[Tensor], Tensor]  # x (B, *event) to its rate of change, of each sample by itself
Product = Callable[[Tensor], Tensor]  # directions v (k, B, *event) to v J, likewise
_AT_ONCE = {"cpu": 2**16, "cuda": 2**24}  # values in one pass: on a processor they should fit into its cache


def directions_at_once(x: Tensor) -> int:
    """Directions for x (B, *event) that are taken in one pass."""
    return max(1, _AT_ONCE.get(x.device.type, 2**20) // max(x.numel(), 1))


def with_products(field: Field, x: Tensor, key: str = "divergence") -> tuple[Tensor, Product]:
    """The field (B, *event) at x, and what takes products of its Jacobian J, all from one forward pass.

    Products are v J by backward derivatives, several directions in one pass. They cost about half of J v by forward
    ones, and every operation has them. The trace is the same of both. The graph of the pass is kept until the product
    is dropped.

    Args:
        field: acts on each sample by itself.
        x: (B, *event).
        key: what needs the products, for messages.

    Raises:
        InputError: the field has no derivative, or the directions do not fit on the device; from the products too.
    """
    with torch.inference_mode(False), torch.enable_grad(), _differentiable(key), sdpa_kernel(SDPBackend.MATH):
        at = x.clone().requires_grad_()
        value = field(at)

    def product(directions: Tensor) -> Tensor:
        count_products(directions.shape[:2].numel())
        with _differentiable(key):
            return torch.cat([_backward(value, at, part) for part in torch.split(directions, directions_at_once(x))])

    return value.detach(), product


def require_derivative(field: Field, x: Tensor, direction: Tensor, key: str = "divergence") -> None:
    """Refuse a field whose network has no derivative, as after detach() or round(): torch says that it is zero.

    What is left of J is then c I, from the part of the field that is known; and x moved in a direction moves the field
    otherwise.

    Args:
        field: see `with_products`.
        x: some samples (B, *event) of at least two values.
        direction: like x.
        key: what needs the derivative, for messages.

    Raises:
        InputError: the field has no derivative.
    """
    value, product = with_products(field, x, key)
    (found,) = product(direction[None])
    square = (direction * direction).flatten(1).sum(1)
    linear = expand((direction * found).flatten(1).sum(1) / square, x) * direction
    moved = field(x + direction) - value
    lost = (found - linear).norm() <= 1e-9 * found.norm() and (moved - linear).norm() > 1e-2 * moved.norm()
    what = "its output changes with x and has no derivative, as after detach() or round()"
    refuse(bool(lost), f"{key}: it is not defined for this model; {what}")


def _backward(value: Tensor, at: Tensor, directions: Tensor) -> Tensor:
    if len(directions) == 1:
        return torch.autograd.grad(value, at, directions[0], retain_graph=True)[0][None]
    try:
        (found,) = torch.autograd.grad(value, at, directions, retain_graph=True, is_grads_batched=True)
    except (RuntimeError, NotImplementedError):  # an operation of the network takes one direction at a time
        found = torch.stack([torch.autograd.grad(value, at, v, retain_graph=True)[0] for v in directions])
    return found


@contextmanager
def _differentiable(key: str) -> Iterator[None]:
    """Turn the errors of torch into those of this package."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise InputError(
            f"{key}: its derivatives do not fit on the device; give a smaller batch_size, or fewer directions"
        ) from None
    except (RuntimeError, NotImplementedError) as error:
        why = f"torch cannot differentiate it: {one_line(error):.300}"
        raise InputError(f"{key}: it is not defined for this model; {why}") from error
