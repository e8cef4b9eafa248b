"""Methods that take x0 given x_t as a Gaussian whose covariance is the Jacobian of the denoiser, or a multiple of I."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde._shapes import expand, flat
from scoresde.constraints import Count, NonNegativeInt, Positive
from scoresde.nets.condition import Cond
from scoresde.observation import conjugate_gradients
from scoresde.posterior.base import Method, Posterior
from scoresde.posterior.tangent import Tangent
from scoresde.progress import note

_SAID: set[object] = set()  # methods that did not converge, which is said once


@dataclass(frozen=True, repr=False)
class MMPS(Method):
    """Moment matching: x0 given x_t is taken as N(D, V), with the mean and the covariance that the denoiser D has.

        x0_hat = D + V A^T u,   (A V A^T + sigma_y^2 I) u = y - A(D),   V = (sigma^2 / alpha) J^T,   J = dD/dx_t

    V is exact for an exact score, whose J is symmetric, so Gaussian data have their exact posterior once u is solved
    for. A network's J is not symmetric: J^T, by backward derivatives of the one evaluation, is used throughout.
    Of other data the third moment is lost: where x0 given x_t has several modes, their weights are wrong.
    A nonlinear A is replaced by its tangent at D.

    Samples are 19 (10 to 36) floors away at sigma_y = 0.05 and 16 (7.4 to 37) at 0.3 from the exact posterior of
    8-D mixtures (benchmarks/posterior.py, 5 problems, n = 2,000, 95 %).

    Args:
        iterations: most conjugate-gradient steps, of one product each; 1 to 5 were published.
        tolerance: of |residual| / |y - A(D)|, at which a sample is done.
        dense: values of y up to which A V A^T is formed, by as many products in one pass, and solved with its negative
            eigenvalues, which a network can have, taken as 0; 0 always iterates.

    Rozet et al. 2024 (arXiv 2405.13712), section 4; the dense form is that of Boys et al. 2023 (arXiv 2310.06721).
    """

    iterations: Count = 50
    tolerance: Positive = 1e-4
    dense: NonNegativeInt = 16

    linear = False

    def denoised(self, asked: Posterior, x: Tensor, t: float | Tensor, cond: Cond) -> Tensor:
        x0, product = asked.with_products(x, t, cond)
        factor, left, tangent = expand(asked.covariance_factor(t), x), asked.left(x0), Tangent(asked.observation, x0)
        noise = asked.observation.sigma_y**2
        if left[0].numel() <= self.dense:
            units = torch.eye(left[0].numel()).to(left).reshape(-1, 1, *left.shape[1:]).expand(-1, *left.shape)
            gains = factor * product(torch.stack([tangent.adjoint(one) for one in units]))
            return x0 + _gained(gains, torch.stack([tangent(one) for one in gains]), left, noise)

        def gain(u: Tensor) -> Tensor:
            return factor * product(tangent.adjoint(u)[None])[0]

        def apply(u: Tensor) -> Tensor:
            return tangent(gain(u)) + noise * u

        u, residual = conjugate_gradients(apply, left, steps=self.iterations, tolerance=self.tolerance)
        worst = float(residual.max())
        if worst > self.tolerance and self not in _SAID:
            _SAID.add(self)
            steps = (
                "1 conjugate-gradient step leaves"
                if self.iterations == 1
                else f"{self.iterations} conjugate-gradient steps leave"
            )
            note(f"warning: {steps} a residual of {worst:.2g} in {self!r}; raise iterations, or tolerance")
        return x0 + gain(u)


@dataclass(frozen=True, repr=False)
class PiGDM(Method):
    """Pseudo-inverse guidance: x0 given x_t is taken as N(D, r^2 I), and its mean as D(x_t).

        x0_hat = D + (sigma^2 / alpha) J^T A^T (r^2 A A^T + sigma_y^2 I)^-1 (y - A D),   r^2 = s^2 sd^2 / (s^2 + sd^2)

    with s = sigma / alpha and J = dD/dx_t: one product for each evaluation. Exact if the data are N(m, sd^2 I).

    Samples are 31 (18 to 54) floors away at sigma_y = 0.05 and 25 (14 to 43) at 0.3 from the exact posterior of 8-D
    mixtures (benchmarks/posterior.py, 5 problems, n = 2,000, 95 %); with sigma_data = 0.25, about the spread within
    a mode, 3.1 (1.1 to 8.5) and 3.6 (1.2 to 11): a wide N(D, r^2 I) follows y too late to choose a mode by it.

    Args:
        sigma_data: sd, the standard deviation of the data; None for that of the model.

    Song et al. 2023 (Pseudoinverse-guided diffusion models for inverse problems, ICLR), eq. 7 and 8, where sd = 1.
    """

    sigma_data: Positive | None = None

    def denoised(self, asked: Posterior, x: Tensor, t: float | Tensor, cond: Cond) -> Tensor:
        x0, product = asked.with_products(x, t, cond)
        s2, sd2 = asked.noise_ratio(t), (self.sigma_data or asked.sigma_data) ** 2
        u = asked.observation.solve(asked.left(x0), s2 * sd2 / (s2 + sd2), asked.observation.sigma_y**2)
        return x0 + expand(asked.covariance_factor(t), x) * product(asked.observation.adjoint(u)[None])[0]


@dataclass(frozen=True, repr=False)
class DiffPIR(Method):
    """Plug-and-play restoration: x0_hat is the proximal point of the denoiser's D, and no derivative is taken.

        x0_hat = argmin_x |y - A x|^2 / (2 sigma_y^2) + |x - D|^2 lam / (2 s^2),   s = sigma / alpha
               = D + r A^T (r A A^T + sigma_y^2 I)^-1 (y - A D),   r = s^2 / lam

    The published share of fresh noise, zeta, is the eta of a sampler.

    Samples are 40 (20 to 80) floors away at sigma_y = 0.05 and 30 (15 to 57) at 0.3 from the exact posterior of 8-D
    mixtures (benchmarks/posterior.py, 5 problems, n = 2,000, 95 %).

    Args:
        lam: weight of the prior; 1 to 25 were published.

    Zhu et al. 2023 (arXiv 2305.08995), algorithm 1.
    """

    lam: Positive = 1.0

    def denoised(self, asked: Posterior, x: Tensor, t: float | Tensor, cond: Cond) -> Tensor:
        return asked.pulled(asked.plain(x, t, cond), asked.noise_ratio(t) / self.lam)


def _gained(gains: Tensor, seen: Tensor, b: Tensor, s: float) -> Tensor:
    """V A^T (A V A^T + s I)^-1 b (B, *event), from the columns of V A^T (M, B, *event) and A V A^T (M, B, *seen)."""
    matrix = seen.flatten(2).permute(1, 2, 0).double()
    values, axes = torch.linalg.eigh((matrix + matrix.mT) / 2)
    variance = values.clamp(min=0) + s
    along = (axes.mT @ flat(b).double()[..., None])[..., 0]
    u = axes @ torch.where(variance > 0, along / variance, 0.0)[..., None]
    return torch.einsum("bm,mb...->b...", u[..., 0].to(gains), gains)
