"""Models whose score is known exactly; called like a trained model."""

import torch
from torch import Tensor, nn

from scoresde._shapes import Coefficient
from scoresde.errors import refuse, require
from scoresde.mixture import GaussianMixture
from scoresde.model import Model
from scoresde.nets.condition import Cond
from scoresde.prediction import Prediction
from scoresde.sde import SDE


class FiniteData(nn.Module):
    """The distribution that puts equal mass on each of N given points.

        E[x_0 | x] = sum_i w_i x_i,   w = softmax(-|x - alpha x_i|^2 / (2 sigma^2))

    Args:
        points: (N, *event), N >= 1.
    """

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        points = torch.as_tensor(points, dtype=torch.float64)
        fine = points.ndim >= 2 and len(points) > 0
        require(fine, "points", tuple(points.shape), "give at least one point, (N, *event)")
        self.points: Tensor
        self.register_buffer("points", points)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.points.shape[1:])

    def posterior_mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x_0 | x_t = x], shape (B, *event), float64: the ideal denoiser of this data at level (alpha, sigma)."""
        return (torch.softmax(self._logits(x, alpha, sigma), dim=-1) @ self.points.flatten(1)).reshape(x.shape)

    def component(self, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 1.0) -> Tensor:
        """The point of the largest posterior probability given x_t = x (B, *event), int64 (B,): the nearest one."""
        return self._logits(x, alpha, sigma).argmax(dim=-1)

    def _logits(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """The log weight of each point up to a constant, (B, N)."""
        points, flat = self.points.flatten(1), x.to(torch.float64).flatten(1)
        a = torch.as_tensor(alpha, dtype=torch.float64, device=x.device).reshape(-1, 1)
        s = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).reshape(-1, 1)
        # |x - a x_i|^2 without |x|^2, which is the same for all i and drops out of the softmax
        return (a * (flat @ points.T) - 0.5 * a**2 * (points**2).sum(-1)) / s**2


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
