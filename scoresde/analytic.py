"""Models whose score is known exactly; called like a trained model."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from scoresde._shapes import Coefficient
from scoresde.errors import refuse, require
from scoresde.mixture import ArrayLike, GaussianMixture
from scoresde.model import Model
from scoresde.nets.condition import Cond
from scoresde.noise import Noise
from scoresde.prediction import Prediction
from scoresde.sde import SDE


class FiniteData(nn.Module):
    """The distribution of N given points, with equal mass on each or with weights.

        E[x_0 | x] = sum_i w_i x_i,   w = softmax(log p_i - |x - alpha x_i|^2 / (2 sigma^2))

    Args:
        points: (N, *event), N >= 1.
        weights: p (N,), not negative, and normalised to sum to one; None for equal ones.

    Raises:
        InputError: no points, or weights that are none.
    """

    def __init__(self, points: Tensor, weights: ArrayLike | None = None) -> None:
        super().__init__()
        points = torch.as_tensor(points, dtype=torch.float64)
        fine = points.ndim >= 2 and len(points) > 0
        require(fine, "points", tuple(points.shape), "give at least one point, (N, *event)")
        self.points = nn.Buffer(points)
        p = torch.as_tensor(torch.ones(len(points)) if weights is None else weights).to(points)
        fine = p.shape == points.shape[:1] and bool((p >= 0).all() & p.any())
        require(fine, "weights", tuple(p.shape), f"give {len(points)} numbers >= 0, not all zero")
        self.weights = nn.Buffer(p / p.sum())

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.points.shape[1:])

    def posterior_mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x_0 | x_t = x], shape (B, *event), float64: the ideal denoiser of this data at level (alpha, sigma)."""
        return (torch.softmax(self._logits(x, alpha, sigma), dim=-1) @ self.points.flatten(1)).reshape(x.shape)

    def posterior(
        self, observation: ArrayLike | Callable[[Tensor], Tensor], y: ArrayLike, sigma_y: float
    ) -> "FiniteData":
        """The distribution of x given y = A(x) + sigma_y n, n ~ N(0, I): the same points with other weights.

            p_i' ~ p_i exp(-|y - A(x_i)|^2 / (2 sigma_y^2))

        Args:
            observation: A, a matrix (M, values of an event) or any function of points (N, *event).
            y: what A gives for one point, with noise.
            sigma_y: standard deviation of the noise, > 0.

        Raises:
            InputError: y does not fit, or sigma_y is not positive.
        """
        require(0 < sigma_y < float("inf"), "sigma_y", sigma_y, "give a number > 0")
        if callable(observation) and not isinstance(observation, Tensor):
            seen = observation(self.points)
        else:
            seen = self.points.flatten(1) @ torch.as_tensor(observation, dtype=torch.float64).T
        y = torch.as_tensor(y, dtype=torch.float64, device=seen.device)
        require(y.shape == seen.shape[1:], "y", tuple(y.shape), f"give {tuple(seen.shape[1:])}")
        fit = -((y - seen) ** 2).flatten(1).sum(1) / (2 * sigma_y**2)
        return FiniteData(self.points, torch.softmax(self.weights.log() + fit, dim=0))

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """`n` independent draws, (n, *event), float64."""
        edges = torch.cumsum(self.weights, 0).cpu()
        chosen = torch.bucketize(Noise(seed).uniform("finite", 0, n), edges[:-1], right=True)
        return self.points[chosen.to(self.points.device)]

    def component(self, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 1.0) -> Tensor:
        """The point of the largest posterior probability given x_t = x (B, *event), int64 (B,).

        Of equal weights it is the nearest one.
        """
        return self._logits(x, alpha, sigma).argmax(dim=-1)

    def _logits(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """The log weight of each point up to a constant, (B, N)."""
        points, flat = self.points.flatten(1), x.to(torch.float64).flatten(1)
        a = torch.as_tensor(alpha, dtype=torch.float64, device=x.device).reshape(-1, 1)
        s = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).reshape(-1, 1)
        # |x - a x_i|^2 without |x|^2, which is the same for all i and drops out of the softmax
        fit = (a * (flat @ points.T) - 0.5 * a**2 * (points**2).sum(-1)) / s**2
        return fit + (self.weights / self.weights.max()).log()  # + 0, to the bit, for equal weights


class ExactModel(Model):
    """The exact score of a Gaussian mixture or of a finite data set under an SDE.

    Its prediction is the posterior mean x0 = E[x_0 | x_t = x], from which score = (alpha x0 - x) / sigma^2 is the
    gradient of the log density of x_t (Tweedie's formula). Computed in float64, returned in the dtype of x.

    Args:
        data: a `GaussianMixture`, `FiniteData`, or a tensor (N, *event) of data points.
        sde: the forward diffusion.
        variance: whether predictions have the variance of x_0 given x, of each value; of a mixture only.

    Raises:
        InputError: the variance of a finite data set.
    """

    def __init__(self, data: GaussianMixture | FiniteData | Tensor, sde: SDE, variance: bool = False) -> None:
        super().__init__(sde)
        self._variance = variance
        self.data = FiniteData(data) if isinstance(data, Tensor) else data
        self.event_shape: tuple[int, ...] = self.data.event_shape
        refuse(variance and isinstance(self.data, FiniteData), "variance: True is for mixtures; leave it out")

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        refuse(cond is not None, "cond: this exact model is unconditional; give no condition")
        require(x.shape[1:] == self.event_shape, "x", tuple(x.shape), f"this model takes (B, *{self.event_shape})")
        level = self.levels(t)
        x0 = self.data.posterior_mean(x, *level[:2]).to(x.dtype)
        variance = None
        if self._variance and isinstance(self.data, GaussianMixture):
            variance = self.data.posterior_variance(x, *level[:2]).to(x.dtype)
        return Prediction(x, x0, self.sde, t, 0.0, 1.0, variance, level)
