"""Systems of a covariance that a network only approximates, solved in a small space where it can be corrected."""

from collections.abc import Callable

import torch
from torch import Tensor

from scoresde._shapes import flat

Map = Callable[[Tensor], Tensor]
Found = tuple[Tensor, Tensor, Tensor]  # V A^T u (B, *event), u^T A V A^T u (B,) and the relative residual (B,)


def whole(gain: Map, see: Map, b: Tensor, s: float) -> Found:
    """V A^T u of (A V A^T + s I) u = b, as `arnoldi`, with the whole matrix; `gain` takes directions (k, B, *seen)."""
    size = b[0].numel()
    units = torch.eye(size).to(b).reshape(-1, 1, *b.shape[1:]).expand(-1, *b.shape)
    gains = gain(units)
    matrix = torch.stack([flat(see(one)) for one in gains], 2).double()
    u, energy, _ = _solved(matrix, flat(b).double(), s, torch.finfo(b.dtype).eps)
    return torch.einsum("bm,mb...->b...", u.to(gains), gains), energy, torch.zeros_like(energy)


def arnoldi(gain: Map, see: Map, b: Tensor, s: float, steps: int, tolerance: float) -> Found:
    """V A^T u of (A V A^T + s I) u = b, for each item of a batch, in the space spanned by (A V A^T)^k b.

    A V A^T should be symmetric and positive. A network's is not, and conjugate gradients break down on that. So the
    space gets an orthonormal basis Q (Arnoldi), the symmetric part of Q^T A V A^T Q stands for the matrix, and axes on
    which it is not positive are left out: |u| <= |b| / s whatever the network. If A V A^T is what it should be,
    u is that of conjugate gradients.

    An item that has converged stays as it is, so no item depends on the others.

    Args:
        gain: directions (1, B, *seen) to V A^T of them.
        see: A, of (B, *event).
        b: (B, *seen).
        s: variance of the noise.
        steps: most steps, of one product each.
        tolerance: of the residual; an item is done there.
    """
    eps, target = torch.finfo(b.dtype).eps, flat(b).double()
    size = target.norm(dim=1)
    basis, gains = (target / size.clamp(min=1e-300)[:, None])[..., None], []
    most = min(steps, target.shape[1])
    matrix = target.new_zeros(len(b), most + 1, most + 1)
    for k in range(most):
        gains.append(gain(basis[..., k].to(b).view_as(b)[None])[0])
        image = flat(see(gains[-1])).double()[..., None]
        for _ in range(2):  # the second pass removes what rounding left
            parts = basis.mT @ image
            matrix[:, : k + 1, k] += parts[..., 0]
            image = image - basis @ parts
        beyond = image[..., 0].norm(dim=1)
        along = torch.nn.functional.pad(size[:, None], (0, k))
        u, energy, lost = _solved(matrix[:, : k + 1, : k + 1], along, s, eps)
        residual = torch.hypot(beyond * u[:, k], lost) / size.clamp(min=1e-300)
        going = (residual > tolerance) & (beyond > eps * matrix[:, : k + 1, k].norm(dim=1))
        if not going.any():
            break
        matrix[:, k + 1, k] = torch.where(going, beyond, 0.0)
        basis = torch.cat((basis, torch.where(going[:, None], image[..., 0] / beyond[:, None], 0.0)[..., None]), 2)
    return torch.einsum("bk,kb...->b...", u.to(b), torch.stack(gains)), energy, residual


def _solved(matrix: Tensor, b: Tensor, s: float, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """u (B, k) of (M + s I) u = b, u^T M u and what of b is left out, (B,); M is the positive part of a matrix."""
    values, axes = torch.linalg.eigh((matrix + matrix.mT) / 2)
    kept, b = values > eps * values[:, -1:], (axes.mT @ b[..., None])[..., 0]
    along = torch.where(kept, b / (values + s), 0.0)
    energy = torch.where(kept, values * along.square(), 0.0).sum(1)
    return (axes @ along[..., None])[..., 0], energy, torch.where(kept, 0.0, b).norm(dim=1)
