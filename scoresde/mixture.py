"""Gaussian mixtures with full covariances: densities and posterior means that need no learning."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoresde._shapes import Coefficient
from scoresde.errors import InputError, require
from scoresde.noise import Noise

ArrayLike = Tensor | Sequence[Any]


def _column(c: Coefficient, x: Tensor) -> Tensor:
    """A level as (B or 1, 1, 1), for arithmetic over samples, components and dimensions."""
    return torch.as_tensor(c, dtype=torch.float64, device=x.device).reshape(-1, 1, 1)


def _float64(values: Any) -> Tensor:
    """A tensor, nested numbers, or a list of tensors of one shape, as one tensor."""
    if isinstance(values, list | tuple) and len(values) > 0 and isinstance(values[0], Tensor):
        values = torch.stack(list(values))
    return torch.as_tensor(values, dtype=torch.float64)


class GaussianMixture(nn.Module):
    """A mixture of K Gaussians in D dimensions, p(x) = sum_k w_k N(x; m_k, C_k).

    Under x_t = alpha x_0 + sigma eps it stays a mixture, with means alpha m_k and covariances alpha^2 C_k + sigma^2 I.
    All computations are in float64. Arguments are tensors, nested lists of numbers, or lists of tensors.

    Args:
        weights: (K,), positive; they are normalised to sum to one.
        means: (K, D).
        covariances: (K, D, D), symmetric and positive semi-definite.

    Raises:
        InputError: if shapes do not fit or a covariance is not symmetric positive semi-definite.
    """

    def __init__(self, weights: ArrayLike, means: ArrayLike, covariances: ArrayLike) -> None:
        super().__init__()
        weights, means, covariances = _float64(weights), _float64(means), _float64(covariances)
        if means.ndim != 2 or weights.shape != means.shape[:1] or covariances.shape != (*means.shape, means.shape[1]):
            shapes = [tuple(a.shape) for a in (weights, means, covariances)]
            raise InputError(
                f"GaussianMixture: shapes {shapes} do not fit; give weights (K,), means (K, D), covariances (K, D, D)"
            )
        require(bool((weights > 0).all()), "weights", weights.tolist(), "give positive weights")
        require(torch.allclose(covariances, covariances.mT), "covariances", "a matrix", "give symmetric matrices")
        variances, axes = torch.linalg.eigh(covariances)
        floor = -1e-10 * variances.abs().amax()
        require(bool((variances >= floor).all()), "covariances", variances.min().item(), "eigenvalues must be >= 0")
        self.weights, self.means = nn.Buffer(weights / weights.sum()), nn.Buffer(means)
        # variances (K, D) along the columns of axes (K, D, D)
        self.variances, self.axes = nn.Buffer(variances.clamp(min=0)), nn.Buffer(axes)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.means.shape[1],)

    def _components(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> tuple[Tensor, Tensor, Tensor]:
        """Log joint density (B, K), and offset and variance of x along each component's axes, (B, K, D)."""
        a, s = _column(alpha, x), _column(sigma, x)
        offset = torch.einsum("bkd,kde->bke", x.to(torch.float64)[:, None] - a * self.means, self.axes)
        variance = a**2 * self.variances + s**2
        log_density = -0.5 * (offset**2 / variance + torch.log(2 * torch.pi * variance)).sum(-1)
        return log_density + torch.log(self.weights), offset, variance

    def log_prob(self, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 0.0) -> Tensor:
        """Log density in nats of x_t = alpha x_0 + sigma eps, shape (B,), float64, for x (B, D)."""
        return torch.logsumexp(self._components(x, alpha, sigma)[0], dim=-1)

    def component(self, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 0.0) -> Tensor:
        """The component of the largest posterior probability given x_t = x (B, D), int64 (B,)."""
        return self._components(x, alpha, sigma)[0].argmax(dim=-1)

    def posterior_mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x_0 | x_t = x], shape (B, D), float64: the ideal denoiser at level (alpha, sigma)."""
        return torch.einsum("bk,bkd->bd", *self._posterior(x, alpha, sigma)[:2])

    def posterior_variance(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """The variance of each value of x_0 given x_t = x, shape (B, D), float64."""
        weights, means, left = self._posterior(x, alpha, sigma)
        within = torch.einsum("kde,bke->bkd", self.axes**2, left)
        between = (means - torch.einsum("bk,bkd->bd", weights, means)[:, None]) ** 2
        return torch.einsum("bk,bkd->bd", weights, within + between)

    def _posterior(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> tuple[Tensor, Tensor, Tensor]:
        """Of x_0 given x: weights (B, K), means (B, K, D) and variances along the axes (B, K, D)."""
        joint, offset, variance = self._components(x, alpha, sigma)
        gain = _column(alpha, x) * self.variances / variance
        means = self.means + torch.einsum("bke,kde->bkd", gain * offset, self.axes)
        left = self.variances * _column(sigma, x) ** 2 / variance
        return torch.softmax(joint, dim=-1), means, left

    def observed(self, matrix: ArrayLike, sigma_y: float) -> "GaussianMixture":
        """The mixture of y = A x + sigma_y n, n ~ N(0, I): its log density is the log evidence of an observation.

        Args:
            matrix: A (M, D).
            sigma_y: standard deviation of the noise, >= 0.

        Raises:
            InputError: A does not fit, or sigma_y is negative.
        """
        a = _float64(matrix).to(self.means.device)
        fine = a.ndim == 2 and a.shape[1] == self.means.shape[1]
        require(fine, "matrix", tuple(a.shape), f"give (M, {self.means.shape[1]})")
        require(0 <= sigma_y < float("inf"), "sigma_y", sigma_y, "give a number >= 0")
        noise = sigma_y**2 * torch.eye(len(a), dtype=a.dtype, device=a.device)
        return GaussianMixture(self.weights, self.means @ a.T, a @ self._covariances() @ a.T + noise)

    def posterior(self, matrix: ArrayLike, y: ArrayLike, sigma_y: float) -> "GaussianMixture":
        """The mixture of x given y = A x + sigma_y n, n ~ N(0, I), in closed form.

            w_k' ~ w_k N(y; A m_k, S_k),   m_k' = m_k + G_k (y - A m_k),   C_k' = (I - G_k A) C_k,
            S_k = A C_k A^T + sigma_y^2 I,   G_k = C_k A^T S_k^-1

        `ExactModel(mixture.posterior(...), sde)` is the denoiser E[x_0 | x_t, y] without error. A weight that float64
        cannot hold stays at the smallest number that it can.

        Args:
            matrix: A (M, D).
            y: the observation (M,).
            sigma_y: standard deviation of the noise, >= 0; with 0 every S_k must be invertible.

        Raises:
            InputError: A or y does not fit, sigma_y is negative, or an S_k is singular to float64.

        Sorenson and Alspach 1971, Recursive Bayesian estimation using Gaussian sums, Automatica 7, of one step.
        """
        seen, device = self.observed(matrix, sigma_y), self.means.device
        a, y = _float64(matrix).to(device), _float64(y).to(device)
        require(y.shape == a.shape[:1], "y", tuple(y.shape), f"give one number for each row of A, ({len(a)},)")
        singular = bool((seen.variances <= 1e-12 * seen.variances.amax(1, keepdim=True)).any())
        require(not singular, "sigma_y", sigma_y, "A C A^T + sigma_y^2 I is singular; give a larger sigma_y")
        joint = seen._components(y[None], 1.0, 0.0)[0]
        covariances = self._covariances()
        gain = covariances @ a.T @ seen.axes / seen.variances[:, None] @ seen.axes.mT  # (K, D, M)
        means = self.means + torch.einsum("kdm,km->kd", gain, y - seen.means)
        # Joseph's form: positive semi-definite whatever the rounding
        kept = torch.eye(self.means.shape[1], dtype=a.dtype, device=device) - gain @ a
        left = kept @ covariances @ kept.mT + sigma_y**2 * gain @ gain.mT
        weights = torch.softmax(joint[0], dim=0).clamp(min=torch.finfo(torch.float64).tiny)
        return GaussianMixture(weights, means, (left + left.mT) / 2)

    def _covariances(self) -> Tensor:
        return self.axes * self.variances[:, None] @ self.axes.mT

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """`n` independent draws, (n, D), float64."""
        noise = Noise(seed)
        edges = torch.cumsum(self.weights, 0).cpu()
        k = torch.bucketize(noise.uniform("mixture", 0, n), edges[:-1], right=True).to(self.means.device)
        z = noise.normal("mixture", 1, (n, self.means.shape[1]), self.means.device, torch.float64)
        return self.means[k] + torch.einsum("bde,be->bd", self.axes[k], self.variances[k].sqrt() * z)
