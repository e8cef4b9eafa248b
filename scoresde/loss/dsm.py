"""Denoising score matching."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from scoresde._shapes import expand, flat
from scoresde.constraints import Positive, Real, at_least, fitting
from scoresde.errors import require
from scoresde.loss.base import Batch, Loss, LossTerms
from scoresde.model import ScoreModel
from scoresde.sde import SDE

Weight = Literal["noise", "likelihood", "velocity", "edm"]
Times = Literal["uniform", "log_normal", "lambda", "levels"]
_WEIGHTS: dict[Weight, Callable[[ScoreModel, Tensor, Tensor, Tensor], Tensor | float]] = {
    "noise": lambda model, t, alpha, sigma: 1.0,
    "likelihood": lambda model, t, alpha, sigma: model.sde.g2(t) / sigma**2,
    "velocity": lambda model, t, alpha, sigma: (model.sde.g2(t) / (2 * sigma)) ** 2,
    "edm": lambda model, t, alpha, sigma: 1 + (sigma / (alpha * model.sigma_data)) ** 2,
}


@dataclass(eq=False)
class DenoisingScoreMatching(Loss[ScoreModel]):
    """Weighted denoising score matching, E_t [ w(t) |eps_hat - eps|^2 ], as a mean over dimensions.

        weight        w(t) on the error of eps
        noise         1
        likelihood    g^2 / sigma^2                              (Song et al. 2021, arXiv 2101.09258, eq. 7)
        velocity      (g^2 / (2 sigma))^2                        (Lipman et al. 2023, arXiv 2210.02747, eq. 14)
        edm           1 + (sigma / (alpha sigma_data))^2         (Karras et al. 2022, arXiv 2206.00364, eq. 7)

    `velocity` is the error of dx/dt = alpha' x0 + sigma' eps, which flow matching learns.

    The error is taken on the network's own output, where it is well scaled, and is equal to the above by
    eps_hat - eps = -(alpha c_out / sigma) (F - F_target).

    Args:
        weight: see above.
        times: density of the noise levels: `uniform` in t over [t_train, T], or `log_normal`, where
            log(sigma / alpha) ~ N(mean, std^2) cut to that range (arXiv 2206.00364, table 1), or `lambda`, uniform in
            lam over [t_train, t_start], where w is divided by the density, so that the expectation is that of uniform
            times: for the likelihood weight, to which this density is proportional, what is left is a constant (arXiv
            2101.09258, eq. 13), and the variance far smaller; or `levels`, all alike:
            those of the path, as DDPM has them (arXiv 2006.11239, algorithm 1), or a number of equal times from t_min
            to T, which on the VE path are geometric levels (Song and Ermon 2019, arXiv 1907.05600, eq. 5-6).
        stratified: sample i of a batch of B gets the i-th of B equal parts of the density, which lowers the variance
            of the loss without bias; see `scoresde.loss.levels.stratified`.
        importance: draw noise levels more often where the loss was large, with weights that keep its expectation; see
            `scoresde.loss.levels.LossHistory`.
        mean: of the log-normal density; not used by the uniform one.
        std: of the log-normal density; not used by the uniform one.
        levels: their number; None for those of the path. Not used by the other densities.

    Raises:
        InputError: an unknown weight or density, or a std that is not positive; from a call,
            `levels` on a path that has none.
    """

    weight: Weight = "noise"
    times: Times = "uniform"
    stratified: bool = True
    importance: bool = False
    mean: Real = -1.2
    std: Positive = 1.2
    levels: Annotated[int, at_least(2), fitting(16)] | None = None

    def sample_times(self, sde: SDE, u: Tensor) -> Tensor:
        """Times (B,) from uniform numbers u (B,) in [0, 1), by the inverse of the distribution function, float64."""
        u = u.to(torch.float64)
        if self.times == "uniform":
            return sde.t_train + (sde.T - sde.t_train) * u
        if self.times == "levels":
            last = (self.levels or getattr(sde, "last_level", 0) + 1) - 1
            wanted = "the path has no levels; give a number of them, levels=10, sde=discrete, or times=uniform"
            require(last > 0, "times", self.times, wanted)
            share = (u * (last + 1)).floor().clamp(max=last) / last
            return sde.t_min + (sde.t_start - sde.t_min) * share if self.levels else share.clamp(min=sde.t_train)
        if self.times == "lambda":
            low, high = lam_range(sde)
            return sde.t_of_lam(high + (low - high) * u).clamp(sde.t_train, sde.t_start)
        ends = torch.tensor([sde.t_train, sde.T], dtype=torch.float64)
        ratios = -sde.lam(ends)
        low, high = torch.special.ndtr((ratios - self.mean) / self.std).tolist()
        log_ratio = self.mean + self.std * torch.special.ndtri(low + (high - low) * u)
        log_ratio = log_ratio.clamp(*ratios.tolist())  # a density far from this range rounds to infinite values
        return sde.t_of_lam(-log_ratio).clamp(sde.t_train, sde.T)

    def range_of_lam(self, model: ScoreModel) -> tuple[float, float]:
        return lam_range(model.sde)

    def __call__(self, model: ScoreModel, batch: Batch) -> LossTerms:
        x0, eps = batch.x0, batch.eps
        t = self.sample_times(model.sde, batch.u.to(x0.device, non_blocking=True))
        alpha, sigma, lam = (torch.as_tensor(a) for a in model.levels(t))
        c = model.preconditioning(alpha, sigma, lam)
        x = expand(alpha, x0) * x0 + expand(sigma, x0) * eps
        out, _ = model.halves(x, c, batch.cond)
        target = expand((1 - c.c_skip * alpha) / c.c_out, x0) * x0 - expand(c.c_skip * sigma / c.c_out, x0) * eps
        error = flat((out - target) ** 2).mean(1)
        weight = self._weight(model, t, alpha, sigma) * (alpha * c.c_out / sigma) ** 2
        return LossTerms(weight.to(error.dtype) * error, lam)

    def _weight(self, model: ScoreModel, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor | float:
        """w(t), over the density of the times where that is `lambda`: -lam' = g^2 / (2 sigma^2) over its mean in t."""
        if self.times != "lambda":
            return _WEIGHTS[self.weight](model, t, alpha, sigma)
        low, high = lam_range(model.sde)
        mean = 2 * (high - low) / (model.sde.t_start - model.sde.t_train)  # of g^2 / sigma^2
        if self.weight == "likelihood":
            return mean
        return _WEIGHTS[self.weight](model, t, alpha, sigma) * mean * sigma**2 / model.sde.g2(t)


def lam_range(sde: SDE) -> tuple[float, float]:
    """The half log-SNR at t_start and at t_train."""
    return sde.at(sde.t_start).lam, sde.at(sde.t_train).lam
