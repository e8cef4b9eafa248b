"""What a solver interpolates and in which variable, as functions of lam alone, so that they serve every SDE.

Replace eps in the reverse process of noise level eta (`scoresde.dynamics`) by the interpolated quantity P, and take lam
as time. The equation splits into a linear part, which is solved exactly, and a part in P; with k = 1 + eta^2,

    x_s = Phi x_t + alpha_s int k (n_s/n)^k q P dlam + std z,      Phi = (alpha_s / alpha_t) (n_s / n_t)^k
    std^2 = 2 eta^2 alpha_s^2 int (n_s/n)^{2k} (sigma/alpha)^2 dlam

where the integrals run from lam_t up to lam_s, r = sigma / alpha, and

    P            as x0, eps                     n               q
    x0           x0                             r               1
    eps          eps                            1               -r
    v            (alpha eps - sigma x0)/rho     sqrt(1 + r^2)   -r / sqrt(1 + r^2)      rho^2 = alpha^2 + sigma^2
    velocity     eps - x0                       1 + r           -r / (1 + r)

At eta = 0 this is dy = P dq' with y = x / (alpha n) and q' = 1/r, r, atan(r) and r / (1 + r): no linear part is left.
So v and velocity here are those of the variance-preserving and of the rectified path through the same signal-to-noise
ratios, whatever the SDE.
"""

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from scoresde._shapes import Coefficient
from scoresde.sde import SDE

Quantity = Literal["x0", "eps", "v", "velocity"]
Variable = Literal["lambda", "ratio", "noise_share", "angle", "time"]
_NODES = 32
_SMOOTH = 12.0  # an exponential over so many units is integrated to rounding by the nodes of one panel


def parts(quantity: Quantity, alpha: Coefficient, sigma: Coefficient) -> tuple[Coefficient, Coefficient]:
    """(a, b) of P = a x0 + b eps at a level."""
    rho = (alpha**2 + sigma**2) ** 0.5
    return {"x0": (1.0, 0.0), "eps": (0.0, 1.0), "v": (-sigma / rho, alpha / rho), "velocity": (-1.0, 1.0)}[quantity]


# log n and q of the table above, at lam
_LOG_N: dict[Quantity, Callable[[Tensor], Tensor]] = {
    "x0": torch.neg,
    "eps": torch.zeros_like,
    "v": lambda lam: 0.5 * softplus(-2 * lam),
    "velocity": lambda lam: softplus(-lam),
}
_Q: dict[Quantity, Callable[[Tensor], Tensor]] = {
    "x0": torch.ones_like,
    "eps": lambda lam: -torch.exp(-lam),
    "v": lambda lam: -torch.rsqrt(1 + torch.exp(2 * lam)),
    "velocity": lambda lam: -torch.sigmoid(-lam),
}


def variable(name: Variable, sde: SDE, lam: Tensor) -> Tensor:
    """The variable in which polynomials are written, at lam."""
    return sde.t_of_lam(lam) if name == "time" else _OF_LAM[name][0](lam)


def time_of(name: Variable, sde: SDE, value: Tensor) -> Tensor:
    """The time at which the variable has some value."""
    return value if name == "time" else sde.t_of_lam(_OF_LAM[name][1](value))


# each variable as a function of lam, and lam as a function of it
_OF_LAM: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "lambda": (lambda lam: lam, lambda value: value),
    "ratio": (lambda lam: torch.exp(-lam), lambda ratio: -torch.log(ratio)),
    "noise_share": (lambda lam: torch.sigmoid(-lam), lambda share: torch.log1p(-share) - torch.log(share)),
    "angle": (lambda lam: torch.atan(torch.exp(-lam)), lambda angle: -torch.log(torch.tan(angle))),
}


@cache
def _gauss_legendre(panels: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1], composed of equal panels."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    u = (np.arange(panels)[:, None] + (nodes + 1) / 2) / panels
    return torch.from_numpy(u.ravel()), torch.from_numpy(np.tile(weights / 2 / panels, panels))


def basis(at: Tensor, nodes: Tensor) -> Tensor:
    """Lagrange's basis polynomials (M, p, Q) of M sets of nodes (M, p), at points (M, Q)."""
    columns = []
    for j in range(nodes.shape[1]):
        others = nodes[:, torch.arange(nodes.shape[1]) != j, None]
        columns.append(((at[:, None] - others) / (nodes[:, j, None, None] - others)).prod(1))
    return torch.stack(columns, dim=1)


class Kernel:
    """The exponential kernel of N steps between levels, ready to integrate polynomials; all float64 on the host.

    Args:
        quantity: what is interpolated.
        alpha: of the first (N,) and last (N,) level of each step, as a pair.
        lam: likewise.
        eta: noise level of each step (N,).

    Attributes:
        h, k: step in lam, and 1 + eta^2, of each step (N,).
        lam: quadrature nodes (N, Q).
        weights: of P at the nodes (N, Q), kernel and scale included.
        decay: factor Phi of x (N,).
        std: standard deviation of the noise (N,).
    """

    def __init__(
        self, quantity: Quantity, alpha: tuple[Tensor, Tensor], lam: tuple[Tensor, Tensor], eta: Tensor
    ) -> None:
        h, k = lam[1] - lam[0], 1 + eta**2
        self.quantity, self.h, self.k = quantity, h, k
        steepest = float((k * h).abs().amax()) if len(h) else 0.0
        self.u, du = (v.to(h.device) for v in _gauss_legendre(1 + int(steepest / _SMOOTH)))
        self.lam = lam[0][:, None] + h[:, None] * self.u
        log_n = _LOG_N[quantity]
        last = log_n(lam[1])[:, None]
        kernel = torch.exp(k[:, None] * (last - log_n(self.lam)))
        width = h[:, None] * du
        self.weights = (k * alpha[1])[:, None] * kernel * _Q[quantity](self.lam) * width
        self.decay = alpha[1] / alpha[0] * torch.exp(k * (last[:, 0] - log_n(lam[0])))
        variance = (kernel**2 * torch.exp(-2 * self.lam) * width).sum(1)
        self.std = eta * alpha[1] * (2 * variance.clamp(min=0)).sqrt()  # rising steps have none

    def moment(self, power: int) -> Tensor:
        """The weight of ((lam - lam_t) / h)^power, (N,)."""
        return (self.weights * self.u**power).sum(1)

    def lagrange(self, at: Tensor, nodes: Tensor, rows: Tensor) -> Tensor:
        """Weights of P at p nodes, if it is the polynomial through them.

        Args:
            at: the variable of the polynomials at the quadrature nodes of all steps (N, Q).
            nodes: that variable where P is known, (M, p).
            rows: which M of the N steps.
        """
        return (self.weights[rows, None] * basis(at[rows], nodes)).sum(2)
