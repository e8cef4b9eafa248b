"""Sampling from a posterior: a model times a second distribution, which is Gaussian."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scoresde._shapes import expand, flat
from scoresde.chains.evidence import Evidence
from scoresde.constraints import Count
from scoresde.errors import InputError, require
from scoresde.model import Model
from scoresde.nets.condition import Cond
from scoresde.prediction import Prediction


class GaussianEvidence(Evidence):
    """A model multiplied with a second distribution r(x_0) = prod_i N(x_0i; y_i, s_i^2): inpainting and denoising.

        x0_r = D + V (V + S)^-1 (y - D),   D = x0_hat,   V = (sigma^2 / alpha) dD/dx,   S = diag(s^2)

    V is the covariance of x_0 given x, so that this is p(x_0 | x) r(x_0), exact on Gaussian data with any sampler that
    is. The equations are solved for the values with finite s by conjugate gradients. V as here is that of Rozet et al.
    2024 (arXiv 2405.13712). Sohl-Dickstein et al. 2015 (arXiv 1503.03585, section 2.5) multiply each reverse step with
    r of the noisy x instead: `scoresde.sampling.MultipliedSteps` with this model.

    Args:
        model: on a Gaussian path.
        mean: y, (*event), or (n, *event) for the samples in turn.
        std: s >= 0, (*event): 0 where a value is known, inf where nothing is.
        iterations: of conjugate gradients, each with one pass backwards; as many as there are finite s are enough.

    Raises:
        InputError: another kind of model, or a mean or std of another shape, NaN or negative.
    """

    def __init__(self, model: Model, mean: Tensor, std: Tensor, iterations: Count = 10) -> None:
        super().__init__(model)
        model.needs_gaussian("evidence")
        require(bool((std >= 0).all()), "std", float(std.min()), "give numbers >= 0, inf where nothing is known")
        known = torch.isfinite(std)
        finite = torch.isfinite(mean) | ~known
        require(bool(finite.all()), "mean", "not finite", "give numbers where std is finite")
        self.known: Tensor
        self.register_buffer("mean", torch.where(known, mean, 0.0))
        self.register_buffer("variance", torch.where(known, std, 0.0) ** 2)
        self.register_buffer("known", known)
        self.iterations = iterations

    def of_samples(self, rows: Tensor) -> Model:
        own = self.around(self.model.of_samples(rows))
        mean = self._buffers["mean"]
        if mean is not None and mean.ndim > self.known.ndim:
            own._buffers = {**self._buffers, "mean": mean[rows.to(mean.device) % len(mean)]}
        return own

    def _of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """y, s^2 and where s is finite, for samples x (B, *event)."""
        mean, variance, known = (self.get_buffer(name).to(x.device) for name in ("mean", "variance", "known"))
        if known.shape != x.shape[1:] or mean.shape not in (x.shape, x.shape[1:]):
            raise InputError(f"mean: {tuple(mean.shape)} for samples {tuple(x.shape[1:])}; give one for each value")
        return mean, variance, known

    def multiplied(self, first: Tensor, second: Any, power: float) -> tuple[Tensor, Any]:
        mean, variance, known = self._of(first)
        of_step = torch.as_tensor(second, dtype=first.dtype, device=first.device) ** 2 * power
        gain = torch.where(known, of_step / (of_step + variance.to(first)), 0.0)
        return torch.lerp(first, mean.to(first), gain), second * (1 - gain).sqrt()

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        mean, variance, known = self._of(x)
        alpha, sigma, _ = self.levels(t)
        with torch.inference_mode(False), torch.enable_grad():
            at = x.detach().clone().requires_grad_()
            d = self.model(at, t, cond).x0 if cond is not None else self.model(at, t).x0
            scale = expand(sigma**2 / alpha, d)

            def covariance(v: Tensor) -> Tensor:
                return torch.autograd.grad(d, at, v, retain_graph=True)[0].to(v.dtype) * scale

            x0 = d.detach()
            gap = torch.where(known, mean.to(x0) - x0, 0.0)
            v = _solve(lambda v: torch.where(known, covariance(v) + variance.to(v) * v, 0.0), gap, self.iterations)
            moved = x0 + covariance(v)
        return Prediction.of(x, self.sde, t, x0=moved.to(x.dtype))


class SmoothEvidence(Evidence):
    """A model multiplied with any smooth second distribution r(x), of the noisy x.

        score_r = score + grad log r(x)

    In `scoresde.sampling.MultipliedSteps` the mean of each step moves by its variance times grad log r at that mean
    (Sohl-Dickstein et al. 2015, arXiv 1503.03585, section 2.5.2). With r = p(class | x) this is classifier guidance.

    Args:
        model: on a Gaussian path.
        log_r: log r of samples x (B, *event), up to a constant, as (B,); differentiable.

    Raises:
        InputError: another kind of model, or a log_r of another shape.
    """

    def __init__(self, model: Model, log_r: Callable[[Tensor], Tensor]) -> None:
        super().__init__(model)
        model.needs_gaussian("evidence")
        self.log_r = log_r

    def multiplied(self, first: Tensor, second: Any, power: float) -> tuple[Tensor, Any]:
        return first + self._slope(first) * (second**2 * power), second

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        inner = self.model(x, t) if cond is None else self.model(x, t, cond)
        return Prediction.of(x, self.sde, t, score=inner.score + self._slope(x))

    def _slope(self, x: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            at = x.detach().clone().requires_grad_()
            value = self.log_r(at)
            require(value.shape == x.shape[:1], "log_r", tuple(value.shape), f"return one number a sample, ({len(x)},)")
            return torch.autograd.grad(value.sum(), at)[0]


def _solve(apply: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """The solution of apply(v) = b, each of (B, *event), by conjugate gradients for each sample."""
    v, left = torch.zeros_like(b), b
    direction, size = left, flat(left * left).sum(1)
    least = size * torch.finfo(b.dtype).eps ** 2
    for _ in range(iterations):
        image = apply(direction)
        curve = flat(direction * image).sum(1)
        active = (size > least) & (curve > 0)
        step = torch.where(active, size / torch.where(active, curve, 1.0), 0.0)
        v, left = v + expand(step, v) * direction, left - expand(step, v) * image
        new = flat(left * left).sum(1)
        direction = left + expand(torch.where(active, new / torch.where(active, size, 1.0), 0.0), v) * direction
        size = torch.where(active, new, size)
    return v
