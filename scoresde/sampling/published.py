"""Weights of multistep rules as they were published, where these differ from the exact integrals.

They are here to repeat other libraries step for step. In terms of the exact weights M_l of ((lam - lam_t) / h)^l, of
divided differences D1, D2 of P and of r = h / (step before):

    weights         differs from exact in
    dpmpp           order 2: M_0 / 2 in place of M_1 (Lu et al. 2022, arXiv 2211.01095, algorithm 2, eq. 4.1)
                    order 3: half of the quadratic term, so that it is of order 2 (ibid., algorithm of the 3M solver)
    unipc_bh1       two values: B / 2 in place of M_1, with B = h (Zhao et al. 2023, arXiv 2302.04867, section 3.3);
                    for x0 with noise B = (1 + eta^2) h (code of SA-Solver; Xue et al. 2023, arXiv 2309.05019)
    unipc_bh2       two values: B / 2 in place of M_1, with B = M_0, the first integral of the exponential (ibid.)
    constant_step   the Adams-Bashforth numbers of equal steps, whatever the steps (iPNDM; arXiv 2204.13902, app.)
"""

from typing import Literal

import torch
from torch import Tensor

from scoresde.sampling.coordinates import Kernel

Weights = Literal["exact", "dpmpp", "unipc_bh1", "unipc_bh2", "constant_step"]
_ADAMS_BASHFORTH = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def _half_b(kind: Weights, kernel: Kernel, rows: Tensor) -> Tensor:
    """The replacement of M_1 in the published rules with two values."""
    m0 = kernel.moment(0)[rows]
    if kind != "unipc_bh1":
        return m0 / 2
    # M_0 holds the integral of an exponential, e^u for eps and e^-ku for x0: put its range in its place
    h, k = kernel.h[rows], kernel.k[rows]
    return m0 / 2 * (h / torch.expm1(h) if kernel.quantity == "eps" else k * h / -torch.expm1(-k * h))


def predictor(kind: Weights, kernel: Kernel, lam: Tensor, rows: Tensor) -> Tensor | None:
    """Weights (M, p) of a prediction from values at lam (M, p), the newest first; None if they are exact."""
    p = lam.shape[1]
    m0, h = kernel.moment(0)[rows], kernel.h[rows]
    if kind == "constant_step":
        return m0[:, None] * torch.tensor(_ADAMS_BASHFORTH[p], dtype=torch.float64)
    if p == 2 and kind != "exact":
        slope = _half_b(kind, kernel, rows) * h / (lam[:, 0] - lam[:, 1])
        return torch.stack((m0 + slope, -slope), dim=1)
    if p == 3 and kind == "dpmpp":
        return _halved_quadratic(kernel, lam, rows)
    return None


def corrector(kind: Weights, kernel: Kernel, lam: Tensor, rows: Tensor) -> Tensor | None:
    """The same for a correction; lam (M, p) begins with the level that the step led to."""
    if lam.shape[1] != 2 or kind not in ("unipc_bh1", "unipc_bh2"):
        return None
    m0, half = kernel.moment(0)[rows], _half_b(kind, kernel, rows)
    return torch.stack((half, m0 - half), dim=1)


def _halved_quadratic(kernel: Kernel, lam: Tensor, rows: Tensor) -> Tensor:
    """Order 3 with values P0, P1, P2: M_0 P0 + M_1 D1 + (M_2 / 2) D2."""
    h = kernel.h[rows]
    r0, r1 = (lam[:, 0] - lam[:, 1]) / h, (lam[:, 1] - lam[:, 2]) / h
    m0, m1, half_m2 = kernel.moment(0)[rows], kernel.moment(1)[rows], kernel.moment(2)[rows] / 2
    # first differences are (P0 - P1) / r0 and (P1 - P2) / r1; D1 and D2 combine them
    first = m1 * (1 + r0 / (r0 + r1)) + half_m2 / (r0 + r1)
    second = -m1 * r0 / (r0 + r1) - half_m2 / (r0 + r1)
    return torch.stack((m0 + first / r0, -first / r0 + second / r1, -second / r1), dim=1)
