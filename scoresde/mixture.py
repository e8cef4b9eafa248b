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

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """`n` independent draws, (n, D), float64."""
        noise = Noise(seed)
        edges = torch.cumsum(self.weights, 0).cpu()
        k = torch.bucketize(noise.uniform("mixture", 0, n), edges[:-1], right=True).to(self.means.device)
        z = noise.normal("mixture", 1, (n, self.means.shape[1]), self.means.device, torch.float64)
        return self.means[k] + torch.einsum("bde,be->bd", self.axes[k], self.variances[k].sqrt() * z)
