"""Broadcasting of per-sample coefficients over events of any shape: the only place that knows how."""

from torch import Tensor

Coefficient = float | Tensor


def expand(c: Coefficient, x: Tensor) -> Coefficient:
    """Shape a coefficient so that it multiplies x of shape (B, *event).

    A float stays a float (no tensor is made, nothing is copied to the device). A tensor (B,) becomes (B, 1, ..., 1)
    in the dtype of x; it may be float64, since coefficients are computed in float64 and cast once, here.
    """
    if isinstance(c, float | int):
        return float(c)
    if c.ndim == 0:
        return c.to(x.dtype)
    return c.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))


def flat(x: Tensor) -> Tensor:
    """x (B, *event) as (B, D), also for events of shape ()."""
    return x.reshape(len(x), -1)
